"""Opening a sandbox's folder and the files in it, by descriptor, trusting nothing found there."""

from __future__ import annotations

import errno
import os
import stat

from nemoclaw_hookspecs.errors import EventLogError, NemoclawError

from ..names import check_name
from ..state import ensure_private, state_dir

LOG = "events.jsonl"
HEAD = "events.head"
OUTPUT = "output.log"
"""What a detached agent prints."""


def open_folder(
    sandbox: str, *, directory: str | None = None, create: bool = False
) -> tuple[int, str]:
    """Open the folder of ``sandbox`` and return its descriptor and path.

    :param directory: what holds the folders; ``state_dir()`` if None.
    :param create: make both if they are missing, with mode 0700.
    :raises UsageError: ``sandbox`` cannot be a name.
    :raises FileNotFoundError: there is none, and ``create`` is false.
    :raises EventLogError: it is a symbolic link, or no directory, or not the caller's alone.
    """
    check_name(sandbox)
    base = state_dir() if directory is None else directory
    path = os.path.join(base, sandbox)
    if create:
        try:
            ensure_private(base)
        except NemoclawError as error:
            raise EventLogError(
                f"the event log cannot be opened: {error.what}", where=path, remedy=error.remedy
            ) from None
    above = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if create:
            try:
                os.mkdir(sandbox, 0o700, dir_fd=above)
            except FileExistsError:
                pass  # what is there is judged below, by its descriptor
            except OSError as error:
                raise EventLogError(f"cannot make it: {error.strerror}", where=path) from None
        try:
            fd = os.open(
                sandbox,
                os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC,
                dir_fd=above,
            )
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise EventLogError(
                    "a symbolic link or a file stands where the sandbox's folder should be",
                    where=path,
                    remedy=f"remove {path}, or choose another name for the sandbox",
                ) from None
            raise
    finally:
        os.close(above)
    try:
        _refuse_foreign(os.fstat(fd), path)
    except BaseException:
        os.close(fd)
        raise
    return fd, path


def open_file(folder: int, name: str, flags: int, path: str) -> int:
    """Open (or, with ``O_CREAT``, make with mode 0600) a regular file of a sandbox's folder.

    :param path: its path, for messages.
    :raises FileNotFoundError: there is none.
    :raises EventLogError: it is a link, not a regular file, or not the caller's alone.
    """
    try:
        # O_NONBLOCK: opening a FIFO that somebody put there must not hang.
        fd = os.open(
            name,
            flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY,
            0o600,
            dir_fd=folder,
        )
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise EventLogError("not a regular file", where=path, remedy=f"remove {path}") from None
        raise
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            raise EventLogError(
                "not a regular file of one name", where=path, remedy=f"remove {path}"
            )
        _refuse_foreign(found, path)
    except BaseException:
        os.close(fd)
        raise
    return fd


def open_for_writing(sandbox: str, directory: str | None) -> tuple[int, int, str]:
    """Descriptors of a sandbox's log and of its head, both made if missing, and the log's path.

    :raises EventLogError: they cannot be opened, or are not the caller's alone.
    """
    path = sandbox
    opened = []
    try:
        folder, path = open_folder(sandbox, directory=directory, create=True)
        opened.append(folder)
        log = open_file(folder, LOG, os.O_RDWR | os.O_CREAT | os.O_APPEND, f"{path}/{LOG}")
        opened.append(log)
        head = open_file(folder, HEAD, os.O_RDWR | os.O_CREAT, f"{path}/{HEAD}")
    except OSError as error:
        for descriptor in opened:
            os.close(descriptor)
        if isinstance(error, EventLogError):
            raise
        raise EventLogError(
            f"the event log cannot be opened: {error.strerror}", where=path, remedy=remedy(error)
        ) from None
    os.close(folder)
    return log, head, f"{path}/{LOG}"


def remedy(error: OSError) -> str | None:
    """What a person can do about a failed write, if it can be told."""
    return "free some disk space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else None


def _refuse_foreign(found: os.stat_result, path: str) -> None:
    if found.st_uid != os.geteuid():
        raise EventLogError(
            f"belongs to uid {found.st_uid}, not to you",
            where=path,
            remedy="choose another name for the sandbox, or chown it after looking inside",
        )
    if found.st_mode & 0o022:
        raise EventLogError(
            "can be written by others",
            where=path,
            remedy=f"chmod go-w {path}, after looking inside",
        )
