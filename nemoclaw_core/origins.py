"""Which line of which policy file stands behind each part of a plan.

Plugins say it with what they ask for, as far as they know it. What they leave open is completed
here, so that whoever reads a plan finds a file and a line wherever one exists. Where none says it,
the key is marked ``(default)``, or the origin is empty.
"""

from __future__ import annotations

from typing import TypeVar

import attrs
from nemoclaw_hookspecs.plan import Step
from nemoclaw_hookspecs.policy import Policy
from nemoclaw_hookspecs.seal import Gap

from .contract import place

_SECTIONS = ("filesystem", "process", "syscalls", "network")
Traced = TypeVar("Traced", Gap, Step)


def traced(part: Traced, plugin: str, policy: Policy) -> Traced:
    """A step or a gap of a plugin, with its origin completed."""
    if isinstance(part, Gap):
        return attrs.evolve(part, origin=_completed(part.origin, plugin, policy))
    operation = part.operation
    origin = _completed(operation.origin, plugin, policy)
    return attrs.evolve(part, operation=attrs.evolve(operation, origin=origin))


def _completed(origin: str, plugin: str, policy: Policy) -> str:
    if not origin:
        # No value of the policy decides about it: it is there because the plugin is.
        return place(policy.plugins, "enable", plugin) or ""
    bare = origin.removeprefix(f"{policy.file} ").removeprefix(f"policy.{policy.name}.")
    section, dot, key = bare.partition(".")
    if dot and section in _SECTIONS and " " not in bare:
        written = getattr(policy, section).origins.get(key)
        return f"{bare} (default)" if written is None else str(written)
    return origin
