"""Ask a question in a child process, so that the caller stays as it is."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable
from typing import NoReturn

import attrs

from ..launcher import kernel
from .answers import told

TIMEOUT = 5.0
"""Seconds. Every question is answered in milliseconds; a child that is stuck is killed."""

Tell = Callable[[str], None]


@attrs.frozen(slots=True, kw_only=True)
class Reply:
    """What a child told, line by line, and what stopped it, if it did not finish."""

    lines: tuple[str, ...]
    failure: str = ""


def ask(question: Callable[[Tell], None], *, timeout: float = TIMEOUT) -> Reply:
    """Run ``question`` in a forked child.

    It may change whatever it likes about its own process. What it tells arrives at once, so a
    child that dies or hangs half-way has still answered the first half.

    :param timeout: seconds after which the child is killed.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _answer(question, writer)
    os.close(writer)
    finished = False
    try:
        data, finished = _read_until(reader, time.monotonic() + timeout)
    finally:
        os.close(reader)
        # At the end of file it is gone already, and its number may be somebody else's.
        if not finished:
            os.kill(child, signal.SIGKILL)
        # A caller that ignores SIGCHLD has its children reaped by the kernel.
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child, 0)
    lines = data.decode("utf-8", "replace").splitlines()
    if not finished:
        return Reply(lines=tuple(lines), failure=f"no answer within {timeout:g} s")
    if not lines or lines[-1] != _DONE:
        failure = lines.pop()[1:] if lines and lines[-1].startswith(_FAILED) else "the child died"
        return Reply(lines=tuple(lines), failure=failure)
    return Reply(lines=tuple(lines[:-1]))


_DONE, _FAILED = ".", "!"


def within(flags: int, question: Callable[[], None]) -> None:
    """Run ``question`` in a process born into new namespaces, and wait for its end.

    Only for a child made by :func:`ask`. The processes share the pipe, so ``question`` can tell.

    :param flags: for clone(2), as the launcher uses them.
    :raises OSError: clone(2) refused.
    """
    process = kernel.clone(flags)
    if process == 0:
        try:
            kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
            question()
        finally:
            # No traceback: what was not told did not work.
            os._exit(0)
    os.waitpid(process, 0)


def _answer(question: Callable[[Tell], None], writer: int) -> NoReturn:
    def tell(text: str) -> None:
        # One write for each line, so that lines of two processes never mix (pipe(7), PIPE_BUF).
        os.write(writer, text.replace("\n", " ").encode()[:4000] + b"\n")

    try:
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        # A question waits for children of its own, which a caller may have chosen to ignore.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        try:
            question(tell)
            tell(_DONE)
        except OSError as error:
            tell(_FAILED + told(error))
        except BaseException as error:
            tell(_FAILED + repr(error))
    finally:
        os._exit(0)


def _read_until(reader: int, deadline: float) -> tuple[bytes, bool]:
    """Everything up to the end of file, and whether that came before the deadline."""
    parts: list[bytes] = []
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            return b"".join(parts), False
        part = os.read(reader, 65536)
        if not part:
            return b"".join(parts), True
        parts.append(part)
