"""What the host shows of an attempt's effect: files and processes, before and after."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from pathlib import Path
from typing import Any

NEMOCLAW_OWN = re.compile(r"/home/\.(cache|local/state)/nemoclaw$|/run/nemoclaw$")
"""Directories of a stage that nemoclaw itself changes."""


def file(path: str) -> tuple[Any, ...]:
    """What can be changed about a file, without following a link; empty when it is missing."""
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return ()
    seen: tuple[Any, ...] = (found.st_mode, found.st_uid, found.st_gid, found.st_ino)
    # A change time cannot be set, so it shows every change there is, of attributes and flags too.
    seen += (found.st_size, found.st_ctime_ns)
    if stat.S_ISDIR(found.st_mode):
        return (*seen, sorted(os.listdir(path)))
    if stat.S_ISREG(found.st_mode):
        with open(path, "rb") as content:
            return (*seen, hashlib.sha256(content.read()).hexdigest())
    return seen


def process(pid: int) -> tuple[Any, ...]:
    """What can be changed about a process from outside; empty when it is gone."""
    try:
        # proc(5): after "(name)" come the state, 13 fields on priority and nice, ... and policy.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        limits = Path(f"/proc/{pid}/limits").read_text()
        score = Path(f"/proc/{pid}/oom_score_adj").read_text()
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ()
    if fields[0] == "Z":
        return ()
    allowed = re.findall(r"Cpus_allowed:.*", status)
    return (fields[0] == "T", fields[15:17], fields[37:39], limits, score, allowed)


def left(path: str, kind: str) -> bool:
    """Whether there is a ``setid`` file or a ``device`` node at ``path``."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return False
    if kind == "setid":
        return bool(mode & (stat.S_ISUID | stat.S_ISGID))
    return stat.S_ISCHR(mode) or stat.S_ISBLK(mode)


def tree(base: str) -> dict[str, tuple[Any, ...]]:
    """Every file of a stage that no sandbox may change and nemoclaw itself does not, and the names
    in the host's shared directories that stem from it."""
    seen: dict[str, tuple[Any, ...]] = {}
    for part in ("home", "policy", "run"):
        for top, directories, names in os.walk(f"{base}/{part}"):
            if NEMOCLAW_OWN.search(top):
                directories.clear()
                continue
            seen[top] = file(top)
            seen.update((f"{top}/{name}", file(f"{top}/{name}")) for name in names)
    for shared in ("/tmp", "/dev/shm"):
        own = [name for name in os.listdir(shared) if name.startswith(os.path.basename(base))]
        seen[shared] = tuple(sorted(own))
    return seen
