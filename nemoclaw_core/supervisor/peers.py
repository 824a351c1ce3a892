"""Who is at the other end of a control socket: its user, or an agent of some sandbox.

An agent may have the user id of the supervisor. No sandbox shows the socket, but on a host that
cannot build a view an agent sees the host's paths. It would ask for a command in a sandbox that is
allowed more than its own, so whoever is confined more than the supervisor itself is refused.
"""

from __future__ import annotations

import _socket
import errno
import os
import select
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..egress.questions import Operator

_SO_PEERPIDFD = 77
"""Since Linux 6.5 (asm-generic/socket.h)."""


def is_trusted(sock: _socket.socket) -> bool:
    """True when the peer of a connected socket runs as this user, with no restriction of its own.

    Every sandbox has no_new_privs, and on nearly every host a seccomp filter (proc_pid_status(5)).
    Neither can be taken off, and what started this process may have put on either (a container
    mostly does), so they are compared with this process's own. Who cannot be looked at is refused:
    that is one in another PID namespace, or one that has ended.
    """
    credentials = sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
    pid, uid, _ = struct.unpack("3i", credentials)
    if uid != os.geteuid() or pid <= 0:
        return False
    try:
        pidfd = sock.getsockopt(_socket.SOL_SOCKET, _SO_PEERPIDFD)
    except OSError as error:
        if error.errno != errno.ENOPROTOOPT:
            return False  # It has ended, and its number may be another's by now.
        pidfd = -1
    try:
        theirs = _confinement(str(pid))
        if pidfd >= 0 and _has_ended(pidfd):
            return False
    except OSError:
        return False
    finally:
        if pidfd >= 0:
            os.close(pidfd)
    ours = _confinement("self")
    return theirs[0] <= ours[0] and (not theirs[0] or theirs[1] <= ours[1])


def operator(sock: _socket.socket) -> Operator:
    """Who is at the other end of a connected socket, for events."""
    from ..egress.questions import Operator

    credentials = sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
    pid, uid, _ = struct.unpack("3i", credentials)
    return Operator(uid=uid, pid=pid, command=name_of(pid))


def name_of(pid: int) -> str:
    """The name of a process, as of proc(5) ``comm``; empty when it has ended."""
    try:
        with open(f"/proc/{pid}/comm", "rb", buffering=0) as file:
            return file.readall().decode("utf-8", "replace").rstrip("\n")
    except OSError:
        return ""


def _has_ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def _confinement(process: str) -> tuple[int, int]:
    """``NoNewPrivs`` and the number of seccomp filters of a process."""
    found = {b"NoNewPrivs": 0, b"Seccomp": 0, b"Seccomp_filters": 0}
    with open(f"/proc/{process}/status", "rb", buffering=0) as file:
        for line in file.readall().split(b"\n"):
            name, _, value = line.partition(b":")
            if name in found:
                found[name] = int(value)
    return found[b"NoNewPrivs"], max(found[b"Seccomp_filters"], found[b"Seccomp"] // 2)
