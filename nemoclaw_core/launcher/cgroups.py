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
