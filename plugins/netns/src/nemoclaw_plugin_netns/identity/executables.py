"""The file that a process executes: where it lies, which file it is, and what is in it."""

from __future__ import annotations

import hashlib
import os
import stat
import time

import attrs

_CACHED = 256
_CHUNK = 1 << 20
_SETTLED_NS = 2_000_000_000
"""A file that changed later than this ago may change again within one tick of its time stamps."""


@attrs.frozen(slots=True)
class Executable:
    """A file that some process executes."""

    path: str
    """As seen inside the sandbox."""
    device: int
    inode: int


class Executables:
    """Reads /proc/PID/exe, and remembers the digests of files."""

    def __init__(self) -> None:
        self._digests: dict[tuple[int, ...], str] = {}

    def read(self, directory: int, name: str) -> Executable | None:
        """The executable behind a link.

        :param directory: descriptor of a directory of proc(5), and
        :param name: of the link in it, such as ``exe``.
        :returns: None where its path says nothing: a file that was deleted or replaced, a memory
            file, or one that another file of the host hides.
        :raises OSError: there is no such process any more, or it may not be looked at.
        """
        descriptor = os.open(name, os.O_PATH | os.O_CLOEXEC, dir_fd=directory)
        try:
            return _named(descriptor)
        finally:
            os.close(descriptor)

    def same(self, directory: int, name: str, expected: Executable) -> bool:
        """Whether a link still leads to that file.

        :raises OSError: there is no such process any more.
        """
        status = os.stat(name, dir_fd=directory)
        return (status.st_dev, status.st_ino) == (expected.device, expected.inode)

    def digest(self, directory: int, name: str, expected: Executable) -> str:
        """SHA-256 of an executable's content, in hexadecimal.

        Empty if it may not be read, or is no longer the file that is expected.
        """
        try:
            descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
        except OSError:
            return ""
        try:
            before = os.fstat(descriptor)
            if (before.st_dev, before.st_ino) != (expected.device, expected.inode):
                return ""
            key = _version(before)
            known = self._digests.get(key)
            if known is not None:
                return known
            digest = hashlib.sha256()
            while chunk := os.read(descriptor, _CHUNK):
                digest.update(chunk)
            if _version(os.fstat(descriptor)) != key:
                return ""
        except OSError:
            return ""
        finally:
            os.close(descriptor)
        if time.time_ns() - before.st_ctime_ns > _SETTLED_NS:
            while len(self._digests) >= _CACHED:
                del self._digests[next(iter(self._digests))]
            self._digests[key] = digest.hexdigest()
        return digest.hexdigest()


def _version(status: os.stat_result) -> tuple[int, ...]:
    return (
        status.st_dev,
        status.st_ino,
        status.st_ctime_ns,
        status.st_mtime_ns,
        status.st_size,
    )


def _named(descriptor: int) -> Executable | None:
    status = os.fstat(descriptor)
    # The kernel names a file as the process's own mount namespace does (d_path).
    path = os.readlink(f"/proc/self/fd/{descriptor}")
    if not status.st_nlink or path.endswith(" (deleted)") or path[:1] != "/":
        return None
    if not stat.S_ISREG(status.st_mode) or not path.isprintable():
        return None
    try:
        shown = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        pass  # A file in a place that the sandbox has for itself, such as its /tmp.
    except OSError:
        return None
    else:
        # A mount of the agent's own, if it could make one, would put its file under any name.
        if (shown.st_dev, shown.st_ino) != (status.st_dev, status.st_ino):
            return None
    return Executable(path, status.st_dev, status.st_ino)
