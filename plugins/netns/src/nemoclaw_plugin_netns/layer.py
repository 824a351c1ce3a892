"""The network layer of a policy on a host, as seal operations: a pure function of both.

A new network namespace (network_namespaces(7)) holds a loopback interface that is down, and
nothing else: no route, no address, no socket of the host, and no abstract UNIX socket of it
either. With the loopback up, the agent's own servers and clients reach each other and nobody else.
"""

from __future__ import annotations

from nemoclaw_hookspecs import Gap, Host, Layer, LinkUp, Policy, Unshare


def build(policy: Policy, host: Host) -> Layer:
    """The network layer of a policy on a host."""
    network = policy.network
    origin = str(network.origins.get("mode", ""))
    if "network" not in host.namespaces:
        return Layer(gaps=(_no_namespace(origin),))
    if network.mode == "proxy":
        from . import gated

        return gated.build(network, host)
    return Layer(
        operations=(
            Unshare(namespaces=("network",), origin=origin),
            LinkUp(interface="lo", origin=origin),
        )
    )


def _no_namespace(origin: str) -> Gap:
    return Gap(
        what="a network namespace",
        consequence="the agent shares this host's network, its loopback included; Landlock and the "
        "system call filter still refuse what they can, and neither knows every protocol",
        remedy="allow user namespaces on this host (`nemoclaw doctor` says how), or start "
        "nemoclaw as root",
        origin=origin,
    )
