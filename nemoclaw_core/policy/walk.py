"""Follow a path through the host's file system, once, and note every step.

What a path leads to is decided here, before the agent runs; the launcher opens the result without
following any link, so what changes in between stops the start instead of widening it.
"""

from __future__ import annotations

from typing import cast

import attrs
from nemoclaw_hookspecs.policy import PathKind

from nemoclaw_core import globs
from nemoclaw_core.observe import digest_paths, observe

Observation = tuple[str, str, str]
"""``(path, what, value)``: see :mod:`nemoclaw_core.observe`."""

MOST_LINKS = 40
"""As many links as Linux follows in one path (path_resolution(7))."""


@attrs.frozen(slots=True)
class Entry:
    """What is at a path, itself: a link is not followed."""

    kind: PathKind | str
    """A kind of path, ``fifo``, ``link``, or ``unreadable``."""
    uid: int = -1
    gid: int = -1
    target: str = ""


@attrs.frozen(slots=True)
class Step:
    """A symbolic link on the way: where it really is, and what it says."""

    path: str
    target: str
    uid: int
    last: bool
    """True when it was the end of the path: the path names the link, not something behind it."""


@attrs.frozen(slots=True, kw_only=True)
class Walked:
    """Where a path leads."""

    path: str
    """Without symbolic links. Where something is missing, the rest is taken as written."""
    entry: Entry
    links: tuple[Step, ...] = ()
    barrier: str = ""
    """A file where a directory would have to be, when that is why the path is missing."""
    loop: bool = False
    """More links than the kernel would follow."""


class Observer:
    """Looks at the file system, each place once, and keeps what it saw."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], str] = {}
        self._expanded: dict[str, tuple[list[str], list[str]]] = {}

    def observations(self) -> tuple[Observation, ...]:
        """Everything that was looked at, in order."""
        return tuple((path, what, value) for (path, what), value in self._seen.items())

    def note(self, path: str, what: str, value: str) -> None:
        """Keep what was seen by other means."""
        self._seen.setdefault((path, what), value)

    def entry(self, path: str) -> Entry:
        """What is at ``path``."""
        value = self._seen.get((path, "lstat"))
        if value is None:
            value = observe(path, "lstat")
            self._seen[path, "lstat"] = value
        if ":" not in value:
            return Entry(value)
        kind, uid, gid = value.rsplit(":", 2)
        name, _, target = kind.partition(":")
        return Entry(name, int(uid), int(gid), target)

    def written_before(self, path: str) -> str | None:
        """The directory at or above a path without links that a sandbox could ever write.

        :raises NemoclawError: nemoclaw's own notes cannot be relied on.
        """
        value = self._seen.get((path, "agents"))
        if value is None:
            value = observe(path, "agents")
            self._seen[path, "agents"] = value
        return None if value == "none" else value

    def expand(self, pattern: str) -> tuple[list[str], list[str]]:
        """Paths that a pattern matches, and directories that could not be listed.

        :raises OSError: the file system failed.
        """
        if pattern not in self._expanded:
            unlistable: list[str] = []
            found = globs.expand(pattern, unlistable)
            self._seen[pattern, "glob"] = digest_paths(found, unlistable)
            self._expanded[pattern] = found, unlistable
        matched, closed = self._expanded[pattern]
        return [*matched], [*closed]

    def follow(self, path: str) -> Walked:
        """Walk an absolute path from the root, link by link."""
        pending = _segments(path)[::-1]
        real = ""
        links: list[Step] = []
        entry = Entry("directory")
        barrier = ""
        while pending:
            segment = pending.pop()
            if entry.kind not in ("directory", "missing", "unreadable"):
                barrier, entry = real, Entry("missing")
            if segment == ".":
                continue
            if segment == "..":
                if entry.kind != "directory":
                    # Leads nowhere while this is missing: here is where it would have to begin.
                    break
                # Only in a link's target. `real` holds no link, so its parent is its parent.
                real = real.rpartition("/")[0]
                entry = self.entry(real or "/")
                continue
            real = f"{real}/{segment}"
            if entry.kind != "directory":
                # Missing or hidden from here on, whatever follows.
                continue
            entry = self.entry(real)
            if entry.kind != "link":
                continue
            last = all(each == "." for each in pending)
            links.append(Step(real, entry.target, entry.uid, last))
            if len(links) > MOST_LINKS:
                return Walked(path=real, entry=entry, links=tuple(links), loop=True)
            pending += _segments(entry.target)[::-1]
            real = "" if entry.target.startswith("/") else real.rpartition("/")[0]
            entry = self.entry(real) if real else Entry("directory")
        if not real:
            entry = self.entry("/")
        return Walked(path=real or "/", entry=entry, links=tuple(links), barrier=barrier)


def kind_of(entry: Entry) -> PathKind:
    """The kind of an entry that is there, or missing. A FIFO is covered like a file."""
    return "file" if entry.kind == "fifo" else cast(PathKind, entry.kind)


def _segments(path: str) -> list[str]:
    # A slash at the end asks for a directory, as `.` does.
    return [each for each in path.split("/") if each] + (["."] if path.endswith("/") else [])
