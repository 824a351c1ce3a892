"""The operator's side of a :class:`~nemoclaw_core.Sandbox`: what its commands are held for.

::

    with Sandbox("./policies.toml") as sandbox:
        process = sandbox.start(["agent"])
        for question in sandbox.questions():      # or: async for
            sandbox.approve(question) if wanted(question) else sandbox.deny(question)
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from typing import TYPE_CHECKING

from nemoclaw_hookspecs.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .egress.questions import Question, Scope
    from .process import Process
    from .supervisor.gates import Gate

_QUEUED = 256
"""Questions that an iterator keeps for a reader who is slow; ``pending`` has the others."""


class Questions:
    """Questions as they are asked, to iterate over with ``for`` or ``async for``.

    Ends when the ``Sandbox`` is closed.
    """

    def __init__(self, waiting: Iterable[Question]) -> None:
        self._queue: queue.Queue[Question | None] = queue.Queue()
        self._lock = threading.Lock()
        self._woken: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None
        self._closed = False
        for question in waiting:
            self._queue.put(question)

    def __iter__(self) -> Questions:
        return self

    def __next__(self) -> Question:
        found = self._queue.get()
        if found is None:
            self._queue.put(None)
            raise StopIteration
        return found

    def __aiter__(self) -> Questions:
        return self

    async def __anext__(self) -> Question:
        while True:
            event = asyncio.Event()
            with self._lock:
                self._woken = (asyncio.get_running_loop(), event)
            try:
                found = self._queue.get_nowait()
            except queue.Empty:
                await event.wait()
                continue
            if found is None:
                self._queue.put(None)
                raise StopAsyncIteration
            return found

    def close(self) -> None:
        """End the iteration, also one that waits at the moment."""
        self._closed = True
        self._put(None)

    def put(self, question: Question) -> None:
        """Hand a question on. Never blocks."""
        if not self._closed and self._queue.qsize() < _QUEUED:
            self._put(question)

    def _put(self, item: Question | None) -> None:
        self._queue.put(item)
        with self._lock:
            woken, self._woken = self._woken, None
        if woken is not None:
            loop, event = woken
            try:
                loop.call_soon_threadsafe(event.set)
            except RuntimeError:
                pass  # the loop is closed, and so is whoever waited in it


class Operating:
    """What a ``Sandbox`` offers to whoever answers for it. From any thread."""

    def __init__(self) -> None:
        self._readers: list[Questions] = []
        self._running: set[Process] = set()

    def _gates(self) -> list[Gate]:
        """The gates of the commands that run."""
        return [gate for each in tuple(self._running) if (gate := each.gate) is not None]

    def pending(self, *, everything: bool = False) -> list[Question]:
        """What is held now in the sandboxes of all commands.

        :param everything: also what nobody waits for any more, and what was answered for the
            sandbox.
        """
        from .egress.answering import questions

        return [each for gate in self._gates() for each in questions(gate, everything=everything)]

    def approve(self, question: Question | str, scope: Scope = "once") -> Question:
        """Let go on what a question is about: that host and port, no other.

        :param question: or its ``id``, if a single command runs.
        :param scope: ``once``: what waits now; ``sandbox``: until the command's sandbox ends.
        :raises UsageError: there is no such question, or nobody waits any more.
        """
        return self._answer(question, True, scope)

    def deny(self, question: Question | str, scope: Scope = "once") -> Question:
        """Refuse it; likewise."""
        return self._answer(question, False, scope)

    def questions(self) -> Questions:
        """Questions as they are asked, to iterate over, with ``for`` or ``async for``: first those
        that wait already. What nobody answers is denied after ``network.ask_timeout``."""
        reader = Questions(())
        # A question that is asked meanwhile comes twice rather than never.
        self._readers.append(reader)
        for question in self.pending():
            reader.put(question)
        return reader

    async def pending_async(self, *, everything: bool = False) -> list[Question]:
        """:meth:`pending` without blocking the event loop."""
        return await asyncio.to_thread(self.pending, everything=everything)

    async def approve_async(self, question: Question | str, scope: Scope = "once") -> Question:
        """:meth:`approve` without blocking the event loop."""
        return await asyncio.to_thread(self.approve, question, scope)

    async def deny_async(self, question: Question | str, scope: Scope = "once") -> Question:
        """:meth:`deny` without blocking the event loop."""
        return await asyncio.to_thread(self.deny, question, scope)

    def _told(self, question: Question) -> None:
        for reader in tuple(self._readers):
            reader.put(question)

    def _end_questions(self) -> None:
        for reader in self._readers:
            reader.close()
        self._readers.clear()

    def _answer(self, question: Question | str, allow: bool, scope: Scope) -> Question:
        from .egress.answering import give
        from .egress.questions import Answer, Operator, read_scope
        from .supervisor.peers import name_of

        number = question if isinstance(question, str) else question.id
        gates = self._gates()
        if not isinstance(question, str):
            gates = [each for each in gates if each.context.sandbox == question.sandbox]
        if len(gates) != 1:
            raise UsageError(
                f"question {number} is of a command that does not run"
                if not gates
                else f"{len(gates)} commands run, and each may have a question {number}",
                remedy="give the question itself, as pending() and questions() do",
            )
        pid = os.getpid()
        by = Operator(uid=os.getuid(), pid=pid, command=name_of(pid))
        return give(gates[0], number, Answer(allow=allow, scope=read_scope(scope, "scope"), by=by))
