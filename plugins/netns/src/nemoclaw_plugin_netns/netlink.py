"""The routes and the nftables rules of a gated network, encoded as netlink(7) messages.

Encoded by pyroute2 when a plan is compiled, and kept in the plan as bytes: the launcher sends them
and imports nothing. Each message comes with what it does, in the words of ip(8) and nft(8).
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

from pyroute2.netlink.nfnetlink import nftsocket
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

_TABLE = "nemoclaw"
_INET = 1  # NFPROTO_INET
_REQUEST, _ACK, _EXCLUSIVE, _CREATE, _APPEND = 0x1, 0x4, 0x200, 0x400, 0x800
_NFTABLES = 10 << 8  # NFNL_SUBSYS_NFTABLES
_BATCH_BEGIN, _BATCH_END = 16, 17
_NEW_ADDRESS, _NEW_ROUTE = 20, 24
IPV4, IPV6 = "198.19.255.254", "fd00:6e63:6c61:77::1"
"""The namespace's own addresses, out of ranges that no server has (RFC 2544, RFC 4193)."""
_LOOPBACK_INDEX = 1
_OUTPUT = 3  # NF_INET_LOCAL_OUT
_DESTINATION_NAT, _FILTER = -100, 0  # priorities of the hooks
_NFPROTO, _L4PROTO = 15, 16  # keys of `meta`
_TCP, _UDP = b"\x06", b"\x11"
_ESTABLISHED_RELATED = 2 | 4


class Message(NamedTuple):
    """One message, and what it does."""

    data: bytes
    text: str


def routes() -> tuple[Message, ...]:
    """Every address of both families is this namespace's own: nothing is without a route, and
    nothing has another way than the loopback interface."""
    found = []
    for family, name in ((2, "0.0.0.0/0"), (10, "::/0")):
        message = rtmsg()
        # ip route add local NAME dev lo, in table local, scope host
        message.update(family=family, dst_len=0, table=255, type=2, scope=254, proto=4)
        message["attrs"] = [("RTA_TABLE", 255), ("RTA_OIF", _LOOPBACK_INDEX)]
        flags = _REQUEST | _ACK | _CREATE | _EXCLUSIVE
        found.append(Message(_encode(message, _NEW_ROUTE, flags), f"route local {name} dev lo"))
    return tuple(found)


def addresses() -> tuple[Message, ...]:
    """An address of each family besides loopback's own.

    Without one, getaddrinfo(3) with AI_ADDRCONFIG takes the family for unusable.
    """
    found = []
    for family, address, length in ((2, IPV4, 32), (10, IPV6, 128)):
        message = ifaddrmsg()
        message.update(family=family, prefixlen=length, flags=0, scope=254, index=_LOOPBACK_INDEX)
        message["attrs"] = [("IFA_LOCAL", address), ("IFA_ADDRESS", address)]
        flags = _REQUEST | _ACK | _CREATE | _EXCLUSIVE
        text = f"address add {address}/{length} dev lo"
        found.append(Message(_encode(message, _NEW_ADDRESS, flags), text))
    return tuple(found)


def rules(tcp: int, dns: int) -> tuple[Message, ...]:
    """The ruleset, as one transaction: TCP goes to our port, DNS to ours, the rest is refused.

    Loopback addresses stay the agent's own, but for port 53: 127.0.0.53 is a resolver of the host.

    :param tcp: port of 127.0.0.1 and ::1 where TCP to other addresses arrives.
    :param dns: port of both where DNS arrives, whatever server was asked.
    """
    to_tcp, to_dns = _redirect(tcp), _redirect(dns)
    port_53 = _at(2, 2, 2), _equal(struct.pack(">H", 53))
    return (
        _batch(_BATCH_BEGIN, "begin"),
        _message(
            nftsocket.nft_table_msg, 0, f"add table inet {_TABLE}", ("NFTA_TABLE_NAME", _TABLE)
        ),
        _chain("redirect", "nat", _DESTINATION_NAT),
        _rule("redirect", f"udp dport 53 redirect to :{dns}", _proto(_UDP), *port_53, to_dns),
        _rule("redirect", f"tcp dport 53 redirect to :{dns}", _proto(_TCP), *port_53, to_dns),
        _rule("redirect", "ip daddr 127.0.0.0/8 accept", *_LOOPBACK_4, _ACCEPT),
        _rule("redirect", "ip6 daddr ::1 accept", *_LOOPBACK_6, _ACCEPT),
        _rule("redirect", f"meta l4proto tcp redirect to :{tcp}", _proto(_TCP), to_tcp),
        _chain("refuse", "filter", _FILTER),
        _rule("refuse", "ct state established,related accept", *_KNOWN, _ACCEPT),
        _rule("refuse", "ip daddr 127.0.0.0/8 accept", *_LOOPBACK_4, _ACCEPT),
        _rule("refuse", "ip6 daddr ::1 accept", *_LOOPBACK_6, _ACCEPT),
        # At once, for every other protocol and address: nobody waits for a time-out.
        _rule("refuse", "reject with icmpx port-unreachable", _REJECT),
        _batch(_BATCH_END, "commit"),
    )


def _encode(message: Any, kind: int, flags: int) -> bytes:
    message["header"].update(type=kind, flags=flags, sequence_number=0, pid=0)
    message.encode()
    return bytes(message.data)


def _batch(kind: int, text: str) -> Message:
    header = struct.pack("=IHHII", 20, kind, _REQUEST, 0, 0)
    return Message(header + struct.pack("=BB", 0, 0) + struct.pack(">H", _NFTABLES >> 8), text)


def _message(
    kind: Any, number: int, text: str, *attributes: tuple[str, Any], flags: int = _CREATE
) -> Message:
    message = kind()
    message.update(nfgen_family=_INET, version=0, res_id=0)
    message["attrs"] = list(attributes)
    return Message(_encode(message, _NFTABLES | number, _REQUEST | _ACK | flags), text)


def _chain(name: str, kind: str, priority: int) -> Message:
    hook = {"attrs": [("NFTA_HOOK_HOOKNUM", _OUTPUT), ("NFTA_HOOK_PRIORITY", priority)]}
    return _message(
        nftsocket.nft_chain_msg,
        3,
        f"add chain {name} {{ type {kind} hook output priority {priority} }}",
        ("NFTA_CHAIN_TABLE", _TABLE),
        ("NFTA_CHAIN_NAME", name),
        ("NFTA_CHAIN_HOOK", hook),
        ("NFTA_CHAIN_TYPE", kind),
    )


def _rule(chain: str, text: str, *expressions: Any) -> Message:
    parts = [each for part in expressions for each in (part if isinstance(part, list) else [part])]
    return _message(
        nftsocket.nft_rule_msg,
        6,
        f"add rule {chain} {text}",
        ("NFTA_RULE_TABLE", _TABLE),
        ("NFTA_RULE_CHAIN", chain),
        ("NFTA_RULE_EXPRESSIONS", parts),
        flags=_CREATE | _APPEND,
    )


def _expression(name: str, *attributes: tuple[str, Any]) -> dict[str, Any]:
    data = {"attrs": list(attributes)}
    return {"attrs": [("NFTA_EXPR_NAME", name), ("NFTA_EXPR_DATA", data)]}


def _value(data: bytes) -> dict[str, Any]:
    return {"attrs": [("NFTA_DATA_VALUE", data)]}


def _meta(key: int) -> dict[str, Any]:
    return _expression("meta", ("NFTA_META_KEY", key), ("NFTA_META_DREG", 1))


def _compare(data: bytes, operator: int) -> dict[str, Any]:
    return _expression(
        "cmp", ("NFTA_CMP_SREG", 1), ("NFTA_CMP_OP", operator), ("NFTA_CMP_DATA", _value(data))
    )


def _equal(data: bytes) -> dict[str, Any]:
    return _compare(data, 0)


def _at(base: int, offset: int, length: int) -> dict[str, Any]:
    """Load bytes of the packet: base 1 is the network header, 2 the transport header."""
    return _expression(
        "payload",
        ("NFTA_PAYLOAD_DREG", 1),
        ("NFTA_PAYLOAD_BASE", base),
        ("NFTA_PAYLOAD_OFFSET", offset),
        ("NFTA_PAYLOAD_LEN", length),
    )


def _proto(number: bytes) -> list[dict[str, Any]]:
    return [_meta(_L4PROTO), _equal(number)]


def _redirect(port: int) -> list[dict[str, Any]]:
    data = _value(struct.pack(">H", port))
    load = _expression("immediate", ("NFTA_IMMEDIATE_DREG", 1), ("NFTA_IMMEDIATE_DATA", data))
    return [load, _expression("redir", ("NFTA_REDIR_REG_PROTO_MIN", 1))]


def _verdict(code: int) -> dict[str, Any]:
    verdict = {"attrs": [("NFTA_VERDICT_CODE", code)]}
    data = {"attrs": [("NFTA_DATA_VERDICT", verdict)]}
    return _expression("immediate", ("NFTA_IMMEDIATE_DREG", 0), ("NFTA_IMMEDIATE_DATA", data))


_ACCEPT = _verdict(1)  # NF_ACCEPT
_REJECT = _expression("reject", ("NFTA_REJECT_TYPE", 2), ("NFTA_REJECT_ICMP_CODE", 1))
_LOOPBACK_4 = (_meta(_NFPROTO), _equal(b"\x02"), _at(1, 16, 1), _equal(b"\x7f"))
_LOOPBACK_6 = (_meta(_NFPROTO), _equal(b"\x0a"), _at(1, 24, 16), _equal(bytes(15) + b"\x01"))
_KNOWN = (
    _expression("ct", ("NFTA_CT_DREG", 1), ("NFTA_CT_KEY", 0)),  # NFT_CT_STATE
    _expression(
        "bitwise",
        ("NFTA_BITWISE_SREG", 1),
        ("NFTA_BITWISE_DREG", 1),
        ("NFTA_BITWISE_LEN", 4),
        ("NFTA_BITWISE_MASK", _value(struct.pack("=I", _ESTABLISHED_RELATED))),
        ("NFTA_BITWISE_XOR", _value(bytes(4))),
    ),
    _compare(bytes(4), 1),
)
