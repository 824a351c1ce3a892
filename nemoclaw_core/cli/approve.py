"""``nemoclaw approve``: let go on what waits for an operator."""

from __future__ import annotations

import sys

from ..events.text import printable
from ..names import check_name
from . import answering
from .arguments import Parser

SCOPES = ("once", "sandbox", "policy")


def main(argv: list[str]) -> int:
    """Let what a question is about go on."""
    parser = Parser(
        "nemoclaw approve",
        description="Let go on what is held in a running sandbox: that host and port, no other. "
        "What the policy denies cannot be approved, and is not asked.",
    )
    parser.add_argument("sandbox")
    parser.add_argument(
        "id", nargs="?", help="as `nemoclaw pending` lists it; without one, that is shown"
    )
    parser.add_argument(
        "--for",
        dest="scope",
        choices=SCOPES,
        default="once",
        help="once: what waits now, the default; sandbox: until it ends; policy: write a rule into "
        "the policy file that the sandbox was started with, and put it in force",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    given = parser.parse_args(argv)
    name = check_name(given.sandbox)
    question = answering.find(name, given.id, guess=False)
    if given.scope == "policy":
        from .approved import write_rule

        told = write_rule(name, question)
        if not given.json:
            sys.stderr.write(f"nemoclaw: {printable(told)}\n")
    else:
        question = answering.give(name, question, allow=True, scope=given.scope)
    answering.tell(question, "allowed", given.scope, as_json=given.json)
    return 0
