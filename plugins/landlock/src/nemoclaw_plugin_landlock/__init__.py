"""The filesystem layer: what the agent may read and write, enforced by Landlock (landlock(7))."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nemoclaw_hookspecs import hookimpl

if TYPE_CHECKING:
    from nemoclaw_hookspecs import Host, Layer, Policy

NEMOCLAW_API = (1, 0)


@hookimpl
def apply_fs(policy: Policy, host: Host) -> Layer:
    """One Landlock ruleset for the whole policy, with every right that the host's ABI has."""
    # Imported here, because the `landlock` package costs 25 ms and a cached plan needs none of it.
    from .ruleset import build

    return build(policy, host)
