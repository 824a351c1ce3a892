"""What the terminal of `nemoclaw run` says while something waits for its operator."""

from __future__ import annotations

import os
import sys
import time

from ..events.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..egress.questions import Question
    from .terminal import Relay

_LINES = 5
"""That may be shown in a span of time: an agent that asks for names without end shall not fill the
terminal."""
_SPAN = 10.0


class Notices:
    """Shows what is held, a line each.

    :param waker: a pipe; a NUL in it makes the loop at its other end call :meth:`show`.
    """

    def __init__(self, waker: int) -> None:
        self._waker = waker
        self._questions: list[Question] = []
        self._began = -_SPAN
        self._count = 0

    def add(self, question: Question) -> None:
        """Show a question soon. Called in the gate thread."""
        self._questions.append(question)
        try:
            os.write(self._waker, b"\0")
        except BlockingIOError:
            pass  # Full of wake-ups already.

    def show(self, relay: Relay | None) -> None:
        """Tell what was asked: on the agent's terminal if it has one, else on standard error."""
        while self._questions:
            self._show(self._questions.pop(0), relay)

    def end(self, woken: int) -> None:
        """Nobody asks any more: take the wake-ups out of the pipe. Signals stay in it.

        :param woken: the pipe's other end.
        """
        try:
            left = os.read(woken, 4096)
        except BlockingIOError:
            return
        os.write(self._waker, bytes(filter(None, left)))

    def _show(self, question: Question, relay: Relay | None) -> None:
        now = time.monotonic()
        if now - self._began >= _SPAN:
            self._began, self._count = now, 0
        self._count += 1
        if self._count <= _LINES:
            line = line_for(question)
        elif self._count == _LINES + 1:
            line = f"nemoclaw: more is held: `nemoclaw pending {question.sandbox}` lists it"
        else:
            return
        if relay is not None:
            relay.tell(line)
        else:
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()


def line_for(question: Question) -> str:
    """What is wanted, by whom, and how to answer. What an agent can choose freely comes late."""
    who = question.who or "the agent"
    held = "" if question.asker == "policy" else f" ({question.asker}: {question.reason})"
    to = f"{question.sandbox} {question.id}"
    return printable(
        f"nemoclaw: {question.what} is asked for by {who}{held}: `nemoclaw approve {to}` or "
        f"`nemoclaw deny {to}`, within {question.remaining:.0f} s"
    )
