"""Open a policy file: only one that nobody else can have written."""

from __future__ import annotations

import os
import stat

from nemoclaw_hookspecs import PolicyError

from nemoclaw_core.observe import LARGEST, digest

SHIPPED = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "policies.toml")
"""The policies that come with nemoclaw."""


def read_file(path: str, uid: int, *, names: bool = True) -> tuple[bytes, str]:
    """The content of a policy file and the digest of it.

    :param uid: the caller; the file must be theirs or root's.
    :param names: whoever named the file could have named a policy instead, for the remedy.
    :raises PolicyError: missing, unreadable, not a regular file, too large, or not trustworthy.
    """
    try:
        # Not O_NOFOLLOW: people keep their configuration behind links, and whoever could plant a
        # link could not make its target theirs. O_NONBLOCK: a FIFO must not hang the start.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        folder = os.path.dirname(path) or "."
        raise PolicyError(
            "there is no such policy file",
            where=path,
            remedy=_what_else(path, names)
            if os.path.isdir(folder)
            else f"check the path: there is no directory {folder}",
        ) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise PolicyError(
            f"cannot be read: {reason}",
            where=path,
            remedy="see that you may read it, and enter every directory above it (ls -ld)",
        ) from None
    try:
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            raise PolicyError(
                "is a directory, not a policy file",
                where=path,
                remedy=f"name a file, for instance {os.path.join(path, 'policies.toml')}",
            )
        if not stat.S_ISREG(found.st_mode):
            raise PolicyError(
                "is not a regular file", where=path, remedy="name a file that holds the policy"
            )
        _trusted(path, found, uid)
        content = b""
        while len(content) <= LARGEST and (chunk := os.read(descriptor, LARGEST + 1)):
            content += chunk
    except OSError as error:
        if isinstance(error, PolicyError):
            raise
        raise PolicyError(f"cannot be read: {error.strerror}", where=path) from None
    finally:
        os.close(descriptor)
    if len(content) > LARGEST:
        raise PolicyError("is larger than 1 MiB", where=path, remedy="is it a policy file?")
    return content, digest(content)


def _what_else(path: str, names: bool) -> str:
    if os.path.islink(path):
        return f"it is a link that leads nowhere: mend or remove it (it says {os.readlink(path)})"
    if not names:
        return "check the path: what is asked for here is a file, and not a policy's name"
    return "check the path; a policy that ships is named without one: readonly"


def _trusted(path: str, found: os.stat_result, uid: int) -> None:
    # The owner of `/` is the machine's root, also where a user namespace shows it as nobody.
    if found.st_uid not in (0, uid, os.stat("/").st_uid):
        raise PolicyError(
            f"belongs to user {found.st_uid}, so it is not used: whoever owns it sets the walls",
            where=path,
            remedy=f"read it, then: sudo chown {uid} {path}",
        )
    if found.st_mode & stat.S_IWOTH:
        raise PolicyError(
            "anybody can write it, so it is not used",
            where=path,
            remedy=f"read it, then: chmod o-w {path}",
        )
