"""Ending what a sandbox without a PID namespace leaves behind.

With one, the kernel ends every process of the sandbox with its init. Without one, orphans of a
sandbox whose init has ended come to the launcher, which is their nearest subreaper (prctl(2)),
and are ended by hand. The launcher does this, and not the init, because the init is sealed and may
not look at proc(5).
"""

from __future__ import annotations

import _signal
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection


def end_orphans(known: Collection[int]) -> None:
    """Kill and reap every child that is not ``known``, until there is none left.

    The children of a child that ends become this process's own: they are met in the next round.
    """
    while strangers := [pid for pid in _children(os.getpid()) if pid not in known]:
        for pid in strangers:
            os.kill(pid, _signal.SIGKILL)  # Not reaped yet: the pid is still its own.
            os.waitpid(pid, 0)


def _children(parent: int) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb", buffering=0) as file:
                # After the name, which may hold anything: state, then the parent's pid.
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue  # It ended meanwhile.
        if len(fields) > 1 and int(fields[1]) == parent:
            found.append(int(name))
    return found
