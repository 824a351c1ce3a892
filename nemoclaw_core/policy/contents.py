"""What lies beside denied and read-only paths: for hosts that can only grant a tree whole.

Landlock adds rights below a path and takes none away. Where no mount can cover a denied path, a
layer can still grant its neighbours one by one, if it knows them. Plugins never look at the file
system, so they are told.
"""

from __future__ import annotations

from collections.abc import Iterable

from nemoclaw_hookspecs import PathRule
from nemoclaw_hookspecs.policy import PathKind

from .access import covers
from .walk import Observer, kind_of

MOST_ENTRIES = 10_000
"""Entries in all the directories together: each becomes a rule of the kernel."""
_KINDS = ("directory", "file", "fifo", "device", "socket")


def contents_beside(
    rules: Iterable[PathRule], observer: Observer
) -> dict[str, dict[str, PathKind]]:
    """Entries by directory, for each directory from a granted tree down to what it withholds.

    Symbolic links are left out: what they lead to has, or has not, a rule of its own. So are
    directories that cannot be listed, and those after :data:`MOST_ENTRIES` entries: a tree whose
    contents are not known is not granted.
    """
    rules = tuple(rules)
    found: dict[str, dict[str, PathKind]] = {}
    left = MOST_ENTRIES
    for tree in rules:
        if tree.access == "deny" or tree.kind != "directory":
            continue
        for held in rules:
            withheld = held.access == "deny" or (held.access == "read" and tree.access == "write")
            if not withheld or held.path == tree.path or not covers(tree.path, held.path):
                continue
            folder = tree.path.rstrip("/")
            for name in held.path[len(folder) + 1 :].split("/"):
                if (folder or "/") not in found:
                    entries = _entries(folder, observer, left)
                    if entries is None:
                        break
                    left -= len(entries)
                    found[folder or "/"] = entries
                if found[folder or "/"].get(name) != "directory":
                    break
                folder = f"{folder}/{name}"
    return found


def _entries(folder: str, observer: Observer, most: int) -> dict[str, PathKind] | None:
    if "*" in folder:
        return None
    try:
        paths, unlistable = observer.expand(f"{folder}/*")
    except OSError:
        return None
    if unlistable or len(paths) > most:
        return None
    entries = ((path[len(folder) + 1 :], observer.entry(path)) for path in paths)
    return {name: kind_of(entry) for name, entry in entries if entry.kind in _KINDS}
