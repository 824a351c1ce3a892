"""The control socket of a running sandbox: `nemoclaw ps`, `stop` and `exec` talk to it.

It lies in the runtime directory, which no sandbox sees, and answers only to the user whose sandbox
it is. One request a connection: a JSON object behind its length, with descriptors 0-2 attached for
``exec``; replies have the same form. Modules that cost time are imported when somebody connects.
"""

from __future__ import annotations

import _socket
import errno
import os
import time

from nemoclaw_hookspecs.errors import NemoclawError, UsageError

from ..launcher import wire
from ..state import ensure_private, runtime_dir
from .session import Command, environment_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .foreground import Foreground
    from .session import Session

_MAX_REQUEST = 4 << 20
_REFUSED = (
    "refused: who asks is another user, or is confined and might be an agent (an agent may start "
    "nothing in another sandbox); ask from where the sandbox was started"
)
_PATIENCE = 5.0
"""Seconds that a client may take to send its request or to take a reply."""


def socket_path(name: str) -> str:
    """Where the sandbox of that name listens."""
    return os.path.join(runtime_dir(), f"{name}.sock")


class _Folder:
    """The runtime directory by a short path: a socket's address holds 107 bytes (unix(7))."""

    def __enter__(self) -> str:
        flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
        self._descriptor = os.open(runtime_dir(), flags)
        return f"/proc/self/fd/{self._descriptor}"

    def __exit__(self, *error: object) -> None:
        os.close(self._descriptor)


def connect(name: str) -> _socket.socket:
    """A connection to the sandbox of that name.

    :raises UsageError: no such sandbox is running.
    """
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        with _Folder() as folder:
            sock.connect(f"{folder}/{name}.sock")
    except OSError:
        sock.close()
        raise UsageError(
            f"no sandbox {name!r} is running", remedy="`nemoclaw ps` lists those that are"
        ) from None
    return sock


def forget_stale(name: str) -> None:
    """Remove the socket of a supervisor that was killed together with its launcher."""
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        with _Folder() as folder:
            sock.connect(f"{folder}/{name}.sock")
    except ConnectionRefusedError:
        os.unlink(socket_path(name))
    except OSError:
        pass  # Gone already.
    finally:
        sock.close()


def wait_gone(name: str) -> None:
    """Wait until the sandbox of that name has ended, and everything of it is removed."""
    path = socket_path(name)
    while os.path.exists(path):
        time.sleep(0.005)
        try:
            connect(name).close()
        except UsageError:
            return


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
        with _Folder() as folder:
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
                _reply(sock, {"told": self._reload(request)})
            elif what == "exec" and len(descriptors) == 3:
                self._execute(sock, request, descriptors)
            else:
                _reply(sock, {"error": f"there is no request {what!r}"})
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _describe(self) -> dict[str, Any]:
        return {
            "name": self._name,
            "supervisor": os.getpid(),
            "init": self._session.pid,
            "began": self._began,
            "policy": self._plan["policy"],
            "workdir": self._plan["workdir"],
            "command": self._argv[0],
            "owner": self._session.owner,
        }

    def _reload(self, request: dict[str, Any]) -> str:
        gate = self._session.gate
        if gate is None:
            raise UsageError(
                f"the network of {self._name} is closed for good",
                remedy='start it with `mode = "proxy"` in its policy\'s network table',
            )
        from ..egress.reload import reload

        return reload(gate, str(request["policy"]), request["network"], request["locked"])

    def _execute(
        self, sock: _socket.socket, request: dict[str, Any], descriptors: list[int]
    ) -> None:
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


def ask(sock: _socket.socket, request: dict[str, Any], descriptors: tuple[int, ...] = ()) -> None:
    """Send a request. Whoever refuses a client before it has spoken has answered by then."""
    try:
        send_json(sock, request, descriptors)
    except BrokenPipeError:
        pass  # What is received next is the answer, or the end.


def send_json(
    sock: _socket.socket, value: dict[str, Any], descriptors: tuple[int, ...] = ()
) -> None:
    """Send one JSON object with its descriptors."""
    import json

    wire.send_framed(sock, json.dumps(value).encode(), descriptors)


def receive_json(sock: _socket.socket) -> tuple[dict[str, Any], list[int]]:
    """The next message and its descriptors.

    :raises EOFError: the other end is gone.
    """
    import json

    data, descriptors = wire.receive_framed(sock, _MAX_REQUEST)
    value = json.loads(data)
    if not isinstance(value, dict):
        raise ValueError("a request is a JSON object")
    return value, descriptors
