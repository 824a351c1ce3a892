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

from . import kernel
from .covers import cover
from .sockets import Found
from .tree import SAFE, Tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_PRIVATE = kernel.MOUNT_ATTR_NOSUID | kernel.MOUNT_ATTR_NOEXEC
# On a device file: open(2) gives EACCES to everybody.
_CLOSED = SAFE | kernel.MOUNT_ATTR_NOEXEC | kernel.MOUNT_ATTR_RDONLY
VIEW_OPERATIONS = (
    "bind_mount", "tmpfs", "directory", "symlink", "file_mount", "mask", "proc", "devices",
)  # fmt: skip
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


class View(Tree):
    """A view under construction: what each mount operation of a plan puts into the tree."""

    def __init__(self, uid: int, gid: int, idmaps: dict[tuple[int, int], int]) -> None:
        super().__init__(uid, gid)
        self.owner = (("uid", str(uid)), ("gid", str(gid)))
        self.idmaps = idmaps
        self._close_later: list[int] = []
        self._devices: list[tuple[str, int]] = []
        self.foreign: Callable[[], Found] = Found
        """Finds the sockets of the host's programs, to be covered in the next sandbox."""
        self.failed_at = -1

    def prepare(
        self, steps: list[dict[str, Any]], avoid: list[str], wanted: Callable[[], None]
    ) -> None:
        """Build what all sandboxes share. In the launcher, in a new mount namespace.

        :param avoid: paths that must stay in the launcher's sight.
        :param wanted: called before each step; what it raises ends the preparation.
        """
        shared, own = split(steps)
        used = [*avoid, *(step["source"] for step in steps if step["op"] == "bind_mount")]
        self._begin(used)
        for index in shared:
            wanted()
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
        attributes = SAFE | (kernel.MOUNT_ATTR_RDONLY if step["read_only"] else 0)
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
        try:
            # Where the host has a symbolic link there, it is the link that is covered.
            self._attach(tree, step["target"], directory=False, link=True)
        except FileNotFoundError:
            if not step["optional"]:
                raise
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
