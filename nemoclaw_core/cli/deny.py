"""``nemoclaw deny``: refuse what waits for an operator."""

from __future__ import annotations

from ..names import check_name
from . import answering
from .arguments import Parser


def main(argv: list[str]) -> int:
    """Refuse what a question is about."""
    parser = Parser(
        "nemoclaw deny",
        description="Refuse what is held in a running sandbox. Who waits for it is told at once.",
    )
    parser.add_argument("sandbox")
    parser.add_argument(
        "id", nargs="?", help="as `nemoclaw pending` lists it; default: the only one"
    )
    parser.add_argument(
        "--for",
        dest="scope",
        choices=("once", "sandbox"),
        default="once",
        help="once: what waits now, the default; sandbox: nobody is asked again until it ends",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    given = parser.parse_args(argv)
    name = check_name(given.sandbox)
    question = answering.find(name, given.id, guess=True)
    question = answering.give(name, question, allow=False, scope=given.scope)
    answering.tell(question, "denied", given.scope, as_json=given.json)
    return 0
