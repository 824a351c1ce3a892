"""UNIX sockets that programs of the host have in directories that the view shows.

Connecting to a socket by path needs no right that a read-only mount or Landlock (before its ABI 9)
could withhold, and the program at the other end is outside. So those that exist when a sandbox
starts are covered. A policy shows one by naming the socket itself.
"""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def foreign_sockets(steps: list[dict[str, Any]]) -> list[str]:
    """Paths of bound sockets below what the plan's mounts show, without those that it names.

    From ``/proc/net/unix`` (unix(7)): one read, however large the directories are. A socket that
    was bound by a relative path is not recognised there.
    """
    shown = [step["source"] for step in steps if step["op"] == "bind_mount"]
    named = {step["source"] for step in steps if step.get("kind") == "socket"}
    found = set()
    with open("/proc/net/unix", "rb", buffering=0) as file:
        lines = file.read().split(b"\n")
    for line in lines[1:]:
        start = line.find(b" /")
        if start < 0:
            continue
        path = os.path.realpath(os.fsdecode(line[start + 1 :]))
        if path in named or not any(path.startswith(f"{folder}/") for folder in shown):
            continue
        try:
            if stat.S_ISSOCK(os.lstat(path).st_mode):
                found.add(path)
        except OSError:
            continue  # Its name is gone: nobody can connect to it by path.
    return sorted(found)
