"""Which paths of a policy Landlock can grant, and which grants must be given up.

A Landlock rule grants rights on a whole tree; no rule takes any away. A policy is not like that:
``deny`` and read-only islands lie inside granted trees. Where the agent gets a view of its own,
mounts cover the denied paths and make the islands read-only. Where it does not, a tree that holds
such a path is granted in pieces (:mod:`.pieces`).
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs
from nemoclaw_hookspecs import PathRule

from .rights import MODES


@attrs.frozen(slots=True, kw_only=True)
class Grant:
    """A tree, or a single file, and what may be done with it: one of :data:`.rights.MODES`."""

    path: str
    kind: str
    mode: str
    origin: str


def inside(path: str, tree: str) -> bool:
    """True when ``path`` lies below ``tree`` and is not ``tree`` itself."""
    return path != tree and path.startswith(tree if tree == "/" else tree + "/")


def denied(path: str, rules: Iterable[PathRule]) -> bool:
    """True when a ``deny`` rule stands at or above ``path``."""
    return any(
        rule.access == "deny" and (rule.path == path or inside(path, rule.path)) for rule in rules
    )


def granted(path: str, rules: Iterable[PathRule]) -> bool:
    """True when a ``read`` or ``write`` rule stands at or above ``path``."""
    return any(
        rule.access != "deny" and (rule.path == path or inside(path, rule.path)) for rule in rules
    )


def covered_grants(rules: tuple[PathRule, ...]) -> tuple[Grant, ...]:
    """Grants for a host where mounts cover denied paths and make islands read-only."""
    return without_repeats(grant_of(rule) for rule in effective(rules))


def effective(rules: tuple[PathRule, ...]) -> tuple[PathRule, ...]:
    """The rules that grant something, one a path: of two, the one that permits less."""
    chosen: dict[str, PathRule] = {}
    for rule in rules:
        if rule.access == "deny" or rule.kind == "missing" or denied(rule.path, rules):
            continue
        present = chosen.get(rule.path)
        if present is None or (present.access == "write" and rule.access == "read"):
            chosen[rule.path] = rule
    return tuple(chosen.values())


def grant_of(rule: PathRule) -> Grant:
    """The grant of a rule's whole tree."""
    mode = "write" if rule.access == "write" else "read"
    return Grant(path=rule.path, kind=rule.kind, mode=mode, origin=str(rule.origin))


def without_repeats(grants: Iterable[Grant]) -> tuple[Grant, ...]:
    """Leave out what another grant implies: it would cost a system call at every start and change
    nothing. Of two for one path the wider stays: the kernel would add them up."""
    chosen: dict[str, Grant] = {}
    for grant in grants:
        present = chosen.get(grant.path)
        if present is None or rank(grant.mode) > rank(present.mode):
            chosen[grant.path] = grant
    return tuple(grant for grant in chosen.values() if not _implied(grant, chosen))


def rank(mode: str) -> int:
    """How much a mode permits, in comparison."""
    return MODES.index(mode)


def _implied(grant: Grant, grants: dict[str, Grant]) -> bool:
    # A device or socket needs rights of its own kind, which a tree's rule may not carry.
    if grant.kind not in ("directory", "file"):
        return False
    # A file can be written where nothing new can be made.
    needed = "keep" if (grant.kind, grant.mode) == ("file", "write") else grant.mode
    path = grant.path
    while path != "/":
        path = path.rpartition("/")[0] or "/"
        other = grants.get(path)
        if other is not None and rank(other.mode) >= rank(needed):
            return True
    return False
