"""Mount points for masks of paths that do not exist.

A policy may deny ``.git/hooks`` where there is no ``.git`` yet. A mask needs a mount point,
so an empty directory of that name is made on the host, and removed again when the launcher
ends. It is made as long as the mask must hold, because otherwise the agent could make it itself.

An agent of another sandbox may be at work in the same place. So everything is done by descriptor,
what is removed is first seen to be what was made, and which directories are anchors is written down
where no agent can write: in the registry, a private directory, as empty files named by device and
inode number.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PATIENCE = 100
"""Hundredths of a second to wait for a lock: another launcher holds it for an instant only."""


def entry(registry: str, found: os.stat_result) -> str:
    """The file that says in a registry that this directory is an anchor."""
    return f"{registry}/anchor-{found.st_dev}-{found.st_ino}"


class Anchors:
    """The directories that one launcher has made, or shares with others that need them too.

    Each is held by a lock that all its users share, so that the first one to end does not remove
    the mount point of the others.

    :param registry: the private directory; empty for none: then nothing is shared.
    """

    def __init__(self, registry: str = "") -> None:
        self._registry = registry
        self.failed_at = -1
        """Index of the step whose directory could not be made; -1 for none."""
        # Name, descriptor of the directory that it is in, and of itself; outermost first.
        self._held: list[tuple[str, int, int]] = []

    def make(self, steps: list[dict[str, Any]]) -> None:
        """Make the directories for the masks of a plan's steps.

        :raises OSError: naming the mask's path: it cannot be made there, or something other than a
            directory has taken the place since the plan was made (ENOTDIR), also a symbolic link
            (ELOOP).
        """
        for index, step in enumerate(steps):
            if step["op"] == "mask" and step["kind"] in ("missing", "directory"):
                try:
                    self._walk(step["target"], make=step["kind"] == "missing")
                except OSError as error:
                    self.failed_at = index
                    raise OSError(error.errno, error.strerror, step["target"]) from None

    def _walk(self, path: str, *, make: bool) -> None:
        """Go down to ``path``; make what is missing, and hold what is an anchor."""
        folder = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in path[1:].split("/"):
                fresh = make and self._mkdir(folder, name)
                try:
                    inner = os.open(name, _DIRECTORY, dir_fd=folder)
                except PermissionError:
                    # Passing through is enough; what cannot be read is no anchor.
                    inner = os.open(name, _DIRECTORY | os.O_PATH, dir_fd=folder)
                if fresh:
                    self._adopt(folder, inner)
                if fresh or self._is_registered(inner):
                    self._hold(name, folder, inner)
                os.close(folder)
                folder = inner
        finally:
            os.close(folder)

    def _mkdir(self, folder: int, name: str) -> bool:
        try:
            os.mkdir(name, 0o755, dir_fd=folder)
        except FileExistsError:
            return False
        return True

    def _adopt(self, folder: int, inner: int) -> None:
        """Register a new anchor and, as root, give it to its parent's owner.

        Between making and opening it an agent may have put something else in its place: only an
        empty directory of the caller's own is taken for it.
        """
        found = os.fstat(inner)
        if found.st_uid != os.geteuid() or os.listdir(inner):
            raise OSError(errno.ESTALE, "the mount point of a mask was replaced while it was made")
        if self._registry:
            path = entry(self._registry, found)
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        if os.geteuid() == 0:
            parent = os.fstat(folder)
            os.fchown(inner, parent.st_uid, parent.st_gid)

    def _is_registered(self, inner: int) -> bool:
        return bool(self._registry) and os.path.exists(entry(self._registry, os.fstat(inner)))

    def _hold(self, name: str, folder: int, inner: int) -> None:
        held = fcntl.fcntl(inner, fcntl.F_DUPFD_CLOEXEC, 3)
        for attempt in range(_PATIENCE):
            try:
                fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if attempt == _PATIENCE - 1:
                    os.close(held)
                    raise
                select.select((), (), (), 0.01)
        above = fcntl.fcntl(folder, fcntl.F_DUPFD_CLOEXEC, 3)
        self._held.append((name, above, held))

    def remove(self) -> None:
        """Remove what nobody else needs, and what nobody has put anything into."""
        for name, above, held in reversed(self._held):
            try:
                self._remove(name, above, held)
            except OSError as error:
                # Still used by another launcher, filled, moved away, or replaced: not ours to take.
                if error.errno not in _NOT_OURS:
                    raise
            finally:
                os.close(held)
                os.close(above)
        self._held.clear()

    def _remove(self, name: str, above: int, held: int) -> None:
        ours = os.fstat(held)
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        found = os.stat(name, dir_fd=above, follow_symlinks=False)
        if (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino):
            os.rmdir(name, dir_fd=above)
            if self._registry:
                os.unlink(entry(self._registry, ours))


_NOT_OURS = (errno.EAGAIN, errno.ENOTEMPTY, errno.ENOENT, errno.ENOTDIR, errno.EBUSY)
