"""Look at the file system, and say in one string what was there.

A policy is resolved against what exists. Each look is kept as ``(path, what, value)`` in the
plan's cache entry, and a cached plan is used only while every look still gives the same value.

=========  =================================================================================
``lstat``  ``missing``, ``unreadable``, or ``KIND:UID:GID`` with KIND one of ``directory``,
           ``file``, ``device``, ``socket``, ``link:TARGET``
``file``   digest of a regular file's content; ``none`` when there is no regular file
``anchor`` ``yes`` for an empty mount point of a mask (:mod:`.launcher.anchors`), else ``no``
``glob``   digest of what a pattern matches, and of the directories that could not be listed
=========  =================================================================================

Standard library's built-ins only: this is on the path of every start.
"""

from __future__ import annotations

import os
import stat
from _blake2 import blake2b

from . import globs


def observe(path: str, what: str) -> str:
    """The present value of one observation.

    :raises ValueError: ``what`` is not one of the four kinds.
    :raises OSError: the file system failed.
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
        else:
            # Also a FIFO: it is mounted and granted like a file.
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
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return "none"
        state = blake2b(digest_size=32)
        while chunk := os.read(descriptor, 1 << 16):
            state.update(chunk)
        return str(state.hexdigest())
    finally:
        os.close(descriptor)
