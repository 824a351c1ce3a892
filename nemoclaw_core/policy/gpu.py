"""The device files behind ``process.gpu``.

NVIDIA: those that the driver and CUDA open, and the capabilities of MIG instances; not the ones
that set up displays, switches or the instances themselves. AMD and Intel: the compute device and
the render nodes, which the kernel made for programs without privileges; not the display
(``card*``). WSL: its one device.
"""

from __future__ import annotations

import posixpath
import re

from nemoclaw_hookspecs import PathRule

from .walk import Observer

PATTERNS = (
    "/dev/nvidia*",
    "/dev/nvidia-caps/*",
    "/dev/kfd",
    "/dev/dri/*",
    "/dev/dxg",
)
"""Where they are looked for."""

_NAME = re.compile(
    # nvidia-cap1 and nvidia-cap2 set MIG instances up and watch all of them.
    r"nvidia\d+|nvidiactl|nvidia-uvm(-tools)?|nvidia-cap([3-9]|\d{2,})|kfd|renderD\d+|dxg"
)
_NVIDIA = re.compile(r"nvidia\d+")
MEMORY = "nvidia-uvm"
"""CUDA opens it at its start, and the driver makes it only when somebody asks for it."""


def devices(observer: Observer) -> tuple[str, ...]:
    """The device files of this host's GPUs; none when it has none.

    :raises OSError: the file system failed.
    """
    found: list[str] = []
    for pattern in PATTERNS:
        matched, _ = observer.expand(pattern)
        found += [
            path
            for path in matched
            if _NAME.fullmatch(posixpath.basename(path)) and observer.entry(path).kind == "device"
        ]
    return tuple(found)


def missing(rules: tuple[PathRule, ...]) -> str:
    """What a program that computes on the GPU would miss under these rules; empty: nothing."""
    names = {
        posixpath.basename(rule.path)
        for rule in rules
        if rule.kind == "device" and rule.access == "write"
    }
    if any(map(_NVIDIA.fullmatch, names)):
        return "" if MEMORY in names else MEMORY
    return "" if any(map(_NAME.fullmatch, names)) else "every device file"
