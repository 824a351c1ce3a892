"""The file that a process executes: where it lies, which file it is, and what is in it."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping

import attrs

from .digests import Digests, Unhashed, Version, digest, version_of


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
        self.digests = Digests()

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

    def digest(
        self, directory: int, name: str, expected: Executable, made: Mapping[Version, str] | None
    ) -> str:
        """SHA-256 of an executable's content, in hexadecimal.

        Empty if it may not be read, or is no longer the file that is expected.

        :param made: digests that were just made; None: make it here, which takes its time.
        :raises Unhashed: it is in none of them, and not remembered.
        """
        try:
            descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
        except OSError:
            return ""
        try:
            status = os.fstat(descriptor)
            if (status.st_dev, status.st_ino) != (expected.device, expected.inode):
                return ""
            version = version_of(status)
            found = self.digests.known(version)
            if found is None and made is not None:
                found = made.get(version)
                if found is None:
                    raise Unhashed(os.dup(descriptor), version)
            if found is None:
                found = digest(descriptor)
                self.digests.remember(version, found)
            return found
        except OSError:
            return ""
        finally:
            os.close(descriptor)


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
