"""How the contributions of several plugins become one plan: they can only narrow each other.

Rulesets and filters add up, because the kernel takes the strictest of them. Of limits the lowest
holds, of mounts the read-only one, and a mask hides whatever anybody mounts at or below it. Where
two plugins want different things and neither is narrower, nobody guesses: it is an error.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs
from nemoclaw_hookspecs.errors import PluginError
from nemoclaw_hookspecs.plan import Step
from nemoclaw_hookspecs.seal import (
    BindMount,
    LandlockRuleset,
    Listen,
    Mask,
    Operation,
    Rlimit,
    SeccompFilter,
    Unshare,
)

from .admission import is_below

_ADD_UP = (LandlockRuleset, SeccompFilter, Unshare)


def combine(steps: Iterable[Step]) -> tuple[Step, ...]:
    """One plan's steps out of those of several contributors.

    :raises PluginError: naming both plugins of a conflict.
    """
    merged: dict[object, Step] = {}
    for step in steps:
        key = _key(step.operation, len(merged))
        earlier = merged.get(key)
        merged[key] = step if earlier is None else _narrower(earlier, step)
    masked = [step.operation.target for step in merged.values() if isinstance(step.operation, Mask)]
    return tuple(step for step in merged.values() if not _is_hidden(step.operation, masked))


def _key(operation: Operation, position: int) -> object:
    """What at most one step of a plan can be about."""
    kind = type(operation)
    if isinstance(operation, _ADD_UP):
        return kind, position
    if isinstance(operation, Rlimit):
        return kind, operation.resource
    if isinstance(operation, Listen):
        return kind, operation.name
    for field in ("target", "interface", "protocol", "parent"):
        if hasattr(operation, field):
            return kind, getattr(operation, field)
    return kind


def _narrower(first: Step, second: Step) -> Step:
    one, other = first.operation, second.operation
    if isinstance(one, Rlimit) and isinstance(other, Rlimit):
        return second if other.value < one.value else first
    if isinstance(one, BindMount) and isinstance(other, BindMount):
        owner = one.owner or other.owner
        same = (one.source, one.kind) == (other.source, other.kind)
        if same and other.owner in (None, owner):
            origin = other.origin if one.read_only < other.read_only else one.origin
            read_only = one.read_only or other.read_only
            narrow = attrs.evolve(one, read_only=read_only, owner=owner, origin=origin)
            return attrs.evolve(first, operation=narrow)
    elif attrs.evolve(one, origin="") == attrs.evolve(other, origin=""):
        return first
    name = type(one).__name__
    about = getattr(one, "target", None) or name
    raise PluginError(
        f"plugins {first.plugin!r} and {second.plugin!r} ask for a different {name} at {about}",
        plugin=second.plugin,
        where=", ".join(filter(None, (one.origin, other.origin))) or None,
        remedy="take one of them off plugins.enable",
    )


def _is_hidden(operation: Operation, masked: list[str]) -> bool:
    target = getattr(operation, "target", None)
    return target is not None and any(is_below(target, mask) for mask in masked)
