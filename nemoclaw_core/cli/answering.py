"""What ``approve`` and ``deny`` have in common: which question is meant, and the answer to it."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from nemoclaw_hookspecs.errors import UsageError

from ..events.text import printable
from ..supervisor import client
from .pending import ask, table

if TYPE_CHECKING:
    from ..egress.questions import Question


def find(name: str, number: str | None, *, guess: bool) -> Question:
    """The question that is meant.

    :param number: its number, also of one that nobody waits for any more.
    :param guess: without a number, the only one that is open is meant. Not for what lets something
        go on: an agent can take one question back, and ask another, while the operator types.
    :raises UsageError: there is none, or there are several.
    """
    if number is not None:
        for question in ask(name, everything=True):
            if question.id == number:
                return question
        raise UsageError(
            f"there is no question {number!r} in {name}",
            remedy=f"`nemoclaw pending {name}` lists those that are open",
        )
    questions = ask(name)
    if guess and len(questions) == 1:
        return questions[0]
    if not questions:
        remedy = f"`nemoclaw pending {name} --all` lists what nobody waits for any more"
        raise UsageError(f"nothing waits for an answer in {name}", remedy=remedy)
    sys.stderr.write(f"{table(questions)}\n")
    several = "1 question waits" if len(questions) == 1 else f"{len(questions)} questions wait"
    raise UsageError(f"{several} for an answer in {name}", remedy="name it by its ID")


def give(name: str, question: Question, *, allow: bool, scope: str) -> Question:
    """Answer a question. The question is returned as it was.

    :raises UsageError: it cannot be answered so.
    """
    from ..egress.questions import read_question

    request = {"request": "answer", "id": question.id, "allow": allow, "scope": scope}
    return read_question(client.request(name, request)["question"])


def tell(question: Question, what: str, scope: str, *, as_json: bool) -> None:
    """Say what was answered."""
    if as_json:
        print(json.dumps({**question.as_dict(), "answer": what, "for": scope}))
        return
    how = {"once": "once", "sandbox": "until the sandbox ends", "policy": "by the policy"}[scope]
    sys.stderr.write(printable(f"nemoclaw: {question.sandbox}: {question.what} is {what} {how}"))
    sys.stderr.write("\n")
