"""``nemoclaw pending``: what waits for an operator."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from ..events.text import printable
from ..names import check_name
from ..supervisor import client
from .arguments import Parser

if TYPE_CHECKING:
    from ..egress.questions import Question


def main(argv: list[str]) -> int:
    """Print one line, or one JSON object, a question."""
    parser = Parser(
        "nemoclaw pending",
        description="List what is held in a running sandbox until `nemoclaw approve` or `nemoclaw "
        "deny` says what becomes of it, the oldest first.",
    )
    parser.add_argument("sandbox")
    parser.add_argument(
        "-a",
        "--all",
        action="store_true",
        help="also what nobody waits for any more, and what was answered for the sandbox",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    given = parser.parse_args(argv)
    questions = ask(check_name(given.sandbox), everything=given.all)
    if given.json:
        for question in questions:
            print(json.dumps(question.as_dict()))
    elif questions:
        print(table(questions))
    else:
        sys.stderr.write(f"nemoclaw: nothing waits for an answer in {given.sandbox}\n")
    return 0


def ask(name: str, *, everything: bool = False) -> list[Question]:
    """The open questions of a sandbox.

    :raises NemoclawError: it does not answer.
    """
    from ..egress.questions import read_question

    answer = client.request(name, {"request": "pending", "everything": everything})
    return [read_question(each) for each in answer["questions"]]


def table(questions: list[Question]) -> str:
    """One line a question."""
    rows = [("ID", "WAITING", "LEFT", "WHAT", "WHO", "WHY")]
    for each in questions:
        state = each.answer or (f"{each.remaining:.0f}s" if each.waiting else "-")
        why = each.reason if each.asker == "policy" else f"{each.asker}: {each.reason}"
        rows.append((each.id, str(each.waiting), state, each.what, each.who or "-", why))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(f"{c:<{w}}" for c, w in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(printable(line.rstrip()) for line in lines)
