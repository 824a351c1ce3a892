"""Grants for a host where Landlock is alone: trees in pieces, and what is given up.

Rights on a directory hold for everything below it. So a directory on the way from a granted tree to
a path that the tree withholds gets no right that would reach that path, and each of its other
entries is granted by itself. What was not there when the policy was resolved is not granted.

=============================  =====================================================================
the tree withholds             what a directory above it can be granted
=============================  =====================================================================
a denied directory             nothing: any right would reach what is in it
a denied file                  listing
a read-only path               reading
a denied path that is missing  all but what could make it: any new entry where only the last part is
                               missing, else new directories and symbolic links
=============================  =====================================================================

A name that cannot be made where no entry can, cannot come by renaming or linking either: both need
the right to make an entry of that kind (landlock(7)). Nor can a directory on the way be moved to
where more is permitted, for the kernel refuses what would gain rights by a move.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs
from nemoclaw_hookspecs import Gap, PathRule
from nemoclaw_hookspecs.policy import PathKind

from .trees import Grant, effective, grant_of, inside, rank, without_repeats

_MOST = 10_000
"""Rules for the pieces of one tree."""
_NOTHING = ""
_LANDLOCK = "without a mount namespace Landlock cannot take a path out of a tree that it grants"
_REMEDY = (
    "allow user namespaces on this host (`nemoclaw doctor` says how), or use a policy that grants "
    "writing to {path} and denies nothing in it, and keep policy files elsewhere "
    "(~/.config/nemoclaw/policies.toml)"
)

Contents = Mapping[str, Mapping[str, PathKind]]


def bare_grants(
    rules: tuple[PathRule, ...], contents: Contents, *, fallbacks: bool
) -> tuple[tuple[Grant, ...], tuple[Gap, ...]]:
    """Grants that reach no path which the rules withhold, and what had to be given up.

    :param contents: as in :class:`nemoclaw_hookspecs.FilesystemPolicy`. A tree of which they are
        not known is not granted; one with read-only paths alone can be read.
    :param fallbacks: denials of missing paths that something else makes harmless may be left out.
    """
    grants: list[Grant] = []
    gaps: list[Gap] = []
    alive = effective(rules)
    for rule in alive:
        islands = [each for each in alive if rule.access == "write" and each.access == "read"]
        held = [
            other
            for other in rules
            if inside(other.path, rule.path) and (other.access == "deny" or other in islands)
        ]
        if fallbacks and rule.access == "write":
            left = [other for other in held if other.kind == "missing" and other.fallback]
            gaps.extend(_left_out(other) for other in left)
            held = [other for other in held if other not in left]
        if not held:
            grants.append(grant_of(rule))
            continue
        pieces = _Pieces(rule, held, contents)
        if pieces.known:
            grants.extend(pieces.grants(frozenset(other.path for other in alive)))
            if pieces.narrowed:
                gaps.append(_in_pieces(pieces))
        elif any(other.access == "deny" for other in held):
            gaps.append(_not_granted(rule, held))
        else:
            grants.append(attrs.evolve(grant_of(rule), mode="read"))
            gaps.append(_not_writable(rule, held))
    return without_repeats(grants), tuple(gaps)


class _Pieces:
    """One tree, taken apart along the ways to what it withholds."""

    def __init__(self, rule: PathRule, held: list[PathRule], contents: Contents) -> None:
        self.rule = rule
        self.held = held
        self.contents = contents
        self.whole = grant_of(rule)
        # The mode of each directory on a way; the paths at which ways end.
        self.modes: dict[str, str] = {}
        self._ends = {each.path for each in held}
        self.known = all([self._go(each) for each in held])
        self.known = self.known and sum(len(contents[each]) for each in self.modes) <= _MOST

    @property
    def narrowed(self) -> dict[str, list[str]]:
        """Directories by mode, those that get less than the tree was to get."""
        found: dict[str, list[str]] = {}
        for path, mode in self.modes.items():
            if mode != self.whole.mode:
                found.setdefault(mode, []).append(path)
        return found

    def grants(self, ruled: frozenset[str]) -> Iterator[Grant]:
        """The pieces. ``ruled`` have rules of their own."""
        for folder, mode in self.modes.items():
            if mode != _NOTHING:
                yield attrs.evolve(self.whole, path=folder, mode=mode)
            for name, kind in self.contents[folder].items():
                path = _joined(folder, name)
                ours = path not in self.modes and path not in self._ends and path not in ruled
                if ours and kind in ("directory", "file"):
                    yield attrs.evolve(self.whole, path=path, kind=kind)

    def _go(self, held: PathRule) -> bool:
        """Narrow the directories on the way to a path; False when one of them is not known."""
        way = []
        folder = self.rule.path
        path, is_there = folder, False
        for name in held.path[len(folder.rstrip("/")) + 1 :].split("/"):
            entries = self.contents.get(folder)
            if entries is None:
                return False
            way.append(folder)
            path, is_there = _joined(folder, name), name in entries
            if path in self._ends or entries.get(name) != "directory":
                break
            folder = path
        mode = _above(held, is_last=path == held.path, is_there=is_there)
        for each in way:
            self.modes[each] = _narrower(mode, self.modes.get(each, self.whole.mode))
        return True


def _above(held: PathRule, *, is_last: bool, is_there: bool) -> str:
    """What the directories above a withheld path can be granted.

    :param is_last: the way ended at the path itself, and not above it.
    :param is_there: something is where the way ended.
    """
    if held.access != "deny":
        return "read"
    if held.kind == "missing" and not is_there:
        return "keep" if is_last else "files"
    if held.kind == "missing" and not is_last:
        return "read"  # Nothing is there to be read, and what ended the way counts for itself.
    return _NOTHING if held.kind in ("directory", "missing") else "list"


def _narrower(one: str, other: str) -> str:
    if _NOTHING in (one, other):
        return _NOTHING
    return min(one, other, key=rank)


def _joined(folder: str, name: str) -> str:
    return f"{folder.rstrip('/')}/{name}"


# --- words


def _listed(names: list[str], of: int = 3) -> str:
    first = ", ".join(names[:of])
    return first if len(names) <= of else f"{first} and {len(names) - of} more"


def _named(rules: list[PathRule]) -> str:
    return _listed([f"{rule.path} ({rule.origin})" for rule in rules])


_CANNOT = {
    "files": "make directories or symbolic links directly in {}",
    "keep": "make anything directly in {}",
    "read": "make, change or remove anything directly in {}",
    "list": "make, change or remove anything directly in {}",
    _NOTHING: "list {0}, or make, change or remove anything directly in {0}",
}


def _in_pieces(pieces: _Pieces) -> Gap:
    rule, access = pieces.rule, pieces.rule.access
    table = _CANNOT
    if access == "read":
        table = {"list": "read what appears directly in {}", _NOTHING: "list {}"}
    cannot = "; it cannot ".join(
        table[mode].format(_listed(paths)) for mode, paths in pieces.narrowed.items()
    )
    return Gap(
        what=f"{access} access to the whole of {rule.path}",
        consequence=f"the agent cannot {cannot}. What else was there at the start it can {access}. "
        f"The policy withholds {_named(pieces.held)}, and {_LANDLOCK}; a policy that withholds "
        "nothing in it grants all of it",
        remedy=_REMEDY.format(path=rule.path),
        origin=str(rule.origin),
    )


def _left_out(rule: PathRule) -> Gap:
    return Gap(
        what=f"keeping {rule.path} from being made",
        consequence=f"the agent can make it: {rule.fallback}",
        remedy="allow user namespaces on this host (`nemoclaw doctor` says how)",
        origin=str(rule.origin),
    )


def _not_granted(rule: PathRule, held: list[PathRule]) -> Gap:
    denials = [each for each in held if each.access == "deny"]
    return Gap(
        what=f"{rule.access} access to {rule.path}, which holds denied paths",
        consequence=f"the agent gets no access to the whole of {rule.path}: the policy denies "
        f"{_named(denials)} inside it, and {_LANDLOCK}",
        remedy=_REMEDY.format(path=rule.path),
        origin=str(rule.origin),
    )


def _not_writable(rule: PathRule, islands: list[PathRule]) -> Gap:
    return Gap(
        what=f"write access to {rule.path}, which holds read-only paths",
        consequence=f"the agent can read {rule.path} and write nothing in it: the policy makes "
        f"{_named(islands)} read-only inside it, and {_LANDLOCK}",
        remedy="allow user namespaces on this host (`nemoclaw doctor` says how), or grant "
        "writing to directories that hold no read-only path",
        origin=str(rule.origin),
    )
