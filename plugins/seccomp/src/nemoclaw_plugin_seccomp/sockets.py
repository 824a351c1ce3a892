"""Which sockets may be made. It depends on what else closes the network on this host.

Inside its own network namespace the agent may use TCP, UDP and Unix sockets freely: nothing leads
out of it. Where the host has no such namespace, this filter is what is left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .rules import ArgumentRule, Match, Pattern, Refusal, any_of, both, equals, other_than, refusals

if TYPE_CHECKING:
    from nemoclaw_hookspecs import Host, Policy

AF_UNIX, AF_INET, AF_INET6, AF_NETLINK = 1, 2, 10, 16
SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET = 1, 2, 5
SOCK_TYPE_MASK = 0xF
"""socket(2) takes SOCK_NONBLOCK and SOCK_CLOEXEC in the same argument (include/linux/net.h)."""
IPPROTO_TCP, IPPROTO_UDP = 6, 17
NETLINK_ROUTE = 0
PROBED_PROTOCOLS = (1, 33, 58, 132, 136, 262)
"""ICMP, DCCP, ICMPv6, SCTP, UDP-Lite and MPTCP. Programs try them (Go tries MPTCP) and go on
without when the answer is EPROTONOSUPPORT. Landlock's TCP rules do not hold for MPTCP."""
FAMILY_BITS = 6
"""Families are below 64 (AF_MAX is 46); anything higher is refused without a fine answer."""
NETLINK_BITS = 5
"""Netlink protocols are below 32 (MAX_LINKS)."""

CLOSED = "network: nothing else on this host would close what it opens"
"""Why a call is refused that the profile allows elsewhere."""

LANDLOCK_UNIX_ABI = 9
"""From this ABI on, Landlock decides which path-named sockets can be connected to."""


def _typed(kind: int, *protocols: int) -> tuple[Pattern, ...]:
    return both(((Match(1, SOCK_TYPE_MASK, kind),),), equals(2, *protocols))


def _socket(families: tuple[int, ...], why: str, *, datagrams: bool = True) -> ArgumentRule:
    """Stream and datagram sockets of ``families``; route messages alone from netlink."""
    internet = tuple(family for family in families if family in (AF_INET, AF_INET6))
    only: tuple[Pattern, ...] = ()
    never: tuple[Refusal, ...] = refusals(other_than(0, families, FAMILY_BITS), "EAFNOSUPPORT")
    if AF_UNIX in families:
        only += equals(0, AF_UNIX)
    if AF_NETLINK in families:
        only += both(equals(0, AF_NETLINK), equals(2, NETLINK_ROUTE))
        others = both(equals(0, AF_NETLINK), any_of(2, (1 << NETLINK_BITS) - 1))
        never += refusals(others, "EPROTONOSUPPORT")
    if internet:
        kinds = _typed(SOCK_STREAM, 0, IPPROTO_TCP)
        if datagrams:
            kinds += _typed(SOCK_DGRAM, 0, IPPROTO_UDP)
        only += both(equals(0, *internet), kinds)
        probed = both(equals(0, *internet), equals(2, *PROBED_PROTOCOLS))
        never += refusals(probed, "EPROTONOSUPPORT")
    return ArgumentRule(why=why, only=only, never=never)


def rules(policy: Policy, host: Host) -> dict[str, ArgumentRule | None]:
    """Rules of the calls that make sockets. None = the call is refused altogether.

    :param host: its namespaces are those that the sandbox has.
    """
    families: tuple[int, ...] = ()
    why = []
    # A Unix socket that has a path on the host (a Docker or D-Bus daemon, nemoclaw's own control
    # socket) is out of reach when the path does not exist inside, or when Landlock guards it.
    if "mount" in host.namespaces or host.landlock_abi >= LANDLOCK_UNIX_ABI:
        families += (AF_UNIX,)
        why.append("Unix")
    datagrams = True
    listen: dict[str, ArgumentRule | None] = {}
    if "network" in host.namespaces:
        families += (AF_INET, AF_INET6, AF_NETLINK)
        why.append("TCP and UDP, netlink for routes")
    elif policy.network.mode != "none":
        # Landlock holds TCP to the proxy's port. It does not know UDP, nor listen(2) without
        # bind(2), which would open a port to the outside.
        families += (AF_INET, AF_INET6)
        datagrams = False
        listen["listen"] = None
        why.append("TCP alone, no listening (this host has no network namespace)")
    text = f"{'; '.join(why)}; no raw, packet, vsock, MPTCP or other sockets"
    rule = _socket(families, text, datagrams=datagrams) if families else None
    paired: tuple[Pattern, ...] = equals(0, AF_UNIX)
    if AF_UNIX not in families:
        # One of a datagram pair can be connected anew, to a socket of the host's; one of a
        # connected kind stays what it is.
        connected = tuple(
            (Match(1, SOCK_TYPE_MASK, kind),) for kind in (SOCK_STREAM, SOCK_SEQPACKET)
        )
        paired = both(paired, connected)
    pair = ArgumentRule(
        why="Unix pairs",
        only=paired,
        never=refusals(other_than(0, (AF_UNIX,), FAMILY_BITS), "EAFNOSUPPORT"),
    )
    return {"socket": rule, "socketpair": pair, **listen}
