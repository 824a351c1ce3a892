"""Put new content into a policy file: whole, with the file's owner and mode as they were."""

from __future__ import annotations

import os
import stat

from nemoclaw_hookspecs.errors import UsageError

from nemoclaw_core.observe import digest


def replace(path: str, known: str, content: bytes, *, in_place: bool) -> str:
    """Replace what a file holds.

    :param path: without symbolic links.
    :param known: digest of what it holds now.
    :param in_place: keep the file itself. Otherwise another one takes its name, so that nobody ever
        reads half of it; but a sandbox that covers the file in its view would lose the cover.
    :returns: the digest of the new content.
    :raises UsageError: it is not the caller's own, cannot be written, or holds something else.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise UsageError(
            f"cannot be written: {error.strerror}",
            where=path,
            remedy="give yourself access to it, or write the rule into a policy of your own",
        ) from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            raise UsageError(
                "is not a file of yours",
                where=path,
                remedy="write a policy of your own that extends it, and start with that one",
            )
        held = _read(descriptor)
        if digest(held) != known:
            raise UsageError("was changed a moment ago", where=path, remedy="try again")
        # Other names of the file, and what only some file systems keep beside its content, stay.
        if in_place or found.st_nlink > 1 or os.listxattr(descriptor):
            _overwrite(descriptor, content)
        else:
            _take_its_name(path, found, content)
    finally:
        os.close(descriptor)
    return digest(content)


def _read(descriptor: int) -> bytes:
    content = b""
    while chunk := os.read(descriptor, 1 << 16):
        content += chunk
    return content


def _overwrite(descriptor: int, content: bytes) -> None:
    written = 0
    while written < len(content):
        written += os.pwrite(descriptor, content[written:], written)
    os.ftruncate(descriptor, len(content))
    os.fsync(descriptor)


def _take_its_name(path: str, found: os.stat_result, content: bytes) -> None:
    new = f"{path}.{os.getpid()}.new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(new, flags, 0o600)
        try:
            if os.fstat(descriptor).st_gid != found.st_gid:
                os.fchown(descriptor, -1, found.st_gid)
            os.fchmod(descriptor, stat.S_IMODE(found.st_mode))
            _overwrite(descriptor, content)
            os.rename(new, path)
        except BaseException:
            os.unlink(new)
            raise
        finally:
            os.close(descriptor)
        folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise UsageError(
            f"cannot be replaced: {error.strerror}",
            where=path,
            remedy="make room, and see that you may write in its directory",
        ) from None
