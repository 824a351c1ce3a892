"""Looking for what a sandbox could leave behind."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def _processes() -> dict[int, bytes]:
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                found[int(name)] = Path(f"/proc/{name}/cmdline").read_bytes()
            except OSError:
                continue  # It ended meanwhile.
    return found


def _named(marker: str) -> dict[int, bytes]:
    return {pid: words for pid, words in _processes().items() if marker.encode() in words}


def alive(marker: str) -> list[int]:
    """Processes of a sandbox that sleep for ``marker`` seconds, or are a shell that will."""
    return [pid for pid, words in _named(marker).items() if b"nemoclaw_core" not in words]


def supervisors(marker: str) -> list[int]:
    """Processes of nemoclaw that run such a command. They end a moment after their sandbox."""
    return [pid for pid, words in _named(marker).items() if b"nemoclaw_core" in words]


def launchers(cli: Any) -> list[int]:
    """Launcher and init processes below the supervisors that this desk has started, or orphaned."""
    found = []
    for pid, words in _processes().items():
        if not words.startswith(b"nemoclaw-launcher"):
            continue
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            continue
        parent = int(stat.rpartition(")")[2].split()[1])
        if parent in cli.pids():
            found.append(pid)
    return found


def descendants(pid: int) -> list[int]:
    """Children of a process (which should be stopped), theirs, and so on."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        try:
            with open(f"/proc/{waiting[0]}/task/{waiting[0]}/children") as file:
                children = [int(word) for word in file.read().split()]
        except OSError:
            children = []  # It ended meanwhile.
        del waiting[0]
        waiting += children
        found += children
    return found


def running(pids: list[int]) -> list[int]:
    """Those that have not ended; whoever is to reap them may take its time."""
    found = []
    for pid in pids:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            continue
        if stat.rpartition(")")[2].split()[0] not in "ZX":
            found.append(pid)
    return found


def groups(name: str) -> list[str]:
    """Control groups of the sandbox of that name."""
    found = []
    for folder, names, _ in os.walk("/sys/fs/cgroup"):
        found += [f"{folder}/{each}" for each in names if each.startswith(f"nemoclaw-{name}.")]
    return found


def mounts() -> list[str]:
    """The mounts of this namespace."""
    return sorted(Path("/proc/self/mounts").read_text().splitlines())


def wait_for(condition: Callable[[], object], seconds: float = 10) -> bool:
    """Wait until a condition holds; False when it does not in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.005)
    return False
