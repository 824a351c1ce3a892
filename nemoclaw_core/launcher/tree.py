"""The directory tree of a view while it is put together: a tmpfs, and what is attached in it.

Everything is found by descriptor, and no symbolic link on the way is followed: not on the host,
where somebody could swap a path for one, and not in the tree, where one could lead out of it.
"""

from __future__ import annotations

import errno
import os
import stat

from . import kernel

SAFE = kernel.MOUNT_ATTR_NOSUID | kernel.MOUNT_ATTR_NODEV
_RIGHT_KIND = {
    "directory": stat.S_ISDIR,
    "file": stat.S_ISREG,
    "device": stat.S_ISCHR,
    "socket": stat.S_ISSOCK,
}
# Where the view may be put together: directories that any system has and no policy is likely to
# show. What they hold is hidden from the launcher and from no one else.
_STAGING = ("/mnt", "/media", "/srv", "/boot", "/lost+found", "/var/empty", "/sys/firmware")


class Tree:
    """The tree under construction. ``uid`` and ``gid`` own the private directories in it."""

    def __init__(self, uid: int, gid: int) -> None:
        self.uid, self.gid = uid, gid
        self.root = -1
        self.staging = ""
        self.mounted = ""
        """Where the view is attached, once it is; the launcher's clean-up detaches it."""
        self._made: set[str] = {"/"}
        self._hosted: list[str] = []
        self._private: list[str] = []

    def _begin(self, used: list[str]) -> None:
        """Cut this namespace's mounts off from the host's, and mount the empty root."""
        kernel.mount("none", "/", "none", kernel.MS_REC | kernel.MS_PRIVATE, "")
        self.staging = next(
            (
                path
                for path in _STAGING
                if os.path.isdir(path)
                and not os.path.islink(path)
                and not any(path == other or other.startswith(path + "/") for other in used)
            ),
            "",
        )
        if not self.staging:
            raise OSError(errno.ENOENT, f"there is none of {', '.join(_STAGING)} to build on")
        self.root = kernel.new_filesystem(
            "tmpfs", SAFE, (("mode", "0755"), ("size", "1048576"), ("nr_inodes", "4096"))
        )
        target = kernel.open_path(self.staging)
        kernel.move_mount(self.root, target)
        self.mounted = self.staging
        os.close(target)

    def _open_source(self, path: str, kind: str) -> int:
        descriptor = kernel.open_path(path)
        if not _RIGHT_KIND[kind](os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.ESTALE, f"{path} is no longer a {kind}")
        return descriptor

    def _copy(self, path: str, kind: str, attributes: int) -> int:
        """A detached copy of what is mounted at a host path, with attributes set."""
        source = self._open_source(path, kind)
        try:
            tree = kernel.open_tree(source)
        finally:
            os.close(source)
        kernel.mount_setattr(tree, attributes)
        return tree

    def _ensure_directory(self, path: str) -> None:
        if path in self._made:
            return
        above, name = os.path.split(path)
        self._ensure_directory(above)
        folder = self._inside(above)
        try:
            os.mkdir(name, 0o755, dir_fd=folder)
            if any(path.startswith(private + "/") for private in self._private):
                os.chown(name, self.uid, self.gid, dir_fd=folder, follow_symlinks=False)
        except FileExistsError:
            pass  # A directory, or the mount that goes there will say what it is.
        finally:
            os.close(folder)
        self._made.add(path)

    def _inside(self, path: str, *, link: bool = False) -> int:
        """A path descriptor of something in the view. No symbolic link on the way is followed:
        one with an absolute target would lead out of it, to the host."""
        name = path[1:] or "."
        return kernel.open_path(name, directory=self.root, in_root=True, link=link)

    def _hosted_by_bind(self, path: str) -> bool:
        return any(path == host or path.startswith(host + "/") for host in self._hosted)

    def _target(self, path: str, *, directory: bool, link: bool = False) -> int:
        """A path descriptor of ``path`` in the view, made first if the view's own root holds it.

        :param link: ``path`` may be a symbolic link, which is not followed.

        Below something of the host nothing is ever created: a mount point that is missing there
        stops the spawn.
        """
        if not self._hosted_by_bind(path):
            if directory:
                self._ensure_directory(path)
            else:
                above, name = os.path.split(path)
                self._ensure_directory(above)
                folder = self._inside(above)
                try:
                    flags = os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                    os.close(os.open(name, flags, 0o444, dir_fd=folder))
                finally:
                    os.close(folder)
        return self._inside(path, link=link)

    def _attach(self, tree: int, path: str, *, directory: bool, link: bool = False) -> None:
        target = self._target(path, directory=directory, link=link)
        kernel.move_mount(tree, target)
        os.close(target)

    def _link(self, path: str, text: str) -> None:
        above, name = os.path.split(path)
        self._ensure_directory(above)
        folder = self._inside(above)
        try:
            os.symlink(text, name, dir_fd=folder)
        finally:
            os.close(folder)
