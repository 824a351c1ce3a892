"""Disk space ahead of the log's end, so that the last records fit when the disk is full.

fallocate(2) with ``FALLOC_FL_KEEP_SIZE`` allocates blocks without growing the file: readers see
nothing of it. ``os.posix_fallocate`` would grow it, hence ctypes.
"""

from __future__ import annotations

import ctypes
import errno
import os

_KEEP_SIZE = 1
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_UNABLE = (errno.EOPNOTSUPP, errno.ENOSYS)

_libc = ctypes.CDLL(None, use_errno=True)
_fallocate = _libc.fallocate64 if hasattr(_libc, "fallocate64") else _libc.fallocate
_fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
_fallocate.restype = ctypes.c_int


def reserve(fd: int, offset: int, length: int) -> bool | None:
    """Allocate ``length`` bytes from ``offset`` on.

    :returns: True when they are allocated, False when the disk or quota is full, None when this
        file system cannot reserve (NFS, ZFS, some FUSE).
    :raises OSError: any other error of fallocate(2).
    """
    while _fallocate(fd, _KEEP_SIZE, offset, length) != 0:
        code = ctypes.get_errno()
        if code in _FULL:
            return False
        if code in _UNABLE:
            return None
        if code != errno.EINTR:
            raise OSError(code, os.strerror(code))
    return True
