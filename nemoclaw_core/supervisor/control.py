"""The control socket of a running sandbox: `nemoclaw ps`, `stop`, `exec`, `approve` talk to it.

It lies in the runtime directory, which no sandbox sees, and answers only to the user whose sandbox
it is. One request a connection: a JSON object behind its length, with descriptors 0-2 attached for
``exec``; replies have the same form. The other end is :mod:`.client`. Modules that cost time are
imported when somebody connects.
"""

from __future__ import annotations

import _socket
import errno
import gc
import os
import time

from nemoclaw_hookspecs.errors import NemoclawError, UsageError

from ..launcher import wire
from ..state import ensure_private, runtime_dir
from .client import Folder, connect, receive_json, send_json, socket_path
from .session import Command, environment_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .foreground import Foreground
    from .gates import Gate
    from .session import Session

_REFUSED = (
    "refused: who asks is another user, or is confined and might be an agent (an agent may start "
    "nothing in another sandbox); ask from where the sandbox was started"
)
_PATIENCE = 5.0
"""Seconds that a client may take to send its request or to take a reply."""


class _Client:
    def __init__(self, sock: _socket.socket, number: int) -> None:
        self.sock = sock
        self.number = number


class Control:
    """The listening end, served by the foreground loop."""

    def __init__(self, name: str, plan: dict[str, Any], argv: list[str]) -> None:
        self._name = name
        self._owned: Session | None = None
        self._plan = plan
        self._argv = argv
        self._began = time.time()
        self._inode = 0
        self._clients: dict[int, _Client] = {}
        self.numbers: set[int] = set()
        self._listener = _socket.socket(
            _socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK
        )

    @property
    def _session(self) -> Session:
        assert self._owned is not None
        return self._owned

    def attach(self, session: Session) -> None:
        """Serve a session: before the loop starts."""
        self._owned = session

    def close(self) -> None:
        """Let go of the name, which nobody else can have taken since."""
        self._listener.close()
        path = socket_path(self._name)
        try:
            if self._inode and os.lstat(path).st_ino == self._inode:
                os.unlink(path)
        except FileNotFoundError:
            pass  # The launcher was first.

    def listen(self) -> None:
        """Bind the socket. A stale one of the same name, whose sandbox is gone, is replaced."""
        ensure_private(runtime_dir())
        with Folder() as folder:
            path = f"{folder}/{self._name}.sock"
            try:
                self._listener.bind(path)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise NemoclawError(
                        f"the control socket cannot be made: {error.strerror}",
                        where=socket_path(self._name),
                    ) from None
                try:
                    connect(self._name).close()
                except UsageError:
                    os.unlink(path)
                    self._listener.bind(path)
                else:
                    raise UsageError(
                        f"a sandbox {self._name!r} is running already",
                        remedy="choose another --name, or stop it",
                    ) from None
        self._inode = os.lstat(socket_path(self._name)).st_ino
        self._listener.listen(16)

    def descriptors(self) -> list[int]:
        """What to poll for input."""
        return [self._listener.fileno(), *self._clients]

    def owns(self, descriptor: int) -> bool:
        """True when a descriptor is one of this socket's."""
        return descriptor == self._listener.fileno() or descriptor in self._clients

    def serve(self, descriptor: int, foreground: Foreground) -> None:
        """Handle a new connection, or the end of one that waits for its command."""
        if descriptor != self._listener.fileno():
            self._hear(self._clients[descriptor])
            return
        try:
            number, _ = self._listener._accept()  # type: ignore[attr-defined]
        except BlockingIOError:
            return
        sock = _socket.socket(fileno=number)
        sock.settimeout(_PATIENCE)
        from .peers import is_trusted

        # A request of a thousand rules would have all that was ever made looked through for
        # garbage, in the middle of a reload; it leaves none.
        collects = gc.isenabled()
        gc.disable()
        try:
            if is_trusted(sock):
                self._answer(sock, foreground)
            else:
                _reply(sock, {"error": _REFUSED, "exit": 125})
        except EOFError:
            pass  # It only wanted to know whether somebody is here.
        except NemoclawError as error:
            _reply(sock, {"error": str(error), "exit": error.exit_code})
        except (OSError, ValueError, KeyError, TypeError) as error:
            _reply(sock, {"error": f"the request was not understood: {error}"})
        finally:
            if sock.fileno() not in self._clients:
                sock.close()
            if collects:
                gc.enable()

    def _answer(self, sock: _socket.socket, foreground: Foreground) -> None:
        request, descriptors = receive_json(sock)
        try:
            what = request["request"]
            if what == "status":
                _reply(sock, self._describe())
            elif what == "stop":
                grace = float(request.get("grace", 0))
                if not 0 <= grace < 1e9:
                    raise ValueError("the grace time is a number of seconds")
                foreground.stop(grace)
                _reply(sock, {"stopping": True})
            elif what == "reload":
                _reply(sock, {"told": self._reload(sock, request, foreground)})
            elif what == "covers":
                _reply(sock, {"covered": self._covers(request["paths"])})
            elif what == "pending":
                _reply(sock, {"questions": self._questions(request)})
            elif what == "answer":
                _reply(sock, {"question": self._give(sock, request)})
            elif what == "exec" and len(descriptors) == 3:
                self._execute(sock, request, descriptors)
            else:
                _reply(sock, {"error": f"there is no request {what!r}"})
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _describe(self) -> dict[str, Any]:
        policy, digest, generation = self._session.context.in_force
        return {
            "name": self._name,
            "supervisor": os.getpid(),
            "init": self._session.pid,
            "began": self._began,
            "policy": policy,
            "digest": digest,
            "generation": generation,
            "started": self._plan["policy"],
            "workdir": self._plan["workdir"],
            "command": self._argv[0],
            "owner": self._session.owner,
        }

    def _gate(self) -> Gate:
        gate = self._session.gate
        if gate is None:
            raise UsageError(
                f"the network of {self._name} is closed for good",
                remedy='start it with `mode = "proxy"` in its policy\'s network table',
            )
        return gate

    def _covers(self, paths: list[str]) -> bool:
        """Whether something is mounted over one of these files in the sandbox's view."""
        covered = {step["target"] for step in self._plan["steps"] if step["op"] == "mask"}
        return not covered.isdisjoint(paths)

    def _questions(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        from ..egress.answering import questions

        found = questions(self._gate(), everything=request.get("everything") is True)
        return [each.as_dict() for each in found]

    def _give(self, sock: _socket.socket, request: dict[str, Any]) -> dict[str, Any]:
        from ..egress.answering import give
        from ..egress.questions import Answer, read_scope
        from .peers import operator

        answer = Answer(
            allow=request["allow"] is True,
            scope=read_scope(str(request["scope"])),
            by=operator(sock),
        )
        return give(self._gate(), str(request["id"]), answer).as_dict()

    def _reload(self, sock: _socket.socket, request: dict[str, Any], foreground: Foreground) -> str:
        from ..egress.reload import reload
        from .peers import operator

        by = operator(sock)
        return reload(
            self._gate(),
            str(request["policy"]),
            request["network"],
            request["locked"],
            by,
            foreground.cause_of(by.pid),
        )

    def _execute(
        self, sock: _socket.socket, request: dict[str, Any], descriptors: list[int]
    ) -> None:
        gate = self._session.gate
        if gate is not None and gate.planned.network.get("credentials"):
            credentials = gate.planned.network["credentials"]
            gate.planned.vault.refuse_to_replace(credentials, request["extra"])
        rows, columns = request["size"]
        command = Command(
            [str(each) for each in request["argv"]],
            environment=environment_for(
                self._plan, self._name, request["environment"], request["extra"]
            ),
            workdir=str(request["workdir"] or self._plan["workdir"]),
            ttys=[int(each) for each in request["ttys"]],
            size=(int(rows), int(columns)),
        )
        number = self._session.start(command, (descriptors[0], descriptors[1], descriptors[2]))
        self.numbers.add(number)
        sock.settimeout(None)
        self._clients[sock.fileno()] = _Client(sock, number)

    def _hear(self, client: _Client) -> None:
        """A client of `exec` passes a signal on, or is gone; then so is its command."""
        try:
            data = client.sock.recv(1)
        except OSError:
            data = b""
        self._session.signal(client.number, data[0] if data else 9, group=not data)
        if not data:
            del self._clients[client.sock.fileno()]
            client.sock.close()

    def heed(self, kind: int, number: int, value: int, text: str, descriptors: list[int]) -> None:
        """Pass a report about a client's command on to it."""
        client = next((c for c in self._clients.values() if c.number == number), None)
        answer: dict[str, Any] = {}
        if kind == wire.EXITED:
            self._session.ended(number, value)
            answer = {"status": value}
        elif kind == wire.NOT_STARTED:
            error = self._session.refusal(number, value, text)
            answer = {"error": str(error), "exit": error.exit_code}
        elif kind == wire.TERMINAL:
            answer = {"terminal": True}
        if client is not None and answer:
            _reply(client.sock, answer, tuple(descriptors))
        for descriptor in descriptors:
            os.close(descriptor)
        if kind in (wire.EXITED, wire.NOT_STARTED):
            self.numbers.discard(number)
            if client is not None:
                del self._clients[client.sock.fileno()]
                client.sock.close()


def _reply(sock: _socket.socket, value: dict[str, Any], descriptors: tuple[int, ...] = ()) -> None:
    try:
        send_json(sock, value, descriptors)
    except OSError:
        pass  # The client went away; what it asked for goes on or ends by itself.
