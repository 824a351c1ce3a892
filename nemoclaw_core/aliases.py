"""Other names of a path: a directory can be mounted in several places (``mount --bind``).

Standard library's built-ins only: this is on the path of a start.
"""

from __future__ import annotations

import os

from nemoclaw_hookspecs.errors import NemoclawError

_TABLE = "/proc/self/mountinfo"


class Aliases:
    """The mounts of this process's namespace, as they are now (proc_pid_mountinfo(5)).

    :raises NemoclawError: they cannot be read.
    """

    def __init__(self) -> None:
        self._mounts: list[tuple[str, str, str]] = []
        self._of: dict[str, list[tuple[str, str]]] = {}
        try:
            with open(_TABLE, "rb", buffering=0) as file:
                table = os.fsdecode(file.readall())
        except OSError as error:
            raise NemoclawError(f"cannot be read: {error.strerror}", where=_TABLE) from None
        for line in table.split("\n"):
            fields = line.split(" ", 5)
            if len(fields) == 6:
                device, root, point = fields[2], _plain(fields[3]), _plain(fields[4])
                self._mounts.append((point, device, root))
                self._of.setdefault(device, []).append((root, point))

    def names(self, path: str) -> list[str]:
        """An absolute path without links, and every other one that leads to the same place.

        A mount that others hide counts too: rather one name too many than one too few.
        """
        found = {path: None}
        for point, device, root in self._mounts:
            mounted = self._of[device]
            below = _below(point, path) if len(mounted) > 1 else None
            if below is None:
                continue
            place = _join(root, below)
            for other, there in mounted:
                rest = _below(other, place)
                if rest is not None:
                    found[_join(there, rest)] = None
        return list(found)


def _below(folder: str, path: str) -> str | None:
    """What leads from a directory to a path: empty, or with a slash first; None if nothing does."""
    folder = folder.rstrip("/")
    if path == (folder or "/"):
        return ""
    return path[len(folder) :] if path.startswith(folder + "/") else None


def _join(folder: str, rest: str) -> str:
    return folder.rstrip("/") + rest or "/"


def _plain(text: str) -> str:
    """A field of the table, in which space, tab, line end and backslash are written in octal."""
    if "\\" not in text:
        return text
    first, *parts = text.split("\\")
    return first + "".join(chr(int(part[:3], 8)) + part[3:] for part in parts)
