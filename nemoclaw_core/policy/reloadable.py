"""What of a policy can be put in force while an agent runs.

Far less than a start needs: what is locked is compared as it was written, so nothing is looked up
in the file system, and no plugin is asked.
"""

from __future__ import annotations

import attrs
from nemoclaw_hookspecs import NetworkPolicy

from . import check
from .context import Context
from .locate import locate
from .locked import locked_in
from .merge import merge
from .problems import Problem, refuse
from .resolve import network_of
from .walk import Observer


@attrs.frozen(slots=True, kw_only=True)
class Reloadable:
    """A policy's network rules, and what must be the same as at the start."""

    policy: str
    """``FILE:NAME``."""
    network: NetworkPolicy
    locked: dict[str, str]


def reloadable(selector: str | None, context: Context, *, named: bool = True) -> Reloadable:
    """The network rules of a policy.

    :param named: see :func:`.locate.locate`.
    :raises PolicyError: with every problem that was found.
    """
    located = locate(selector, context, Observer(), named=named)
    problems: list[Problem] = []
    merged = merge(located.name, located.source, located.shipped, problems)
    check.plugins(located.source, located.shipped, problems)
    if merged is None:
        refuse(problems)
    network = network_of(merged, context, problems)
    if problems:
        refuse(problems)
    return Reloadable(
        policy=f"{located.source.file}:{located.name}",
        network=network,
        locked=locked_in(located, merged),
    )
