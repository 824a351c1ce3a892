"""The client's end of a control socket: find a sandbox, ask it something, read what it answers.

Modules that cost time are imported when something is asked.
"""

from __future__ import annotations

import _socket
import os
import time

from nemoclaw_hookspecs.errors import NemoclawError, UsageError

from ..launcher import wire
from ..state import runtime_dir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MAX_REQUEST = 4 << 20
_PATIENCE = 15.0
"""Seconds that a supervisor may take to answer."""


def socket_path(name: str) -> str:
    """Where the sandbox of that name listens."""
    return os.path.join(runtime_dir(), f"{name}.sock")


class Folder:
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
        with Folder() as folder:
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
        with Folder() as folder:
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


def request(name: str, what: dict[str, Any]) -> dict[str, Any]:
    """Ask the sandbox of that name something, and wait for the answer.

    :raises UsageError: no such sandbox is running, or what was asked cannot be done.
    :raises NemoclawError: it does not answer, or refuses to.
    """
    sock = connect(name)
    sock.settimeout(_PATIENCE)
    try:
        ask(sock, what)
        answer, _ = receive_json(sock)
    except (OSError, EOFError):
        raise NemoclawError(
            f"the supervisor of {name} does not answer",
            remedy=f"`nemoclaw logs {name}` says whether it has done what was asked; try again",
        ) from None
    finally:
        sock.close()
    if "error" in answer:
        error = UsageError if answer.get("exit") == UsageError.exit_code else NemoclawError
        raise error(str(answer["error"]))
    return answer
