"""Files: device nodes, the host's and new ones."""

from __future__ import annotations

import os
import stat

from .registry import attempt
from .stage import Stage, first, opened

_CHARACTER = (
    "kvm",
    "mem",
    "port",
    "kmsg",
    "fuse",
    "net/tun",
    "vsock",
    "vhost-net",
    "vhost-vsock",
    "loop-control",
    "btrfs-control",
    "userfaultfd",
    "uinput",
    "hwrng",
    "cpu_dma_latency",
    "tty0",
    "tty1",
    "console",
    "rfkill",
    "dri/card0",
)


@attempt("files", needs="root")
def open_character_device(stage: Stage) -> str:
    """Open one of the host's powerful character devices."""
    names = [f"/dev/{name}" for name in _CHARACTER]
    return first([(name, lambda name=name: opened(name, os.O_RDWR)) for name in names])


@attempt("files", needs="root")
def open_block_device(stage: Stage) -> str:
    """Open one of the host's disks, below the file system."""
    names = [
        entry.path
        for entry in os.scandir("/dev")
        if stat.S_ISBLK(entry.stat(follow_symlinks=False).st_mode)
    ]
    return first([(name, lambda name=name: opened(name, os.O_RDONLY)) for name in names])


@attempt("files", needs="root", effect="device {work}/{name}")
def make_block_device(stage: Stage) -> str:
    """Make a block device node in the work directory."""
    os.mknod(f"{stage.work}/{stage.name}", stat.S_IFBLK | 0o666, os.makedev(7, 0))
    return "made one"


@attempt("files", needs="root", effect="device {work}/{name}")
def make_character_device(stage: Stage) -> str:
    """Make a character device node (the null device) in the work directory."""
    os.mknod(f"{stage.work}/{stage.name}", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    return "made one"


@attempt("files", needs="root")
def use_new_device(stage: Stage) -> str:
    """Make a node in /tmp, where no device is expected, and open the device through it."""
    path = f"/tmp/{os.path.basename(stage.base)}-{stage.name}"
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    try:
        return opened(path, os.O_RDWR)
    finally:
        os.unlink(path)
