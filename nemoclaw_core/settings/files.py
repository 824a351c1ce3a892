"""Files that settings are in, or name: only such as nobody but the user can have written."""

from __future__ import annotations

import os
import stat

from nemoclaw_hookspecs.errors import PolicyError

from .. import state, trust, written

LARGEST = 1 << 20
"""Bytes. The system's own file of certificate authorities has a fifth of that."""


def read(path: str, *, own: bool = False, secret: bool = False) -> tuple[bytes, int]:
    """The content of a file, and its mode.

    :param own: it lies in nemoclaw's own directory, which no sandbox can see.
    :param secret: nobody else may even read it.
    :raises PolicyError: it cannot be read, belongs to another user, others can write it, or an
        agent can have written it, or a link on the way.
    """
    if not path.startswith("/"):
        raise PolicyError("is not an absolute path", where=path, remedy="write it from / on")
    way = trust.Way(path)
    real, planted = way.path, way.planted()
    reason = planted[1] if planted is not None else ""
    if not reason and not (own and _is_walled(os.path.dirname(real))):
        root = written.Roots().around(real)
        reason = f"a sandbox could write to {root}" if root is not None else ""
    if reason:
        raise PolicyError(
            f"is not used: {reason}", where=path, remedy="keep it where no agent can write"
        )
    try:
        # Without a link any more. O_NONBLOCK: a FIFO must not hang the start.
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(real, flags)
    except OSError as error:
        raise PolicyError(f"cannot be read: {error.strerror}", where=path) from None
    try:
        found = os.fstat(descriptor)
        _check(path, found, secret=secret)
        content = b""
        while len(content) <= LARGEST and (chunk := os.read(descriptor, LARGEST + 1)):
            content += chunk
    finally:
        os.close(descriptor)
    if len(content) > LARGEST:
        raise PolicyError("is larger than 1 MiB", where=path, remedy="is it the right file?")
    return content, found.st_mode


def _is_walled(folder: str) -> bool:
    # Elsewhere, only those starts knew of it that had the same XDG_CONFIG_HOME.
    usual = state.usual_dirs(state.home())
    own = os.path.realpath(state.config_dir())
    return folder == own and folder in map(os.path.realpath, usual)


def _check(path: str, found: os.stat_result, *, secret: bool) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise PolicyError("is not a regular file", where=path)
    # The owner of `/` is the machine's root, also where a user namespace shows it as nobody.
    if found.st_uid not in (0, os.getuid(), os.stat("/").st_uid):
        raise PolicyError(
            f"belongs to user {found.st_uid}, so it is not used",
            where=path,
            remedy=f"read it, then: sudo chown {os.getuid()} {path}",
        )
    if found.st_mode & 0o022:
        raise PolicyError(
            "others can write it, so it is not used",
            where=path,
            remedy=f"read it, then: chmod go-w {path}",
        )
    if secret and found.st_mode & 0o044:
        raise PolicyError(
            "holds a password, and others can read it", where=path, remedy=f"chmod go-r {path}"
        )
