"""The network layer: a network namespace with nothing in it but its own loopback."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nemoclaw_hookspecs import hookimpl

if TYPE_CHECKING:
    from nemoclaw_hookspecs import Host, Layer, Policy

NEMOCLAW_API = (1, 0)


@hookimpl
def apply_net(policy: Policy, host: Host) -> Layer:
    """A closed network, whatever the policy's mode; rules that would open it are a gap."""
    from .closed import build

    return build(policy, host)
