"""Assemble the agent's view of the file system and make it the root.

The view is a new tmpfs. Everything in it was asked for by an operation; what no operation names
does not exist. Sources on the host are opened by descriptor without following symbolic links, and
targets are opened inside the view the same way, so a path that somebody swaps for a link stops the
spawn and can never point a mount elsewhere.

It is built in two parts. What is the same for every sandbox of a plan is mounted once, by the
launcher, in a mount namespace of its own (:meth:`View.prepare`); a sandbox gets a copy of that with
its clone(2). What each sandbox has for itself (its tmpfs, proc, devpts, and whatever lies below
those) is mounted by its init (:meth:`View.complete`).
"""

from __future__ import annotations

import errno
import os
import stat

from . import kernel
from .covers import cover
from .sockets import Found

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_SAFE = kernel.MOUNT_ATTR_NOSUID | kernel.MOUNT_ATTR_NODEV
_PRIVATE = kernel.MOUNT_ATTR_NOSUID | kernel.MOUNT_ATTR_NOEXEC
# On a device file: open(2) gives EACCES to everybody.
_CLOSED = _SAFE | kernel.MOUNT_ATTR_NOEXEC | kernel.MOUNT_ATTR_RDONLY
_RIGHT_KIND = {
    "directory": stat.S_ISDIR,
    "file": stat.S_ISREG,
    "device": stat.S_ISCHR,
    "socket": stat.S_ISSOCK,
}


VIEW_OPERATIONS = (
    "bind_mount", "tmpfs", "directory", "symlink", "file_mount", "mask", "proc", "devices",
)  # fmt: skip
# Where the view may be put together: directories that any system has and no policy is likely to
# show. What they hold is hidden from the launcher and from no one else.
_STAGING = ("/mnt", "/media", "/srv", "/boot", "/lost+found", "/var/empty", "/sys/firmware")
_OWN = ("tmpfs", "proc")


def split(steps: list[dict[str, Any]]) -> tuple[list[int], list[int]]:
    """Indices of the mount steps that all sandboxes share, and of those that each has alone."""
    shared: list[int] = []
    own: list[int] = []
    private: list[str] = []
    for index, step in enumerate(steps):
        target = step.get("target", "/")
        if step["op"] in _OWN and not step.get("read_only", False):
            private.append(target)
        if any(target == path or target.startswith(path + "/") for path in private):
            own.append(index)
        elif step["op"] in VIEW_OPERATIONS:
            shared.append(index)
    return shared, own


class View:
    """The tree under construction. ``uid`` and ``gid`` own the private directories in it."""

    def __init__(self, uid: int, gid: int, idmaps: dict[tuple[int, int], int]) -> None:
        self.uid, self.gid = uid, gid
        self.owner = (("uid", str(uid)), ("gid", str(gid)))
        self.idmaps = idmaps
        self.root = -1
        self.staging = ""
        self.mounted = ""
        """Where the view is attached, once it is; the launcher's clean-up detaches it."""
        self._made: set[str] = {"/"}
        self._hosted: list[str] = []
        self._private: list[str] = []
        self._close_later: list[int] = []
        self._devices: list[tuple[str, int]] = []
        self.foreign: Callable[[], Found] = Found
        """Finds the sockets of the host's programs, to be covered in the next sandbox."""
        self.failed_at = -1

    def prepare(self, steps: list[dict[str, Any]], avoid: list[str]) -> None:
        """Build what all sandboxes share. In the launcher, in a new mount namespace.

        :param avoid: paths that must stay in the launcher's sight.
        """
        shared, own = split(steps)
        used = [*avoid, *(step["source"] for step in steps if step["op"] == "bind_mount")]
        self._begin(used)
        for index in shared:
            self.failed_at = index
            getattr(self, steps[index]["op"])(steps[index])
        reserved: list[str] = []
        for index in own:
            self.failed_at = index
            target = steps[index]["target"]
            if not any(target.startswith(path + "/") for path in reserved):
                self._ensure_directory(target)
                reserved.append(target)
        for tree in self._close_later:
            kernel.mount_setattr(tree, kernel.MOUNT_ATTR_RDONLY, recursive=False)
            os.close(tree)
        kernel.mount_setattr(self.root, kernel.MOUNT_ATTR_RDONLY, recursive=False)
        os.close(self.root)
        self.root = -1

    def complete(self, steps: list[dict[str, Any]], *, nested: bool) -> None:
        """Add what a sandbox has for itself, and make the view the root. In its init.

        :param nested: the mount namespace belongs to a user namespace of the sandbox's own. Then
            the mounts that it was given are locked in place (mount_namespaces(7)), and the root is
            to be a copy of them.
        """
        self.root = kernel.open_path(self.staging)
        if nested:
            tree = kernel.open_tree(self.root)
            kernel.move_mount(tree, self.root)
            os.close(self.root)
            self.root = tree
        for index in split(steps)[1]:
            self.failed_at = index
            getattr(self, steps[index]["op"])(steps[index])
        for base, shm_size in self._devices:
            self._own_devices(base, shm_size)
        self.failed_at = -1
        cover(self.root, steps, self.foreign())
        os.fchdir(self.root)
        kernel.pivot_root(".", ".")
        kernel.detach(".")
        os.chdir("/")
        os.close(self.root)

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
            "tmpfs", _SAFE, (("mode", "0755"), ("size", "1048576"), ("nr_inodes", "4096"))
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

    def bind_mount(self, step: dict[str, Any]) -> None:
        """Show a host path."""
        source = self._open_source(step["source"], step["kind"])
        tree = kernel.open_tree(source)
        os.close(source)
        attributes = kernel.MOUNT_ATTR_NOSUID
        if step["kind"] == "device":
            attributes |= kernel.MOUNT_ATTR_NOEXEC
        else:
            attributes |= kernel.MOUNT_ATTR_NODEV
        if step["read_only"] or step["kind"] == "device":
            attributes |= kernel.MOUNT_ATTR_RDONLY
        if step["owner"] is None:
            kernel.mount_setattr(tree, attributes)
        else:
            userns = self.idmaps[tuple(step["owner"])]
            kernel.mount_setattr(tree, attributes | kernel.MOUNT_ATTR_IDMAP, userns=userns)
        self._attach(tree, step["target"], directory=step["kind"] == "directory")
        os.close(tree)
        self._hosted.append(step["target"])

    def tmpfs(self, step: dict[str, Any]) -> None:
        """An empty private directory."""
        options: tuple[tuple[str, str], ...] = (("mode", f"{step['mode']:o}"), *self.owner)
        if step["size"]:
            options = (*options, ("size", str(step["size"])))
        attributes = _SAFE | (kernel.MOUNT_ATTR_RDONLY if step["read_only"] else 0)
        tree = kernel.new_filesystem("tmpfs", attributes, options)
        self._attach(tree, step["target"], directory=True)
        os.close(tree)
        self._private.append(step["target"])

    def directory(self, step: dict[str, Any]) -> None:
        """An empty directory of the root itself. Nothing is ever made in what the host shows."""
        if self._hosted_by_bind(step["target"]):
            raise OSError(errno.EEXIST, f"{step['target']} lies in a directory of the host")
        self._ensure_directory(step["target"])

    def symlink(self, step: dict[str, Any]) -> None:
        """A symbolic link of the root itself; where the host shows one already, it must agree."""
        target = step["target"]
        if self._hosted_by_bind(target):
            link = self._inside(target, link=True)
            text = os.readlink("", dir_fd=link)
            os.close(link)
            if text != step["text"]:
                raise OSError(errno.ESTALE, f"{target} no longer links to {step['text']}")
            return
        self._link(target, step["text"])

    def _link(self, path: str, text: str) -> None:
        above, name = os.path.split(path)
        self._ensure_directory(above)
        folder = self._inside(above)
        try:
            os.symlink(text, name, dir_fd=folder)
        finally:
            os.close(folder)

    def file_mount(self, step: dict[str, Any]) -> None:
        """A small read-only file, bound over whatever is there."""
        name = ".nemoclaw-file"
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
        descriptor = os.open(name, flags, 0o444, dir_fd=self.root)
        os.write(descriptor, step["content"].encode())
        os.close(descriptor)
        source = kernel.open_path(name, directory=self.root, in_root=True)
        tree = kernel.open_tree(source)
        kernel.mount_setattr(tree, _CLOSED)
        # Where the host has a symbolic link there, it is the link that is covered.
        self._attach(tree, step["target"], directory=False, link=True)
        os.close(tree)
        os.close(source)
        # The mount keeps the file alive; its name in the root goes.
        os.unlink(name, dir_fd=self.root)

    def mask(self, step: dict[str, Any]) -> None:
        """Cover a path: a directory by an empty read-only one, a file by one nobody can open."""
        if step["kind"] == "file":
            tree = self._copy("/dev/null", "device", _CLOSED)
            # A denied link is covered itself: what it leads to is denied by a rule of its own.
            self._attach(tree, step["target"], directory=False, link=True)
        else:
            options = (("mode", "0555"), ("nr_inodes", "2"))
            tree = kernel.new_filesystem("tmpfs", _CLOSED, options)
            self._attach(tree, step["target"], directory=True)
        os.close(tree)

    def proc(self, step: dict[str, Any]) -> None:
        """The sandbox's own proc, read-only: no sysctl, no uid_map, no sysrq to write."""
        tree = kernel.new_filesystem("proc", _CLOSED)
        self._attach(tree, step["target"], directory=True)
        os.close(tree)
        self._hosted.append(step["target"])
        for name in step["masked"]:
            try:
                target = self._target(f"{step['target']}/{name}", directory=False)
            except FileNotFoundError:
                continue  # A kernel without that file has nothing to hide.
            tree = self._copy("/dev/null", "device", _CLOSED)
            kernel.move_mount(tree, target)
            os.close(tree)
            os.close(target)

    def devices(self, step: dict[str, Any]) -> None:
        """A small /dev: named devices and the customary links; pts and shm come later."""
        base = step["target"]
        tree = kernel.new_filesystem(
            "tmpfs", _PRIVATE | kernel.MOUNT_ATTR_NODEV, (("mode", "0755"), ("size", "65536"))
        )
        self._attach(tree, base, directory=True)
        for name in step["names"]:
            # Read-only keeps the node as it is (mode, owner, times); writing to a device goes on.
            device = self._copy(f"/dev/{name}", "device", _PRIVATE | kernel.MOUNT_ATTR_RDONLY)
            self._attach(device, f"{base}/{name}", directory=False)
            os.close(device)
        for name, text in (
            ("ptmx", "pts/ptmx"),
            ("fd", "/proc/self/fd"),
            ("stdin", "/proc/self/fd/0"),
            ("stdout", "/proc/self/fd/1"),
            ("stderr", "/proc/self/fd/2"),
        ):
            self._link(f"{base}/{name}", text)
        self._ensure_directory(f"{base}/pts")
        self._ensure_directory(f"{base}/shm")
        self._close_later.append(tree)
        self._devices.append((base, step["shm_size"]))

    def _own_devices(self, base: str, shm_size: int) -> None:
        """The sandbox's own devpts and /dev/shm."""
        pts = kernel.new_filesystem("devpts", _PRIVATE, (("ptmxmode", "0666"), ("mode", "0620")))
        self._attach(pts, f"{base}/pts", directory=True)
        os.close(pts)
        options: tuple[tuple[str, str], ...] = (("mode", "1777"), *self.owner)
        if shm_size:
            options = (*options, ("size", str(shm_size)))
        shared = kernel.new_filesystem("tmpfs", _PRIVATE | kernel.MOUNT_ATTR_NODEV, options)
        self._attach(shared, f"{base}/shm", directory=True)
        os.close(shared)
