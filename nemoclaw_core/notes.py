"""Files of nemoclaw's own notes: lines of a word and a path, to which lines are only ever added.

Standard library's built-ins only: this is on the path of every start.
"""

from __future__ import annotations

import os
import stat

from nemoclaw_hookspecs.errors import NemoclawError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_ADD = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def lines(path: str, owners: tuple[int, ...]) -> Iterator[tuple[str, str]]:
    """First word and path of each line; nothing when there is no such file.

    :param owners: whose file it may be; nobody else may be able to write it.
    :raises NemoclawError: it cannot be read, or relied on.
    """
    try:
        descriptor = os.open(path, _READ)
    except FileNotFoundError:
        return
    except OSError as error:
        raise NemoclawError(f"cannot be read: {error.strerror}", where=path) from None
    try:
        _check(path, descriptor, owners)
        content = b""
        while chunk := os.read(descriptor, 1 << 16):
            content += chunk
    finally:
        os.close(descriptor)
    for line in os.fsdecode(content).split("\n"):
        word, _, escaped = line.partition(" ")
        if escaped.startswith("/"):
            yield word, _unescape(escaped)


def add(path: str, entries: list[tuple[str, str]], mode: int = 0o600) -> None:
    """Add lines to a file of the caller's, made if it is missing.

    :raises NemoclawError: they could not be written whole, or the file cannot be relied on.
    :raises OSError: EROFS, where nothing can be written at all.
    """
    # A newline first: a line that a full disk cut short does not swallow the next one.
    data = os.fsencode("".join(f"\n{word} {_escape(each)}" for word, each in entries) + "\n")
    descriptor = os.open(path, _ADD, mode)
    try:
        _check(path, descriptor, (os.geteuid(),))
        if stat.S_IMODE(os.fstat(descriptor).st_mode) != mode:
            os.fchmod(descriptor, mode)  # Whatever the caller's umask.
        # One write at the end of the file: another start's lines do not get between.
        whole = os.write(descriptor, data) == len(data)
        # What the agent writes may outlive a power failure; so must this.
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if not whole:
        raise NemoclawError("cannot be written whole", where=path, remedy="make room on the disk")


def _escape(path: str) -> str:
    return path.replace("\\", "\\\\").replace("\n", "\\n")


def _unescape(text: str) -> str:
    return "\\".join(part.replace("\\n", "\n") for part in text.split("\\\\"))


def _check(path: str, descriptor: int, owners: tuple[int, ...]) -> None:
    found = os.fstat(descriptor)
    theirs = found.st_uid in owners and stat.S_ISREG(found.st_mode) and found.st_nlink == 1
    if theirs and not found.st_mode & 0o022:
        return
    if os.geteuid() in owners:
        raise NemoclawError(
            "is not a file that only you can write",
            where=path,
            remedy=f"look inside, then make it yours: chown, chmod go-w {path}",
        )
    raise NemoclawError(
        "is not a file that only root can write",
        where=path,
        remedy=f"have root look inside, then: sudo chown root {path}; sudo chmod go-w {path}",
    )
