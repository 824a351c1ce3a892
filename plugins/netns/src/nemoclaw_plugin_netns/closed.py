"""A closed network as seal operations: a pure function of policy and host.

A new network namespace (network_namespaces(7)) holds a loopback interface that is down, and
nothing else: no route, no address, no socket of the host, and no abstract UNIX socket of it
either. With the loopback up, the agent's own servers and clients reach each other and nobody else.
"""

from __future__ import annotations

from collections.abc import Iterator

from nemoclaw_hookspecs import Gap, Host, Layer, LinkUp, NetworkPolicy, Operation, Policy, Unshare


def build(policy: Policy, host: Host) -> Layer:
    """The network layer of a policy on a host."""
    network = policy.network
    origin = str(network.origins.get("mode", ""))
    gaps = list(_unserved(network))
    if "network" not in host.namespaces:
        return Layer(gaps=(_no_namespace(origin), *gaps))
    operations: tuple[Operation, ...] = (
        Unshare(namespaces=("network",), origin=origin),
        LinkUp(interface="lo", origin=origin),
    )
    return Layer(operations=operations, gaps=tuple(gaps))


def _no_namespace(origin: str) -> Gap:
    return Gap(
        what="a network namespace",
        consequence="the agent shares this host's network, its loopback included; Landlock and the "
        "system call filter still refuse what they can, and neither knows every protocol",
        remedy="allow user namespaces on this host (`nemoclaw doctor` says how), or start "
        "nemoclaw as root",
        origin=origin,
    )


def _unserved(network: NetworkPolicy) -> Iterator[Gap]:
    """What the policy would let out, and this version keeps in.

    A closed network is narrower than such a policy, so nothing is in danger. Still a strict run is
    refused: an agent that was promised github.com and finds no network fails in puzzling ways.
    """
    if network.mode != "proxy":
        return
    if network.allow:
        first = network.allow[0]
        rest = len(network.allow) - 1
        named = f"{first.name or first.host}" + (f" and {rest} more" if rest else "")
        yield Gap(
            what=f"egress rules ({named})",
            consequence="this version has no egress proxy: the network is closed, and no host can "
            "be reached, also those that the rules allow",
            remedy='write `mode = "none"` and remove the rules, or accept a closed network with '
            '`compatibility = "best-effort"`',
            origin=str(first.origin),
        )
    if network.unknown == "ask":
        yield Gap(
            what="holding unknown connections for an operator",
            consequence="this version has no egress proxy: every connection is refused at once, "
            "and nobody is asked",
            remedy='write `unknown = "deny"`, or accept a closed network with '
            '`compatibility = "best-effort"`',
            origin=str(network.origins.get("unknown", "")),
        )
