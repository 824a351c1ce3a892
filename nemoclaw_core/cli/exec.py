"""``nemoclaw exec``: run another command inside a running sandbox, behind the same walls."""

from __future__ import annotations

import _signal
import _socket
import os
import select
from typing import TYPE_CHECKING, Any

from nemoclaw_hookspecs.errors import LauncherError, NemoclawError, UsageError

from ..names import check_name
from ..supervisor import client, foreground, terminal
from ..supervisor.stdio import streams_to_copy
from . import options

if TYPE_CHECKING:
    from ..supervisor.pump import Pump

USAGE = """\
usage: nemoclaw exec [OPTION ...] SANDBOX -- COMMAND [ARGUMENT ...]

Run COMMAND inside a running sandbox, and end as it ends.

  -C, --workdir DIR     start in DIR (default: the sandbox's work directory)
  -e, --env NAME=VALUE  set a variable for the command; may be repeated
"""
_FORWARDED = (_signal.SIGHUP, _signal.SIGINT, _signal.SIGQUIT, _signal.SIGTERM)


def main(argv: list[str]) -> int:
    """Run one command; returns its exit status."""
    given = options.parse(
        argv,
        ("--help",),
        ("--workdir", "--env"),
        {"-h": "--help", "-C": "--workdir", "-e": "--env"},
        command="exec",
    )
    if "--help" in given.flags:
        print(USAGE, end="")
        return 0
    name, *command = given.rest or [""]
    if command[:1] == ["--"]:
        command = command[1:]
    if not name or not command:
        raise UsageError(
            "name a sandbox and a command",
            remedy="nemoclaw exec SANDBOX -- COMMAND; see `nemoclaw exec --help`",
        )
    extra = options.environment(given)
    options.check_path(extra, command[0])
    pump = _pump(check_name(name))
    sock = client.connect(name)
    ttys = [descriptor for descriptor in (0, 1, 2) if os.isatty(descriptor)]
    request = {
        "request": "exec",
        "argv": command,
        "environment": dict(os.environ),
        "extra": extra,
        "workdir": given.last("--workdir"),
        "ttys": ttys,
        "size": terminal.size_of(ttys[0]) if ttys else (24, 80),
    }
    client.ask(sock, request, (0, 1, 2) if pump is None else pump.stdio)
    if pump is not None:
        pump.let_go()
    return foreground.end_like(_Client(sock, ttys, pump).wait())


def _pump(name: str) -> Pump | None:
    """The pipes in place of streams that the command must not get as they are, if there are any."""
    streams = streams_to_copy()
    if not streams:
        return None
    from ..supervisor.pump import Pump

    sock = client.connect(name)
    try:
        client.ask(sock, {"request": "status"})
        answer, _ = client.receive_json(sock)
    except EOFError:
        raise LauncherError("the sandbox has just ended") from None
    finally:
        sock.close()
    if "error" in answer:
        raise RefusedByPeer(str(answer["error"]), int(answer.get("exit", 125)))
    owner = answer.get("owner")
    return Pump(streams, None if owner is None else (int(owner[0]), int(owner[1])))


class RefusedByPeer(NemoclawError):
    """The sandbox's supervisor refused the command; its words, and its exit status."""

    def __init__(self, what: str, exit_code: int) -> None:
        super().__init__(what)
        self.exit_code = exit_code  # type: ignore[misc]


class _Client:
    """Waits for the command's end, and copies its terminal and streams meanwhile."""

    def __init__(self, sock: _socket.socket, ttys: list[int], pump: Pump | None) -> None:
        self._sock = sock
        self._pump = pump
        self._ttys = ttys
        self._relay: terminal.Relay | None = None
        self._woken, waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        _signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        for number in (*_FORWARDED, _signal.SIGWINCH):
            _signal.signal(number, foreground.nothing)

    def wait(self) -> int:
        """The command's status as of waitpid(2)."""
        try:
            answer = self._loop()
        finally:
            if self._relay is not None:
                self._relay.restore()
        if self._relay is not None:
            self._relay.drain(self._woken, None, ended=False)
        problem = self._pump.finish(self._woken) if self._pump is not None else ""
        if "error" in answer:
            raise RefusedByPeer(str(answer["error"]), int(answer.get("exit", 125)))
        if problem:
            raise NemoclawError(f"the command's data could not be copied: {problem}")
        return int(answer["status"])

    def _loop(self) -> dict[str, Any]:
        while True:
            poll = select.poll()
            poll.register(self._sock, select.POLLIN)
            poll.register(self._woken, select.POLLIN)
            if self._relay is not None:
                self._relay.register(poll)
            if self._pump is not None:
                self._pump.register(poll)
            for descriptor, _ in poll.poll():
                if descriptor == self._sock.fileno():
                    answer, received = self._receive()
                    if "terminal" not in answer:
                        return answer
                    self._relay = terminal.Relay(received[0], self._ttys)
                    self._relay.begin()
                elif descriptor == self._woken:
                    for number in os.read(self._woken, 64):
                        self._on_signal(number)
                elif self._pump is not None and self._pump.owns(descriptor):
                    self._pump.serve(descriptor)
                elif self._relay is not None and not self._relay.copy(descriptor):
                    self._relay.close()
                    self._relay = None

    def _receive(self) -> tuple[dict[str, Any], list[int]]:
        try:
            return client.receive_json(self._sock)
        except EOFError:
            raise LauncherError("the sandbox ended before the command did") from None

    def _on_signal(self, number: int) -> None:
        if number != _signal.SIGWINCH:
            self._sock.sendall(bytes([number]))
        elif self._relay is not None:
            self._relay.resize()
