"""A command that runs, or ran, in a sandbox of its own, as the Python interface sees it."""

from __future__ import annotations

import math
import os
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import attrs
from nemoclaw_hookspecs.errors import LauncherError, NemoclawError

from .accepted import check_timeout
from .launcher import wire
from .supervisor.session import Session

if TYPE_CHECKING:
    from .events.log import EventLog
    from .supervisor.gates import Gate

_SIGTERM = 15
_GRACE = 2.0


@attrs.frozen(slots=True, kw_only=True)
class Completed:
    """A command that ended.

    ``returncode`` is its exit status, or minus the number of the signal that ended it, as in
    :class:`subprocess.CompletedProcess`. ``stdout`` and ``stderr`` are None unless captured.
    """

    argv: tuple[str, ...]
    returncode: int
    stdout: bytes | None = None
    stderr: bytes | None = None
    sandbox: str
    """Name of the sandbox that it ran in: `nemoclaw logs NAME` shows its events."""
    timed_out: bool = False

    def check(self) -> Completed:
        """Return self, if the command succeeded.

        :raises subprocess.CalledProcessError: it did not.
        """
        if self.returncode:
            raise subprocess.CalledProcessError(
                self.returncode, self.argv, self.stdout, self.stderr
            )
        return self


class Process:
    """A command that runs in a sandbox of its own."""

    def __init__(
        self,
        session: Session,
        log: EventLog,
        argv: Sequence[str],
        gone: Callable[[Process], None],
    ) -> None:
        self._gone = gone
        self._session = session
        self._log = log
        self._argv = tuple(argv)
        self._status: int | None = None
        self._reason = ""
        self._error: NemoclawError | None = None
        self._lock = threading.Lock()
        self._done = False

    @property
    def name(self) -> str:
        """The sandbox's name."""
        return self._session.name

    @property
    def pid(self) -> int:
        """Process id of the sandbox's init."""
        return self._session.pid

    @property
    def gate(self) -> Gate | None:
        """The sandbox's way out, if it has one."""
        return self._session.gate

    def send_signal(self, number: int) -> None:
        """Send a signal to the command."""
        self._session.signal(0, number)

    def terminate(self) -> None:
        """Ask the command to end (SIGTERM)."""
        self.send_signal(_SIGTERM)

    def kill(self) -> None:
        """End the sandbox, and every process in it, at once."""
        self._session.kill()

    def wait(self, timeout: float | None = None) -> int:
        """Wait until the command has ended and its sandbox is gone.

        :param timeout: seconds to wait; 0 = only look; None or ``math.inf`` = for ever.
        :returns: exit status, or minus the number of a signal.
        :raises UsageError: ``timeout`` is negative, or no number.
        :raises subprocess.TimeoutExpired: it has not ended in time. It goes on.
        :raises CommandNotFound: it does not exist in the sandbox.
        :raises CommandNotExecutable: it cannot be executed.
        """
        check_timeout(timeout, "the same")
        if timeout == math.inf:
            timeout = None
        with self._lock:
            if not self._done:
                self._wait(None if timeout is None else time.monotonic() + timeout, timeout)
        if self._error is not None:
            raise self._error
        if self._status is None:
            return -9
        return os.waitstatus_to_exitcode(self._status)

    def _wait(self, deadline: float | None, timeout: float | None) -> None:
        channel = self._session.channel
        while True:
            channel.settimeout(None if deadline is None else max(0.0, deadline - time.monotonic()))
            try:
                report = self._session.receive()
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(self._argv, timeout or 0.0) from None
            if report is None:
                break
            self._heed(*report)
        self._done = True
        try:
            if self._error is None:
                self._session.ended(0, self._status, self._reason)
            self._session.close()
        finally:
            self._log.close()
            self._gone(self)

    def _heed(self, kind: int, number: int, value: int, text: str, _: list[int]) -> None:
        if kind == wire.EXITED and number == 0:
            self._status = value
        elif kind == wire.NOT_STARTED:
            self._error = self._session.refusal(number, value, text)
        elif kind == wire.UNCOVERED:
            self._error = self._session.uncovered(text)
        elif kind == wire.FAILED:
            self._error = LauncherError(f"the sandbox's init failed: {text}")

    def settle(self) -> None:
        """Take note of the end of a command whose sandbox is gone."""
        with self._lock:
            if not self._done:
                self._wait(None, None)

    def end(self, reason: str) -> None:
        """Ask the command to end, and end its sandbox if it does not within two seconds."""
        self._reason = reason
        self.terminate()
        try:
            self.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self.kill()
            self.wait()
