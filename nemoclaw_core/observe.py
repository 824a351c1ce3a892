"""Look at the file system, and say in one string what was there.

A policy is resolved against what exists. Each look is kept as ``(path, what, value)`` in the
plan's cache entry, and a cached plan is used only while every look still gives the same value.

==========  ================================================================================
``lstat``  ``missing``, ``unreadable``, or ``KIND:UID:GID`` with KIND one of ``directory``,
           ``file``, ``fifo``, ``device``, ``socket``, ``link:TARGET``
``file``   digest of a regular file's content; ``none`` when there is no regular file;
           ``large:SIZE:INODE:MTIME`` beyond 1 MiB: agents can make files of any size
``anchor`` ``yes`` for an empty mount point of a mask (:mod:`.launcher.anchors`), else ``no``
``glob``   digest of what a pattern matches, and of the directories that could not be listed
``agents`` the directory at or above the path that a sandbox could write (:mod:`.written`), or
           ``none``
==========  ================================================================================

Standard library's built-ins only: this is on the path of every start.
"""

from __future__ import annotations

import os
import stat
from _blake2 import blake2b

from . import globs

LARGEST = 1 << 20
"""Bytes. A policy is written by hand; a file beyond this is something else."""


def observe(path: str, what: str) -> str:
    """The present value of one observation.

    :raises ValueError: ``what`` is not one of these kinds.
    :raises OSError: the file system failed.
    :raises NemoclawError: nemoclaw's own notes cannot be relied on.
    """
    if what == "lstat":
        return _lstat(path)
    if what == "file":
        return _file(path)
    if what == "anchor":
        from .launcher.anchors import is_empty_anchor

        return "yes" if is_empty_anchor(path) else "no"
    if what == "glob":
        unlistable: list[str] = []
        return digest_paths(globs.expand(path, unlistable), unlistable)
    if what == "agents":
        from .written import Roots

        return Roots().around(path) or "none"
    raise ValueError(f"no such observation: {what!r}")


def digest(content: bytes) -> str:
    """BLAKE2b-256 in hexadecimal."""
    return str(blake2b(content, digest_size=32).hexdigest())


def digest_paths(paths: list[str], unlistable: list[str]) -> str:
    """Digest of a pattern's matches. No file name holds NUL, so nothing can pose as two."""
    text = "\0".join([*paths, "\0", *sorted(unlistable)])
    return digest(os.fsencode(text))


def _lstat(path: str) -> str:
    try:
        found = os.lstat(path)
        mode = found.st_mode
        if stat.S_ISDIR(mode):
            kind = "directory"
        elif stat.S_ISLNK(mode):
            kind = f"link:{os.readlink(path)}"
        elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            kind = "device"
        elif stat.S_ISSOCK(mode):
            kind = "socket"
        elif stat.S_ISFIFO(mode):
            kind = "fifo"
        else:
            kind = "file"
    except (FileNotFoundError, NotADirectoryError):
        return "missing"
    except OSError:
        return "unreadable"
    return f"{kind}:{found.st_uid}:{found.st_gid}"


def _file(path: str) -> str:
    try:
        # A FIFO in the file's place must not block the start.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return "none"
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            return "none"
        if found.st_size <= LARGEST:
            state = blake2b(digest_size=32)
            size = 0
            # It may grow meanwhile.
            while size <= LARGEST and (chunk := os.read(descriptor, 1 << 16)):
                size += len(chunk)
                state.update(chunk)
            if size <= LARGEST:
                return str(state.hexdigest())
        found = os.fstat(descriptor)
        return f"large:{found.st_size}:{found.st_ino}:{found.st_mtime_ns}"
    finally:
        os.close(descriptor)
