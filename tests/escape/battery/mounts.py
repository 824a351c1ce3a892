"""Kernel interfaces: the mount family, with which a view of the file system is unmade."""

from __future__ import annotations

import errno
import os
import struct

from .registry import Stopped, attempt
from .stage import Stage, first
from .system import AT_FDCWD, evaluated, syscall

MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
MNT_DETACH = 2
OPEN_TREE_CLONE = 1


@attempt("kernel", needs="namespace")
def mount_tmpfs(stage: Stage) -> str:
    """Mount an empty file system over a directory of the attacker's."""
    os.mkdir(f"{stage.work}/{stage.name}")
    syscall("mount", b"none", f"{stage.work}/{stage.name}".encode(), b"tmpfs", 0, None)
    return "mounted it"


@attempt("kernel", needs="namespace")
def mount_kernel_file_system(stage: Stage) -> str:
    """Mount one of the file systems through which the kernel shows itself."""
    os.mkdir(f"{stage.work}/{stage.name}")
    path = f"{stage.work}/{stage.name}".encode()
    kinds = ("mqueue", "devpts", "proc", "sysfs", "cgroup2", "securityfs", "bpf")
    return first(
        [
            (kind, lambda kind=kind: syscall("mount", b"none", path, kind.encode(), 0, None))
            for kind in kinds
        ]
    )


@attempt("kernel", needs="namespace")
def bind_over(stage: Stage) -> str:
    """Bind a directory over the read-only island."""
    os.mkdir(f"{stage.work}/{stage.name}")
    source, target = f"{stage.work}/{stage.name}", f"{stage.work}/vendor/{stage.name}"
    syscall("mount", source.encode(), target.encode(), None, MS_BIND, None)
    return "bound it"


@attempt("kernel", needs="namespace")
def make_mount_writable(stage: Stage) -> str:
    """Remount a read-only bind mount for writing."""
    path = f"{stage.home}/shared".encode()
    flags = MS_REMOUNT | MS_BIND
    return evaluated((errno.EINVAL,), lambda: syscall("mount", None, path, None, flags, None))


@attempt("kernel", needs="namespace")
def change_propagation(stage: Stage) -> str:
    """Change how mounts spread."""
    syscall("mount", None, b"/", None, MS_REC | MS_PRIVATE, None)
    return "made them private"


@attempt("kernel", needs="namespace", dot_env=True)
def unmount_mask(stage: Stage) -> str:
    """Unmount what hides a denied file, and read what is below."""
    path = f"{stage.work}/{stage.name}/.env"
    said = evaluated((errno.EINVAL,), lambda: syscall("umount2", path.encode(), MNT_DETACH))
    return f"{said}; {stage.read(path)}"


@attempt("kernel", needs="namespace")
def open_file_system(stage: Stage) -> str:
    """Open a file system with fsopen, the new mount interface."""
    return f"descriptor {syscall('fsopen', b'tmpfs', 0)}"


@attempt("kernel", needs="namespace")
def clone_mount(stage: Stage) -> str:
    """Clone a mount with open_tree."""
    flags = OPEN_TREE_CLONE
    return f"descriptor {syscall('open_tree', AT_FDCWD, stage.work.encode(), flags)}"


@attempt("kernel", needs="namespace")
def move_mount(stage: Stage) -> str:
    """Move a mount with move_mount."""
    path = stage.work.encode()
    return evaluated(
        (errno.EINVAL,), lambda: syscall("move_mount", AT_FDCWD, path, AT_FDCWD, path, 0)
    )


@attempt("kernel", needs="namespace")
def set_mount_attributes(stage: Stage) -> str:
    """Change a mount's attributes with mount_setattr."""
    attributes = struct.pack("4Q", 0x10, 0, 0, 0)  # MOUNT_ATTR_NOATIME
    path = f"{stage.home}/shared".encode()
    return evaluated(
        (errno.EINVAL,), lambda: syscall("mount_setattr", AT_FDCWD, path, 0, attributes, 32)
    )


@attempt("kernel", needs="namespace")
def pivot_root(stage: Stage) -> str:
    """Exchange the root of the view."""
    return evaluated((errno.EBUSY, errno.EINVAL), lambda: syscall("pivot_root", b"/", b"/"))


@attempt("kernel", needs="namespace")
def change_root(stage: Stage) -> str:
    """Change the root directory, the first step of the classic way out of one."""
    os.chroot(stage.work)
    return "chroot"


@attempt("kernel", needs="namespace")
def climb_out_of_root(stage: Stage) -> str:
    """Climb out of the root directory with an older working directory (chroot, then dots)."""
    os.mkdir(f"{stage.work}/{stage.name}")
    os.chroot(f"{stage.work}/{stage.name}")
    for _ in range(32):
        os.chdir("..")
    os.chroot(".")
    if not os.path.exists("/proc/self"):
        raise Stopped("still inside")
    return "out"
