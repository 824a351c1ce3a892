"""The network layer: a network namespace that is closed, or whose only way out is the gate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nemoclaw_hookspecs import hookimpl

if TYPE_CHECKING:
    from nemoclaw_hookspecs import Host, Layer, Policy

NEMOCLAW_API = (1, 0)


@hookimpl
def apply_net(policy: Policy, host: Host) -> Layer:
    """A closed network, or one that ends in the sockets of the gate, as ``network.mode`` says."""
    from .layer import build

    return build(policy, host)
