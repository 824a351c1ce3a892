"""Messages between the supervisor, the launcher and a sandbox's init.

All run over AF_UNIX stream sockets made by socketpair(2). Two formats, because the two directions
are not trusted alike:

* Towards the launcher and the init (*requests*): ``marshal`` of plain values, with descriptors
  attached (SCM_RIGHTS). The sender is the supervisor, whose memory they share by fork anyway.
* From the init to the supervisor (*reports*): a fixed header and bounded text. The init lives in
  the sandbox, so the supervisor parses nothing clever that comes from there.
"""

from __future__ import annotations

import _socket
import errno
import marshal
import os
import select
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_REQUEST = 64 << 20
MAX_DESCRIPTORS = 16
_LENGTH = struct.Struct("=Q")

# Kinds of reports. `number` is the id of a command (0 = the agent) unless said otherwise.
READY = 1  # every operation was carried out; the sandbox waits for a command
STARTED = 2  # value: the agent's pid inside the sandbox
EXITED = 3  # value: status as of waitpid(2)
FAILED = 4  # number: index of the step or -1; value: errno; text: what failed
NOT_STARTED = 5  # value: errno of exec; text: the command
TERMINAL = 6  # descriptor: master of the command's pseudoterminal
CREATED = 7  # value: pid of the sandbox's init, where the launcher is
LEFT_BEHIND = 8  # text: what the launcher could not remove, a path a line
UNCOVERED = 9  # text: paths whose mounts were taken away from outside; the sandbox ends
OUT_OF_MEMORY = 10  # value: how many processes the kernel ended for the memory limit
SOCKET = 11  # descriptor: a socket born in the network namespace; text: its name
_REPORT = struct.Struct("=BiiH")
_MAX_TEXT = 4096


def pair() -> tuple[_socket.socket, _socket.socket]:
    """Two connected sockets, close-on-exec."""
    return _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)


class Peer:
    """The process at the other end of a socket: is it still there? (poll(2), POLLHUP)

    Also where it has sent requests before it died, which nobody needs to carry out any more; and
    where another process has its end of the socket by fork(2), so the process is asked for, too.

    :param pid: of that process, which is the parent of this one.
    """

    def __init__(self, sock: _socket.socket, pid: int) -> None:
        self._poll = select.poll()
        self._poll.register(sock, 0)
        self.process = -1
        """A descriptor that is readable when it has ended (pidfd_open(2)); -1 where there is none:
        before Linux 5.3, or where a container refuses the call."""
        try:
            self.process = os.pidfd_open(pid)
        except OSError:
            pass
        if self.process >= 0:
            self._poll.register(self.process, select.POLLIN)
        # A process that has ended may have left its number to another one.
        self._orphan = os.getppid() != pid

    def wait(self, seconds: float = 0.0) -> None:
        """Sleep, unless it ends meanwhile.

        :raises EOFError: it has ended.
        """
        if self._orphan or self._poll.poll(seconds * 1000):
            raise EOFError("the other end is gone")


def _read(sock: _socket.socket, size: int) -> bytes:
    parts = []
    while size:
        part = sock.recv(min(size, 1 << 20))
        if not part:
            raise EOFError("the other end closed in the middle of a message")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _attach(descriptors: tuple[int, ...]) -> list[tuple[int, int, bytes]]:
    if not descriptors:
        return []
    packed = struct.pack(f"={len(descriptors)}i", *descriptors)
    return [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, packed)]


def _detach(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    descriptors: list[int] = []
    for level, kind, data in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            count = len(data) // 4
            descriptors.extend(struct.unpack(f"={count}i", data[: count * 4]))
    return descriptors


def send_framed(sock: _socket.socket, data: bytes, descriptors: tuple[int, ...] = ()) -> None:
    """Send a message: its length, with the descriptors attached, then its bytes."""
    sock.sendmsg([_LENGTH.pack(len(data))], _attach(descriptors))
    sock.sendall(data)


def receive_framed(sock: _socket.socket, limit: int) -> tuple[bytes, list[int]]:
    """The next message of at most ``limit`` bytes, and its descriptors.

    :raises EOFError: the other end is gone.
    :raises OSError: EMSGSIZE when it is too large, or carried more descriptors than allowed.
    """
    space = _socket.CMSG_SPACE(4 * MAX_DESCRIPTORS)
    head, ancillary, flags, _ = sock.recvmsg(_LENGTH.size, space, _socket.MSG_CMSG_CLOEXEC)
    descriptors = _detach(ancillary)
    try:
        if not head:
            raise EOFError("the other end is gone")
        if flags & _socket.MSG_CTRUNC:
            raise OSError(errno.EMSGSIZE, "descriptors were lost on the way")
        head += _read(sock, _LENGTH.size - len(head))
        (size,) = _LENGTH.unpack(head)
        if size > limit:
            raise OSError(errno.EMSGSIZE, "a message is too large")
        return _read(sock, size), descriptors
    except BaseException:
        for descriptor in descriptors:
            os.close(descriptor)
        raise


def send_request(sock: _socket.socket, value: Any, descriptors: tuple[int, ...] = ()) -> None:
    """Send one request with the descriptors that go with it."""
    send_framed(sock, marshal.dumps(value), descriptors)


def receive_request(sock: _socket.socket) -> tuple[Any, list[int]]:
    """The next request and its descriptors.

    :raises EOFError: the supervisor is gone.
    """
    data, descriptors = receive_framed(sock, MAX_REQUEST)
    return marshal.loads(data), descriptors


def send_report(
    sock: _socket.socket,
    kind: int,
    number: int = 0,
    value: int = 0,
    text: str = "",
    descriptors: tuple[int, ...] = (),
) -> None:
    """Send one report."""
    data = text.encode("utf-8", "surrogateescape")[:_MAX_TEXT]
    sock.sendmsg([_REPORT.pack(kind, number, value, len(data)) + data], _attach(descriptors))


def receive_report(sock: _socket.socket) -> tuple[int, int, int, str, list[int]] | None:
    """The next report: kind, number, value, text, descriptors. None when the sandbox is gone."""
    space = _socket.CMSG_SPACE(4)
    try:
        head, ancillary, _, _ = sock.recvmsg(_REPORT.size, space, _socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:
        return None  # It ended with a request unread.
    descriptors = _detach(ancillary)
    if not head:
        return None
    head += _read(sock, _REPORT.size - len(head))
    kind, number, value, size = _REPORT.unpack(head)
    text = _read(sock, size).decode("utf-8", "replace") if size else ""
    return kind, number, value, text, descriptors
