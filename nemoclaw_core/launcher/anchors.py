"""Mount points for masks of paths that do not exist.

A policy may deny ``.git/hooks`` where there is no ``.git`` yet. A mask needs a mount point,
so an empty directory of that name is made on the host, and removed again when the launcher
ends. It is made as long as the mask must hold, because otherwise the agent could make it itself.
"""

from __future__ import annotations

import errno
import fcntl
import os

from . import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MARK = "user.nemoclaw.anchor"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Anchors:
    """The directories that one launcher has made, or shares with others that need them too.

    Each is marked by an extended attribute and held by a lock that all its users share, so that
    the first one to end does not remove the mount point of the others.
    """

    def __init__(self) -> None:
        self._held: list[tuple[str, int]] = []

    def make(self, steps: list[dict[str, Any]]) -> None:
        """Make the directories for the masks of a plan's steps.

        :raises OSError: something other than a directory has taken the place since the plan was
            made (ENOTDIR), also a symbolic link (ELOOP).
        """
        for step in steps:
            if step["op"] != "mask":
                continue
            if step["kind"] == "missing":
                self._make(step["target"])
            elif step["kind"] == "directory":
                self._share(step["target"])

    def _make(self, path: str) -> None:
        folder = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        walked = ""
        fresh = False
        names = path[1:].split("/")
        for index, name in enumerate(names):
            walked = f"{walked}/{name}"
            try:
                fresh = self._enter(folder, name) or fresh
                # The parents that were there may be closed to us for reading; passing is enough.
                mine = fresh or index == len(names) - 1
                inner = os.open(name, _DIRECTORY | (0 if mine else os.O_PATH), dir_fd=folder)
            finally:
                os.close(folder)
            folder = inner
            if mine:
                self._hold(walked, folder)
        os.close(folder)

    def _share(self, path: str) -> None:
        """Hold a directory that exists, if it is the anchor of another launcher."""
        while path != "/":
            try:
                folder = kernel.open_path(path)
            except OSError:
                return  # Not to be entered, or gone: no anchor of ours.
            try:
                inner = os.open(f"/proc/self/fd/{folder}", os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                return
            finally:
                os.close(folder)
            try:
                os.getxattr(inner, _MARK)
                self._hold(path, inner)
            except OSError:
                return  # Somebody's own directory.
            finally:
                os.close(inner)
            path = os.path.dirname(path)

    def _enter(self, folder: int, name: str) -> bool:
        """Make a directory if it is missing; True if it was."""
        try:
            os.mkdir(name, 0o755, dir_fd=folder)
        except FileExistsError:
            return False
        try:
            os.setxattr(f"/proc/self/fd/{folder}/{name}", _MARK, b"1", follow_symlinks=False)
        except OSError as error:
            # A file system without extended attributes: then only this launcher knows.
            if error.errno not in (errno.ENOTSUP, errno.EPERM, errno.ENOSPC):
                raise
        if os.geteuid() == 0:
            # Like its parent: the work directory of a user for whom root runs the agent.
            parent = os.fstat(folder)
            os.chown(name, parent.st_uid, parent.st_gid, dir_fd=folder, follow_symlinks=False)
        return True

    def _hold(self, path: str, descriptor: int) -> None:
        held = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
        fcntl.flock(held, fcntl.LOCK_SH)
        self._held.append((path, held))

    def remove(self) -> None:
        """Remove what nobody else needs, and what nobody has put anything into."""
        for path, descriptor in sorted(self._held, reverse=True):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.rmdir(path)
            except BlockingIOError:
                pass  # Another launcher still needs it, and will remove it.
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.ENOENT):
                    raise
            finally:
                os.close(descriptor)
        self._held.clear()
