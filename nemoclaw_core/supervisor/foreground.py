"""The loop of `nemoclaw run`: waits for the agent, and serves whoever wants something meanwhile."""

from __future__ import annotations

import _signal
import gc
import os
import select
import sys
import time

from nemoclaw_hookspecs.errors import LauncherError, NemoclawError

from ..launcher import wire
from .stdio import streams_to_copy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..egress.questions import Question
    from . import terminal
    from .control import Control
    from .following import Following
    from .notices import Notices
    from .pump import Pump
    from .session import Command, Session

_FORWARDED = (
    _signal.SIGHUP,
    _signal.SIGINT,
    _signal.SIGQUIT,
    _signal.SIGTERM,
    _signal.SIGUSR1,
    _signal.SIGUSR2,
)
# What the keyboard sends goes to everybody in the foreground, as on a terminal.
_TO_GROUP = (_signal.SIGINT, _signal.SIGQUIT)
_HANDLED = (*_FORWARDED, _signal.SIGWINCH, _signal.SIGTSTP, _signal.SIGCONT)
_MAY_BE_IGNORED = (*_FORWARDED, _signal.SIGTSTP, _signal.SIGTTIN, _signal.SIGTTOU, _signal.SIGCHLD)
_GRACE = 2.0
TIMEOUT_STATUS = 124
"""Exit status after ``--timeout``, as of timeout(1)."""


def ignored_signals() -> list[int]:
    """The signals that this process was told to ignore when it started (``nohup``).

    Those that somebody could mean, that is; SIGPIPE and SIGXFSZ are left out, because Python
    ignores them for itself, whatever it found.
    """
    return [number for number in _MAY_BE_IGNORED if _signal.getsignal(number) == _signal.SIG_IGN]


class Foreground:
    """Runs one agent in a sandbox that is ready, to its end.

    :param timeout: seconds after which the agent is ended; 0 = never.
    :param started: called once the agent is running.
    :param watch: reload the policy when its file changes.
    """

    def __init__(
        self,
        session: Session,
        control: Control | None,
        *,
        timeout: float = 0,
        started: Callable[[], None] | None = None,
        watch: bool = False,
    ) -> None:
        self._started = started
        self._watches = watch
        self._reloads = False
        self._session = session
        self._control = control
        self._relay: terminal.Relay | None = None
        self._following: Following | None = None
        self._pump: Pump | None = None
        self._status: int | None = None
        self._reason = ""
        self._deadline = time.monotonic() + timeout if timeout else None
        self._ttys: list[int] = []
        self._notices: Notices | None = None
        self._woken, self._waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def run(self, command: Command) -> int:
        """Start the command, and wait for its end.

        :returns: its status as of waitpid(2).
        :raises CommandNotFound: it does not exist in the sandbox.
        :raises CommandNotExecutable: it cannot be executed.
        :raises LauncherError: the launcher died; so did the sandbox.
        :raises NemoclawError: a file could not be read, or not all output could be written to it.
        """
        self._ttys = command.ttys
        if self._session.gate is not None and not has_terminal():
            self._reloads = True  # Nobody hangs up: SIGHUP means what it means to a service.
        if self._watches:
            self._follow().watch()
        if self._session.gate is not None:
            self._session.gate.told = self._on_question
        self._catch_signals(command.ignored_signals)
        try:
            self._session.start(command, self._streams())
            gc.enable()  # Off since the start of the process; this loop may run for days.
            self._let_go_of_stdio()
            refusal = self._loop()
        finally:
            if self._relay is not None:
                self._relay.restore()
            if self._following is not None:
                self._following.close()
        if self._relay is not None:
            self._relay.drain(self._woken, self._patience(), ended=True)
        problem = ""
        if self._pump is not None:
            problem = self._pump.finish(self._woken, self._patience())
        if refusal is not None:
            self._session.close()
            raise refusal
        if self._status is None and (self._reason or self._session.memory_kills):
            self._status = int(_signal.SIGKILL)
        if self._status is None:
            self._session.close()
            raise LauncherError("the sandbox was ended before the agent was done")
        self._session.ended(0, self._status, self._reason)
        self._session.close()
        if problem:
            raise NemoclawError(f"the command's data could not be copied: {problem}")
        return self._status

    @property
    def reason(self) -> str:
        """Why the agent was ended: empty, ``timeout`` or ``stopped``."""
        return self._reason

    @property
    def timed_out(self) -> bool:
        """True when the agent was ended because its time was up."""
        return self._reason == "timeout"

    def cause_of(self, pid: int) -> str:
        """Why a process asks for a reload: ``command``, or what this one has started it for."""
        return self._following.cause_of(pid) if self._following is not None else "command"

    def stop(self, grace: float) -> None:
        """Ask the agent to end, and end it when it does not (`nemoclaw stop`)."""
        self._end("stopped", grace)

    def _end(self, reason: str, grace: float) -> None:
        if not self._reason:
            self._reason = reason
            self._session.signal(0, _signal.SIGTERM)
            self._deadline = time.monotonic() + grace
        else:
            self._session.kill()
            self._deadline = None

    def _catch_signals(self, ignored: list[int]) -> None:
        _signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        for number in _HANDLED:
            if number not in ignored or (number == _signal.SIGHUP and self._reloads):
                _signal.signal(number, nothing)

    def _streams(self) -> tuple[int, int, int]:
        streams = streams_to_copy()
        if not streams:
            return 0, 1, 2
        from .pump import Pump

        self._pump = Pump(streams, self._session.owner)
        return self._pump.stdio

    def _patience(self) -> float | None:
        """How long to wait for whoever reads the rest of the output: None = for ever.

        A signal then means: wait no longer. Nor does somebody wait who has set a timeout.
        """
        for number in (_signal.SIGWINCH, _signal.SIGTSTP, _signal.SIGCONT):
            if _signal.getsignal(number) is nothing:
                _signal.signal(number, _signal.SIG_DFL)
        if self._session.gate is not None:
            self._session.gate.told = None
        if self._notices is not None:
            self._notices.end(self._woken)
        return _GRACE if self._reason else None

    def _let_go_of_stdio(self) -> None:
        """Close this process's copies of pipes that the agent now has: a reader or writer at the
        other end must see the agent close its end."""
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for descriptor in (0, 1):
            if descriptor not in self._ttys:
                os.dup2(null, descriptor)
        os.close(null)
        if self._pump is not None:
            self._pump.let_go()

    def _loop(self) -> NemoclawError | None:
        session = self._session
        channel = session.channel.fileno()
        refusal = None
        while True:
            for descriptor, _ in self._poll(channel):
                if descriptor == channel:
                    report = session.receive()
                    if report is None:
                        return refusal
                    refusal = self._heed(*report) or refusal
                elif descriptor == self._woken:
                    for number in os.read(self._woken, 64):
                        self._on_signal(number)
                elif self._control is not None and self._control.owns(descriptor):
                    self._control.serve(descriptor, self)
                elif self._pump is not None and self._pump.owns(descriptor):
                    self._pump.serve(descriptor)
                elif self._following is not None and self._following.serve(descriptor):
                    pass
                elif self._relay is not None and not self._relay.copy(descriptor):
                    self._relay.close()
                    self._relay = None
            if self._following is not None:
                self._following.look()
            if self._deadline is not None and time.monotonic() >= self._deadline:
                self._end("timeout", _GRACE)

    def _poll(self, channel: int) -> list[tuple[int, int]]:
        poll = select.poll()
        poll.register(channel, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        if self._control is not None:
            for descriptor in self._control.descriptors():
                poll.register(descriptor, select.POLLIN)
        if self._relay is not None:
            self._relay.register(poll)
        if self._pump is not None:
            self._pump.register(poll)
        waits = [] if self._deadline is None else [self._deadline - time.monotonic()]
        if self._following is not None:
            self._following.register(poll)
            waits += self._following.waits()
        return poll.poll(max(0.0, min(waits)) * 1000 + 1 if waits else None)

    def _follow(self) -> Following:
        if self._following is None:
            from .following import Following

            self._following = Following(self._session, self._say)
        return self._following

    def _say(self, line: str) -> None:
        """Tell whoever started the sandbox."""
        from ..events.text import printable

        shown = "\n".join(map(printable, line.split("\n")))
        if self._relay is not None:
            self._relay.tell(shown.replace("\n", "\r\n"))
        else:
            sys.stderr.write(f"{shown}\n")
            sys.stderr.flush()

    def _heed(
        self, kind: int, number: int, value: int, text: str, descriptors: list[int]
    ) -> NemoclawError | None:
        if self._control is not None and number in self._control.numbers:
            self._control.heed(kind, number, value, text, descriptors)
        elif kind == wire.TERMINAL:
            from . import terminal

            self._relay = terminal.Relay(descriptors[0], self._ttys)
            self._relay.begin()
        elif kind == wire.STARTED:
            if self._started is not None:
                self._started()
        elif kind == wire.EXITED:
            self._status = value
        elif kind == wire.NOT_STARTED:
            return self._session.refusal(number, value, text)
        elif kind == wire.UNCOVERED:
            return self._session.uncovered(text)
        elif kind == wire.FAILED:
            return LauncherError(f"the sandbox's init failed: {text}")
        return None

    def _on_question(self, question: Question) -> None:
        """Called by the gate thread: have the loop show it, which owns the terminal."""
        if self._notices is None:
            from .notices import Notices

            self._notices = Notices(self._waker)
        self._notices.add(question)

    def _on_signal(self, number: int) -> None:
        if number == 0 and self._notices is not None:
            self._notices.show(self._relay)
        elif number == _signal.SIGHUP and self._reloads:
            self._follow().ask("signal")
        elif number == _signal.SIGWINCH:
            if self._relay is not None:
                self._relay.resize()
        elif number == _signal.SIGTSTP:
            if self._relay is not None:
                self._relay.restore()
            self._session.signal(0, _signal.SIGSTOP, group=True)
            os.kill(os.getpid(), _signal.SIGSTOP)
        elif number == _signal.SIGCONT:
            if self._relay is not None:
                self._relay.begin()
            self._session.signal(0, _signal.SIGCONT, group=True)
        else:
            self._session.signal(0, number, group=number in _TO_GROUP)


def has_terminal() -> bool:
    """Whether this process has a controlling terminal: then SIGHUP means that it is gone."""
    with open("/proc/self/stat", "rb", buffering=0) as file:
        # After the name, which may hold anything: state, parent, group, session, terminal.
        return file.readall().rpartition(b")")[2].split()[4] != b"0"


def nothing(number: int, frame: object) -> None:
    """A handler, so that the signal is written to the wake-up pipe in place of its default."""


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


def end_like(status: int) -> int:
    """End as the agent did: by its exit code, or by the same signal.

    :param status: as of waitpid(2).
    """
    if os.WIFEXITED(status):
        _flush()
        # Without taking the interpreter apart, which takes as long as building the sandbox.
        os._exit(os.WEXITSTATUS(status))
    number = os.WTERMSIG(status)
    _flush()
    if number not in (_signal.SIGKILL, _signal.SIGSTOP):
        _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, (number,))
    os.kill(os.getpid(), number)
    return 128 + number
