"""What a sandbox's init does once it is sealed: it starts commands, the agent first, and waits."""

from __future__ import annotations

import _signal
import errno
import fcntl
import os
import select
import struct

from . import kernel, operations, wire
from .watch import PERIOD

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from typing import Any

    from .watch import Watch

_TIOCSPTLCK, _TIOCGPTN, _TIOCSWINSZ = 0x40045431, 0x80045430, 0x5414
# All but SIGKILL and SIGSTOP, which cannot be set, and 32 and 33, which the C library keeps.
_SETTABLE_SIGNALS = tuple(n for n in range(1, 65) if n not in (9, 19, 32, 33))


class Commands:
    """Starts commands on request, reaps every orphan, reports."""

    def __init__(self, plan: dict[str, Any], channel: _socket.socket, watch: Watch | None) -> None:
        self.channel = channel
        self.watch = watch
        self.commands: dict[int, tuple[int, int]] = {}
        """Number and terminal descriptor (-1 without one) of each command, by its pid."""
        if not operations.has_pid_namespace(plan):
            # Orphans of the agent come here while it runs, and to the launcher when it has ended.
            kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)

    def serve(self) -> None:
        """Announce readiness, then handle requests until the agent (command 0) has ended."""
        children = kernel.signal_descriptor(_signal.SIGCHLD)
        poll = select.poll()
        poll.register(children, select.POLLIN)
        poll.register(self.channel, select.POLLIN)
        watched, period = -1, None
        if self.watch is not None:
            watched, period = self.watch.descriptor, PERIOD
            poll.register(watched, select.POLLPRI)
            if self._uncovered():
                return
        wire.send_report(self.channel, wire.READY)
        while True:
            ready = poll.poll(period)
            changed = any(descriptor == watched for descriptor, _ in ready)
            if (changed or not ready) and self._uncovered():
                return
            for descriptor, _ in ready:
                if descriptor == watched:
                    continue
                if descriptor == children:
                    os.read(children, 128 * 16)
                    if self._reap():
                        return
                elif self._obey(*wire.receive_request(self.channel)):
                    return

    def _uncovered(self) -> bool:
        """Report the mounts that are gone; True, and all is over, if there are any."""
        assert self.watch is not None
        missing = self.watch.missing()
        if missing:
            wire.send_report(self.channel, wire.UNCOVERED, text="\n".join(missing))
        return bool(missing)

    def _obey(self, message: tuple[Any, ...], descriptors: list[int]) -> bool:
        """Handle one request; True when the agent could not be started, and all is over."""
        kind, number, *rest = message
        if kind == "run":
            return not self._start(number, rest[0], descriptors) and number == 0
        if kind == "signal":
            self._signal(number, *rest)
            return False
        raise ValueError(f"unknown request {kind!r}")

    def _terminal(self, number: int, size: list[int]) -> tuple[str, int]:
        """A new pseudoterminal (pts(4)) of the sandbox's own devpts.

        The supervisor gets the master. Returned are the slave's path and a descriptor of it, to be
        held while the command runs: the master must not report a hang-up before it has ended.
        """
        master = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
            (slave,) = struct.unpack("i", fcntl.ioctl(master, _TIOCGPTN, struct.pack("i", 0)))
            fcntl.ioctl(master, _TIOCSWINSZ, struct.pack("4H", *size, 0, 0))
            path = f"/dev/pts/{slave}"
            held = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
            wire.send_report(self.channel, wire.TERMINAL, number, descriptors=(master,))
        finally:
            os.close(master)
        return path, held

    def _signal(self, number: int, signal: int, group: bool) -> None:
        for pid, (command, _) in self.commands.items():
            if command == number:
                # Not reaped yet, or it would not be in the table: the pid is still its own.
                try:
                    (os.killpg if group else os.kill)(pid, signal)
                except ProcessLookupError:
                    pass  # Its process group is empty.

    def _start(self, number: int, request: dict[str, Any], stdio: list[int]) -> bool:
        """Start a command; False, and a report, when it cannot be started.

        Descriptors listed in ``ttys`` become the sandbox's own terminal; when a session leader
        opens it first, it also becomes its controlling terminal.
        """
        argv, environment = request["argv"], request["environment"]
        held = -1
        try:
            actions: list[tuple[Any, ...]] = []
            if request["ttys"]:
                terminal, held = self._terminal(number, request["size"])
                for descriptor in request["ttys"]:
                    actions.append((os.POSIX_SPAWN_OPEN, descriptor, terminal, os.O_RDWR, 0))
            for descriptor in (0, 1, 2):
                if descriptor not in request["ttys"]:
                    actions.append((os.POSIX_SPAWN_DUP2, stdio[descriptor], descriptor))
            os.chdir(request["workdir"])
            os.umask(request["umask"])
            default = [
                signal for signal in _SETTABLE_SIGNALS if signal not in request["ignored_signals"]
            ]
            pid = os.posix_spawn(
                _find(argv[0], environment.get("PATH", "")),
                argv,
                environment,
                file_actions=actions,
                setsid=True,
                setsigmask=(),
                setsigdef=default,
            )
        except OSError as error:
            self._let_go(held)
            text = error.filename or argv[0]
            wire.send_report(self.channel, wire.NOT_STARTED, number, error.errno or 0, text)
            return False
        finally:
            for descriptor in stdio:
                os.close(descriptor)
        self.commands[pid] = number, held
        wire.send_report(self.channel, wire.STARTED, number, pid)
        return True

    def _let_go(self, held: int) -> None:
        if held >= 0:
            os.close(held)

    def _reap(self) -> bool:
        """Collect every ended child; True when the agent itself has ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return False
            command = self.commands.pop(pid, None)
            if command is None:
                continue  # An orphan that the agent left behind.
            number, held = command
            self._let_go(held)
            wire.send_report(self.channel, wire.EXITED, number, status)
            if number == 0:
                return True


def _find(name: str, path: str) -> str:
    """The executable that execvp(3) would take. An empty PATH entry means nothing here."""
    if "/" in name:
        return name
    denied = None
    for folder in path.split(":"):
        candidate = f"{folder}/{name}"
        if folder and os.access(candidate, os.F_OK) and not os.path.isdir(candidate):
            if os.access(candidate, os.X_OK):
                return candidate
            denied = candidate
    if denied:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), denied)
    raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), name)
