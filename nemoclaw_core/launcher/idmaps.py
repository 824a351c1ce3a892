"""User namespaces for ID-mapped mounts: they show the files of one owner as the agent's own."""

from __future__ import annotations

import os

from . import kernel, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def needed(steps: list[dict[str, Any]], seen_as: tuple[int, int]) -> dict[tuple[int, int], int]:
    """User namespaces, by the host owner whose files they show as the agent's own."""
    found: dict[tuple[int, int], int] = {}
    for step in steps:
        if step["op"] == "bind_mount" and step["owner"] is not None:
            owner = (step["owner"][0], step["owner"][1])
            if owner not in found:
                found[owner] = _user_namespace(*owner, *seen_as)
    return found


def _user_namespace(uid: int, gid: int, seen_uid: int, seen_gid: int) -> int:
    """A user namespace, by descriptor, for an ID-mapped mount (mount_setattr(2)).

    Maps the owner on disk (``uid``, ``gid``) to the id that the agent has.
    """
    ours, theirs = wire.pair()
    pid = kernel.clone(kernel.CLONE_FLAGS["user"])
    if pid == 0:
        ours.close()
        theirs.recv(1)  # Until the parent has taken the namespace's descriptor.
        os._exit(0)
    try:
        theirs.close()
        kernel.write_file(f"/proc/{pid}/uid_map", f"{uid} {seen_uid} 1")
        kernel.write_file(f"/proc/{pid}/gid_map", f"{gid} {seen_gid} 1")
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        ours.close()
        os.waitpid(pid, 0)
