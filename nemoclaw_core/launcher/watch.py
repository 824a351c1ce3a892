"""Notice when a mount of the view is taken away, and which.

Linux detaches a mount, in every namespace, when what it is mounted on is removed or renamed over
from a namespace in which it is no mount point (rename(2), ``detach_mounts`` in the kernel). So an
editor on the host that saves ``.env`` by renaming a new file over it uncovers the path in a
running sandbox. The mount table can be polled for changes (proc_pid_mounts(5)); the init does, and
ends the sandbox. A directory that is renamed on the host takes its mounts along: that changes no
table, only the paths in it, so the init also looks at them now and then.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MOUNTED = ("bind_mount", "tmpfs", "file_mount", "mask", "proc", "devices")
PERIOD = 2000
"""Milliseconds between two looks at the paths."""


class Watch:
    """Watches the mounts that a plan's steps have made in this process's namespace.

    Opened inside the view, before Landlock; the descriptor is good for poll(2) with ``POLLPRI``.
    """

    def __init__(self, steps: list[dict[str, Any]]) -> None:
        self._targets = [step["target"] for step in steps if step["op"] in _MOUNTED]
        self.descriptor = os.open("/proc/self/mounts", os.O_RDONLY | os.O_CLOEXEC)
        # What had nothing to cover when the view was made is not there, and need not be.
        optional = {step["target"] for step in steps if step.get("optional")}
        absent = optional.intersection(self.missing()) if optional else ()
        self._targets = [target for target in self._targets if target not in absent]

    def missing(self) -> list[str]:
        """Targets on which nothing is mounted (any more)."""
        os.lseek(self.descriptor, 0, os.SEEK_SET)
        parts = []
        while part := os.read(self.descriptor, 1 << 16):
            parts.append(part)
        mounted = set()
        # Line feeds in names are escaped there, and no other character that ends a line.
        for line in b"".join(parts).split(b"\n"):
            if line:
                mounted.add(os.fsdecode(_unescape(line.split(b" ")[1])))
        return [target for target in self._targets if target not in mounted]


def _unescape(path: bytes) -> bytes:
    """Undo what proc(5) does to space, tab, line feed, ``#`` and backslash: a backslash, and three
    octal digits. From left to right, so that an escaped backslash begins nothing."""
    if b"\\" not in path:
        return path
    first, *others = path.split(b"\\")
    return first + b"".join(bytes((int(part[:3], 8),)) + part[3:] for part in others)
