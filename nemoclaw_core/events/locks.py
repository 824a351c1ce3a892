"""Locks on two bytes of an event log, held by an open file and not by a process.

Open file description locks (fcntl(2), ``F_OFD_SETLK``): several openings of a log exclude each
other, also within one process, and the kernel drops the locks when their holder dies. Both kinds
are byte ranges of one lock space, so they work over NFS too, where flock(2) is emulated by a lock
on the whole file and would collide with a second lock.
"""

from __future__ import annotations

import errno
import fcntl
import struct
import time

from nemoclaw_hookspecs.errors import EventLogError

APPENDING = 0
"""Byte that is locked while a record is written, or a snapshot is taken."""
OPENED = 1
"""Byte that each writer share-locks for as long as it has the log open."""

SHARED = fcntl.F_RDLCK
EXCLUSIVE = fcntl.F_WRLCK

# struct flock of a 64-bit Linux: l_type, l_whence, l_start, l_len, l_pid (0 for these locks).
_FLOCK = struct.Struct("hhqqi4x")
_REQUESTS = {
    (byte, kind): _FLOCK.pack(kind, 0, byte, 1, 0)
    for byte in (APPENDING, OPENED)
    for kind in (SHARED, EXCLUSIVE, fcntl.F_UNLCK)
}
_WAIT = 10.0


def try_lock(fd: int, byte: int, kind: int) -> bool:
    """Take or convert a lock; False if another opening of the file holds it."""
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _REQUESTS[byte, kind])
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


def lock(fd: int, byte: int, kind: int, where: str) -> None:
    """Take a lock, waiting up to 10 seconds.

    The wait has an end because a holder may be stopped (SIGSTOP) in the middle of an append.

    :raises EventLogError: it is still held by another opening, or this file system has no locks.
    """
    deadline = 0.0
    try:
        while not try_lock(fd, byte, kind):
            deadline = deadline or time.monotonic() + _WAIT
            if time.monotonic() > deadline:
                raise EventLogError(
                    f"another process has locked the event log for {_WAIT:.0f} seconds",
                    where=where,
                    remedy=f"see who has it open: fuser {where}",
                )
            time.sleep(0.0005)
    except OSError as error:
        if isinstance(error, EventLogError):
            raise
        raise EventLogError(
            f"the event log cannot be locked: {error.strerror}",
            where=where,
            remedy="keep it on a file system with locks (set XDG_STATE_HOME)",
        ) from None


def unlock(fd: int, byte: int) -> None:
    """Release a lock. Nothing happens if it is not held."""
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _REQUESTS[byte, fcntl.F_UNLCK])


def is_opened(fd: int) -> bool:
    """True while some writer has the log open. ``fd``: a reader's own descriptor of the log."""
    answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _REQUESTS[OPENED, EXCLUSIVE])
    kind: int = _FLOCK.unpack(answer)[0]
    return kind != fcntl.F_UNLCK
