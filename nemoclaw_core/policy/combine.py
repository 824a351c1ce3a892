"""Combine what was found into the fewest rules that say the same."""

from __future__ import annotations

import attrs
from nemoclaw_hookspecs import Link, Origin, PathRule
from nemoclaw_hookspecs.policy import Access, PathKind

from .access import upward
from .walk import Observer, Walked, kind_of

WALLS = Origin(file="nemoclaw", line=0, key="walls")
"""The origin of what is denied without being written down: nemoclaw's own files."""
CODE = Origin(file="nemoclaw:", line=0, key="its own code")
"""The origin of what is read-only without being written down: what nemoclaw is imported from."""


@attrs.frozen(slots=True, kw_only=True)
class Wall:
    """A path of nemoclaw's own that no agent may reach."""

    path: str
    what: str
    always: bool
    """True when it must be hidden even where the agent can only read, and before it exists."""
    fallback: str = ""
    """See :attr:`nemoclaw_hookspecs.PathRule.fallback`."""


@attrs.frozen(slots=True, kw_only=True)
class Found:
    """One path that a rule stands for, and where it leads."""

    access: Access
    walked: Walked
    origin: Origin
    text: str
    literal: bool
    optional: bool
    wall: Wall | None = None


class Combination:
    """Grants and denials by path, while they are put together."""

    def __init__(self, observer: Observer) -> None:
        self.observer = observer
        self.grants: dict[str, PathRule] = {}
        self.denials: dict[str, PathRule] = {}

    def rules(self) -> tuple[PathRule, ...]:
        """All rules: grants, then denials, nemoclaw's own last; a parent before what is in it."""
        return (*self._sorted(self.grants), *self._sorted(self.denials))

    def grant(self, each: Found) -> None:
        """Add a grant."""
        path = each.walked.path
        known = self.grants.get(path)
        # `write` includes `read`; the same grant written twice counts where it stands first.
        if known is None or (known.access == "read" and each.access == "write"):
            self.grants[path] = self._rule(each.access, each.walked, each.origin)

    def deny(self, each: Found) -> None:
        """Deny where a path leads, and the links that are its own name."""
        for step in each.walked.links:
            if step.last:
                # A link can be covered like a file: then it cannot be replaced either.
                entry = self.observer.entry(step.path)
                self._add_denial(step.path, "file", (entry.uid, entry.gid), each)
        if each.walked.loop:
            return
        path, entry = each.walked.path, each.walked.entry
        while entry.kind == "unreadable":
            # Hidden behind a directory that we may not search: deny that directory.
            path = path.rpartition("/")[0] or "/"
            entry = self.observer.entry(path)
        if entry.kind != "missing":
            self._add_denial(path, kind_of(entry), (entry.uid, entry.gid), each)
            return
        enclosing = next((self.grants[up] for up in upward(path) if up in self.grants), None)
        if enclosing is None:
            return
        always = each.wall is not None and each.wall.always
        if enclosing.access == "write" and each.walked.barrier:
            # A file stands where a directory would have to be. While it stays, so does the
            # denial: it is kept from being replaced.
            entry = self.observer.entry(each.walked.barrier)
            if entry.kind == "fifo":
                # That is written to whatever is read-only; it stays when it is covered, too.
                self._add_denial(each.walked.barrier, "file", (entry.uid, entry.gid), each)
            else:
                self._hold(each.walked.barrier, each.origin)
        elif enclosing.access == "write" or always:
            self._add_denial(path, "missing", (-1, -1), each)

    def keep(self, each: Found) -> None:
        """Keep what would be writable from being changed, replaced, or made."""
        for step in each.walked.links:
            if step.last and self.is_writable(step.path):
                # A link can be covered like a file: then it cannot be replaced.
                entry = self.observer.entry(step.path)
                self._add_denial(step.path, "file", (entry.uid, entry.gid), each)
        path, entry = each.walked.path, each.walked.entry
        if each.walked.loop or not self.is_writable(path):
            return
        if entry.kind in ("missing", "unreadable"):
            self.deny(each)
        else:
            self.grants[path] = self._rule("read", each.walked, each.origin)

    def is_writable(self, path: str) -> bool:
        """Whether the grants that were added so far let the agent write at a path."""
        above = next((self.grants[up] for up in upward(path) if up in self.grants), None)
        return above is not None and above.access == "write"

    def _hold(self, path: str, origin: Origin) -> None:
        known = self.grants.get(path)
        if known is None or known.access == "write":
            walked = Walked(path=path, entry=self.observer.entry(path))
            self.grants[path] = self._rule("read", walked, origin)

    def _add_denial(self, path: str, kind: PathKind, owner: tuple[int, int], each: Found) -> None:
        self.denials.setdefault(
            path,
            PathRule(
                path=path,
                access="deny",
                kind=kind,
                uid=owner[0],
                gid=owner[1],
                origin=each.origin,
                fallback=each.wall.fallback if each.wall and kind == "missing" else "",
            ),
        )

    def drop_void(self) -> None:
        """Leave out what changes nothing: grants that are denied, denials of what is not granted,
        and rules that repeat the one above them."""
        for path in list(self.grants):
            if any(up in self.denials for up in upward(path)):
                del self.grants[path]
        for path in sorted(self.grants, key=len, reverse=True):
            above = [up for up in upward(path) if up in self.grants and up != path]
            if (
                above
                and self.grants[above[0]].access == self.grants[path].access
                # Below a directory's grant they stay closed: they need rights of their own kind.
                and self.grants[path].kind not in ("device", "socket")
            ):
                del self.grants[path]
        for path in list(self.denials):
            above = [up for up in upward(path) if up != path]
            if not any(up in self.grants for up in above) or any(
                up in self.denials for up in above
            ):
                del self.denials[path]

    def visible_links(self, granted: list[Found]) -> tuple[Link, ...]:
        """The links that lead to what is granted, except those inside of it: they are there."""
        links: dict[str, Link] = {}
        for each in granted:
            if any(up in self.denials for up in upward(each.walked.path)):
                continue
            for step in each.walked.links:
                if not any(up in self.grants for up in upward(step.path)):
                    links.setdefault(
                        step.path, Link(path=step.path, target=step.target, origin=each.origin)
                    )
        return tuple(links[path] for path in sorted(links))

    def _rule(self, access: Access, walked: Walked, origin: Origin) -> PathRule:
        entry = walked.entry
        return PathRule(
            path=walked.path,
            access=access,
            kind=kind_of(entry),
            uid=entry.uid,
            gid=entry.gid,
            origin=origin,
        )

    @staticmethod
    def _sorted(rules: dict[str, PathRule]) -> list[PathRule]:
        return sorted(rules.values(), key=lambda each: (each.origin == WALLS, each.path))
