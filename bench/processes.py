"""What lives: descendants, their memory, descriptors and threads, read from /proc.

The benchmark makes itself the reaper of its descendants (prctl(2), PR_SET_CHILD_SUBREAPER), so a
process that outlives its launcher stays below us in the tree and is seen, whoever forked it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Iterable

_PR_SET_CHILD_SUBREAPER = 36


def become_subreaper() -> None:
    """Inherit the orphans of every descendant.

    :raises OSError: the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def descendants(root: int) -> set[int]:
    """Every living process below ``root``, zombies left out."""
    children: dict[int, list[int]] = {}
    dead: set[int] = set()
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                # The command's name may hold anything, also parentheses and spaces.
                state, parent = file.read().rpartition(b")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(int(parent), []).append(int(name))
        if state in (b"Z", b"X"):
            dead.add(int(name))
    found: set[int] = set()
    waiting = [root]
    while waiting:
        for child in children.get(waiting.pop(), ()):
            found.add(child)
            waiting.append(child)
    return found - dead


def parent(pid: int) -> int:
    """The parent of a living process."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[1])


def command_line(pid: int) -> tuple[bytes, ...]:
    """The arguments of a process; empty when it is gone or has none."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return tuple(file.read().split(b"\0")[:-1])
    except (FileNotFoundError, ProcessLookupError):
        return ()


def private_memory(pid: int) -> int | None:
    """Bytes that only this process uses (Private_* of smaps_rollup); None: it may not be read."""
    total = 0
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith((b"Private_Clean:", b"Private_Dirty:")):
                    total += int(line.split()[1]) * 1024
    except (FileNotFoundError, ProcessLookupError):
        return 0
    except PermissionError:
        return None
    return total


def total_private_memory(pids: Iterable[int]) -> int | None:
    """Sum of :func:`private_memory`; None when any of them may not be read."""
    total = 0
    for pid in pids:
        memory = private_memory(pid)
        if memory is None:
            return None
        total += memory
    return total


def descriptors(pid: int) -> int:
    """Number of open descriptors."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def threads(pid: int) -> int:
    """Number of threads."""
    return len(os.listdir(f"/proc/{pid}/task"))


def mounts() -> set[str]:
    """The mounts in our own mount namespace, each with its id."""
    with open("/proc/self/mountinfo") as lines:
        return {f"mount {fields[0]} at {fields[4]}" for fields in map(str.split, lines)}


def reap() -> dict[int, int]:
    """Collect every child that has ended: pid -> exit status."""
    ended: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended[pid] = os.waitstatus_to_exitcode(status)


def gone(keep: set[int], limit: float) -> set[int]:
    """Wait until only ``keep`` lives below us; after ``limit`` seconds, return who else does."""
    end = time.monotonic() + limit
    while True:
        reap()
        left = descendants(os.getpid()) - keep
        if not left or time.monotonic() > end:
            return left
        time.sleep(0.0005)


def kill_all(pids: Iterable[int]) -> None:
    """SIGKILL each of our own descendants in ``pids``."""
    for pid in set(pids) & descendants(os.getpid()):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
