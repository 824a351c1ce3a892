"""Whether a network namespace of this user's can redirect connections with nftables.

Asked with rules of the kind that a gate needs, in a namespace that is gone afterwards: the tables
may be there and a kind of expression missing, since each is a kernel module of its own.
"""

from __future__ import annotations

import struct

from ..launcher import kernel, operations
from .answers import Answer, told
from .children import Tell, ask, within

SUBJECT = "nftables"
_INET, _OUTPUT, _DESTINATION_NAT = 1, 3, -100  # linux/netfilter.h, netfilter_ipv4.h
_NFTABLES = 10 << 8  # NFNL_SUBSYS_NFTABLES
_NESTED = 0x8000
_TABLE = b"probe\0"


def examine(uid: int, gid: int) -> Answer:
    """Make a table with a redirection and a refusal, where a network namespace can be made."""
    kinds = ("user", "network") if uid else ("network",)
    flags = 0
    for kind in kinds:
        flags |= kernel.CLONE_FLAGS[kind]

    def use(tell: Tell) -> None:
        try:
            if uid:
                operations.map_caller(uid, gid)
            messages = _messages()
            step = {"protocol": "netfilter", "messages": messages, "texts": _TEXTS}
            operations.netlink(step)
            tell("works")
        except OSError as error:
            tell(told(error))

    reply = ask(lambda tell: within(flags, lambda: use(tell)))
    detail = reply.lines[0] if reply.lines else reply.failure or "the process inside died"
    return Answer(subject=SUBJECT, works=detail == "works", detail=detail)


_TEXTS = ["begin", "a table", "a chain of type nat", "redirect", "a chain", "reject", "commit"]


def _messages() -> list[bytes]:
    table = _attribute(1, _TABLE)
    load = _expression(b"immediate\0", _number(1, 1) + _nested(2, _attribute(1, b"\0\1")))
    return [
        _message(16, b"\0\0\0\x0a", acknowledged=False),
        _message(_NFTABLES, _family() + table),
        _chain(b"redirect\0", b"nat\0", _DESTINATION_NAT),
        _rule(b"redirect\0", load + _expression(b"redir\0", _number(1, 1))),
        _chain(b"refuse\0", b"filter\0", 0),
        _rule(b"refuse\0", _expression(b"reject\0", _number(1, 2) + _attribute(2, b"\1"))),
        _message(17, b"\0\0\0\x0a", acknowledged=False),
    ]


def _chain(name: bytes, kind: bytes, priority: int) -> bytes:
    hook = _nested(4, _number(1, _OUTPUT) + _attribute(2, struct.pack(">i", priority)))
    body = _attribute(1, _TABLE) + _attribute(3, name) + hook + _attribute(7, kind)
    return _message(_NFTABLES | 3, _family() + body)


def _rule(chain: bytes, expressions: bytes) -> bytes:
    body = _attribute(1, _TABLE) + _attribute(2, chain) + _nested(4, expressions)
    return _message(_NFTABLES | 6, _family() + body)


def _expression(name: bytes, data: bytes) -> bytes:
    return _nested(1, _attribute(1, name) + _nested(2, data))


def _message(kind: int, body: bytes, *, acknowledged: bool = True) -> bytes:
    flags = 0x405 if acknowledged else 0x1  # NLM_F_CREATE, NLM_F_ACK, NLM_F_REQUEST
    return struct.pack("=IHHII", 16 + len(body), kind, flags, 0, 0) + body


def _family() -> bytes:
    return struct.pack("=BBH", _INET, 0, 0)


def _nested(kind: int, data: bytes) -> bytes:
    return _attribute(_NESTED | kind, data)


def _number(kind: int, value: int) -> bytes:
    return _attribute(kind, struct.pack(">I", value))


def _attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)
