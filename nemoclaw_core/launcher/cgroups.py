"""Control groups (cgroups(7)) of the sandboxes: made, joined and removed, of either version."""

from __future__ import annotations

import errno
import os
import select
import time

from . import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PREFIX = "nemoclaw-"
_MEMORY_LIMITS = {
    "memory.max": "memory.events",
    "memory.limit_in_bytes": "memory.oom_control",
}
"""The file with the limit, and the one that counts what came of it; of cgroup v2 and v1."""
_STALE = 300.0
"""Seconds for which a group must have been empty to be nobody's."""


def make(steps: list[dict[str, Any]], name: str, made: list[str]) -> None:
    """Make the groups that a plan's steps ask for, with their limits.

    :param name: the sandbox's.
    :param made: gets the path of each group as soon as it exists, also when a later one fails.
    """
    for step in steps:
        if step["op"] != "join_cgroup":
            continue
        # The launcher's pid keeps apart what another start of the same name has left.
        path = f"{step['parent']}/{_PREFIX}{name}.{os.getpid()}"
        os.mkdir(path, 0o755)
        made.append(path)
        for file, value in step["settings"]:
            kernel.write_file(f"{path}/{file}", value)


def join(path: str) -> None:
    """Move this process, which has one thread, into a group.

    By the file ``tasks`` where the hierarchy has one (v1): a thread that moves itself needs no lock
    over all of the system's forks, which takes ten milliseconds to get.
    """
    try:
        descriptor = os.open(f"{path}/tasks", os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        descriptor = os.open(f"{path}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, b"0")
    finally:
        os.close(descriptor)


def memory_kills(steps: list[dict[str, Any]], paths: list[str]) -> int:
    """How many processes of these groups the kernel ended because their memory limit was met.

    A process that is ended because the whole host has no memory left counts only if the group had
    met its own limit too.
    """
    found = 0
    for step in steps:
        if step["op"] != "join_cgroup":
            continue
        limits = [file for file, _ in step["settings"] if file in _MEMORY_LIMITS]
        for path in paths:
            if limits and os.path.dirname(path) == step["parent"]:
                found += _kills(path, limits[0])
    return found


def _kills(path: str, limit: str) -> int:
    events = _counters(f"{path}/{_MEMORY_LIMITS[limit]}")
    kills = events.get(b"oom_kill", 0)
    if kills and limit == "memory.limit_in_bytes":
        with open(f"{path}/memory.failcnt", "rb", buffering=0) as file:
            return kills if int(file.read()) else 0
    return kills if events.get(b"oom", kills) else 0


def _counters(path: str) -> dict[bytes, int]:
    with open(path, "rb", buffering=0) as file:
        pairs = [line.split() for line in file.read().splitlines()]
    return {pair[0]: int(pair[1]) for pair in pairs}


def unshare(steps: list[dict[str, Any]]) -> None:
    """Make the cgroup namespace, if the plan asks for one (cgroup_namespaces(7))."""
    if any("cgroup" in step.get("namespaces", ()) for step in steps):
        kernel.unshare(kernel.CLONE_FLAGS["cgroup"])


def remove(path: str) -> None:
    """Remove a group whose processes have ended.

    :raises OSError: it still has some, after a tenth of a second.
    """
    for _ in range(100):
        try:
            os.rmdir(path)
            return
        except OSError as error:
            # The last process was reaped, but the kernel may still be taking it off the group.
            if error.errno != errno.EBUSY:
                raise
            select.select((), (), (), 0.001)
    os.rmdir(path)


def remove_of(steps: list[dict[str, Any]], pid: int) -> None:
    """Remove the groups of a launcher that was killed; ``pid`` was its."""
    for parent in _parents(steps):
        for entry in list(os.scandir(parent)):
            if not entry.name.startswith(_PREFIX) or not entry.name.endswith(f".{pid}"):
                continue
            try:
                remove(entry.path)
            except OSError:
                continue  # Still dying: it is swept when another launcher ends.


def sweep(steps: list[dict[str, Any]]) -> None:
    """Remove groups that a launcher left which was killed together with its supervisor.

    A group with processes cannot be removed, and a new one gets its first process within
    milliseconds: what has been empty for minutes is nobody's.
    """
    for parent in _parents(steps):
        for entry in os.scandir(parent):
            if not entry.name.startswith(_PREFIX):
                continue
            try:
                if time.time() - entry.stat(follow_symlinks=False).st_mtime > _STALE:
                    os.rmdir(entry.path)
            except OSError:
                continue  # In use, or removed by another launcher just now.


def _parents(steps: list[dict[str, Any]]) -> list[str]:
    return [step["parent"] for step in steps if step["op"] == "join_cgroup"]
