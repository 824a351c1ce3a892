"""Which paths of a policy Landlock can grant, and which grants must be given up.

A Landlock rule grants rights on a whole tree; no rule takes any away. A policy is not like that:
``deny`` and read-only islands lie inside granted trees. Where the agent gets a view of its own,
mounts cover the denied paths and make the islands read-only. Where it does not, a tree that holds
such a path cannot be granted, and giving up the tree is the only answer that never grants more
than the policy says.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import attrs
from nemoclaw_hookspecs import Gap, PathRule


@attrs.frozen(slots=True, kw_only=True)
class Grant:
    """A tree, or a single file, and whether it may be read or written."""

    path: str
    kind: str
    mode: Literal["read", "write"]
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
    """Grants for a host where mounts cover denied paths and make islands read-only.

    A rule that a wider one already implies is left out: it would cost a system call at every
    start and change nothing.
    """
    grants = _narrowest(_grant(rule) for rule in rules if _alive(rule, rules))
    return tuple(grant for grant in grants if not _implied(grant, grants))


def bare_grants(rules: tuple[PathRule, ...]) -> tuple[tuple[Grant, ...], tuple[Gap, ...]]:
    """Grants for a host where Landlock is alone, and what had to be given up.

    A tree with a denied path inside is not granted at all. A writable tree with a read-only
    island inside can be read, and not written.
    """
    grants: list[Grant] = []
    gaps: list[Gap] = []
    for rule in rules:
        if not _alive(rule, rules):
            continue
        held = [other for other in rules if inside(other.path, rule.path)]
        denials = [other for other in held if other.access == "deny"]
        islands = [other for other in held if other.access == "read"]
        if denials:
            gaps.append(_not_granted(rule, denials))
        elif rule.access == "write" and islands:
            gaps.append(_not_writable(rule, islands))
            grants.append(attrs.evolve(_grant(rule), mode="read"))
        else:
            grants.append(_grant(rule))
    kept = _narrowest(grants)
    return tuple(grant for grant in kept if not _implied(grant, kept)), tuple(gaps)


def _alive(rule: PathRule, rules: tuple[PathRule, ...]) -> bool:
    return rule.access != "deny" and rule.kind != "missing" and not denied(rule.path, rules)


def _grant(rule: PathRule) -> Grant:
    mode: Literal["read", "write"] = "write" if rule.access == "write" else "read"
    return Grant(path=rule.path, kind=rule.kind, mode=mode, origin=str(rule.origin))


def _narrowest(grants: Iterable[Grant]) -> tuple[Grant, ...]:
    """One grant a path: of two that contradict each other, the one that permits less."""
    chosen: dict[str, Grant] = {}
    for grant in grants:
        present = chosen.get(grant.path)
        if present is None or (present.mode == "write" and grant.mode == "read"):
            chosen[grant.path] = grant
    return tuple(chosen.values())


def _implied(grant: Grant, grants: tuple[Grant, ...]) -> bool:
    # A device or socket needs rights of its own kind, which a tree's rule may not carry.
    return grant.kind in ("directory", "file") and any(
        inside(grant.path, other.path) and (other.mode == "write" or grant.mode == "read")
        for other in grants
    )


_CAUSE = "and without a mount namespace Landlock cannot take a path out of a tree that it grants"


def _named(rules: list[PathRule]) -> str:
    first = ", ".join(f"{rule.path} ({rule.origin})" for rule in rules[:3])
    return first if len(rules) <= 3 else f"{first} and {len(rules) - 3} more"


def _not_granted(rule: PathRule, denials: list[PathRule]) -> Gap:
    return Gap(
        what=f"{rule.access} access to {rule.path}, which holds denied paths",
        consequence=f"the agent gets no access to {rule.path} at all: the policy denies "
        f"{_named(denials)} inside it, {_CAUSE}",
        remedy="allow user namespaces on this host (`nemoclaw doctor` says how), or grant "
        "directories that hold no denied path",
        origin=str(rule.origin),
    )


def _not_writable(rule: PathRule, islands: list[PathRule]) -> Gap:
    return Gap(
        what=f"write access to {rule.path}, which holds read-only paths",
        consequence=f"the agent can read {rule.path} and write nothing in it: the policy makes "
        f"{_named(islands)} read-only inside it, {_CAUSE}",
        remedy="allow user namespaces on this host (`nemoclaw doctor` says how), or grant "
        "writing to directories that hold no read-only path",
        origin=str(rule.origin),
    )
