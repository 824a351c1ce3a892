"""What the operator's side asks of a gate: what is held, and what becomes of it.

From any thread but the gate's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nemoclaw_hookspecs.errors import UsageError

from ..supervisor.gates import GATES

if TYPE_CHECKING:
    from ..supervisor.gates import Gate
    from .questions import Answer, Question


def questions(gate: Gate, *, everything: bool = False) -> list[Question]:
    """What an operator is asked now, the oldest first.

    :param everything: also what nobody waits for any more, and what was answered for the sandbox.
    """
    egress = gate.egress
    if egress is None:  # nobody has connected yet
        return []

    async def look() -> list[Question]:
        found: list[Question] = egress.asking.questions(everything=everything)
        return found

    found: list[Question] = GATES.call(look())
    return found


def give(gate: Gate, number: str, answer: Answer) -> Question:
    """Answer a question.

    :returns: the question, as it was before.
    :raises UsageError: there is none of that number, or the answer is none to it.
    """
    egress = gate.egress
    if egress is None:
        raise UsageError("nothing was asked yet", remedy="wait until something is held")

    async def say() -> Question:
        question: Question = egress.asking.answer(number, answer)
        return question

    question: Question = GATES.call(say())
    return question
