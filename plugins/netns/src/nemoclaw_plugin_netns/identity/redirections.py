"""What the kernel knows of redirected connections, asked through a socket of NETLINK_NETFILTER.

A connection that nftables redirects may arrive with another source port than its client has: two
clients, or one, may use the same port towards different servers, which is no conflict until both
are led to the same port of ours. Then the kernel gives one of them another, and a socket with that
port, which belongs to the one that it was given to by name only, may exist as well, whoever has it.
Connection tracking knows both ends of both sides (linux/netfilter/nfnetlink_conntrack.h).

Like a socket of sock_diag it sees the namespace that it was born in. The kernel asks for
CAP_NET_ADMIN there: of who made it, and of who uses it, which the supervisor has.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from socket import AF_INET, AF_INET6, MSG_DONTWAIT, inet_ntop, inet_pton
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from socket import socket

_GET = 1 << 8 | 1  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET
_ERROR, _REQUEST = 2, 0x1
_HEADER = struct.Struct("=IHHII")
_FAMILY = struct.Struct("=BBH")
_ATTRIBUTE = struct.Struct("=HH")
_NESTED, _KIND = 0x8000, 0x3FFF
_ORIGINAL, _REPLY = 1, 2  # CTA_TUPLE_ORIG, CTA_TUPLE_REPLY
_IP, _PROTOCOL = 1, 2  # CTA_TUPLE_IP, CTA_TUPLE_PROTO
_NUMBER, _SOURCE_PORT, _DESTINATION_PORT = 1, 2, 3
_ADDRESSES = {AF_INET: (1, 2), AF_INET6: (3, 4)}
_TCP = b"\x06"
_LARGE = 1 << 13

Ends = tuple[tuple[str, int], tuple[str, int]]


class Redirections:
    """Questions to one such socket; one at a time."""

    def __init__(self, netfilter: socket) -> None:
        self._netfilter = netfilter
        self._sequence = 0

    def original(self, accepted: tuple[Any, ...], peer: tuple[Any, ...]) -> Ends | None:
        """A connection's two ends as its client has them: its own, and what it has dialled.

        :param accepted: the accepted socket's own address and port.
        :param peer: those that it calls its peer's.
        :returns: None if no such connection is tracked.
        :raises OSError: the kernel cannot be asked, or does not tell.
        """
        family = AF_INET6 if ":" in accepted[0] else AF_INET
        source, destination = _ADDRESSES[family]
        own, other = (inet_pton(family, end[0].partition("%")[0]) for end in (accepted, peer))
        ports = (accepted[1].to_bytes(2, "big"), peer[1].to_bytes(2, "big"))
        reply = _nested(
            _REPLY,
            _nested(_IP, _attribute(source, own), _attribute(destination, other)),
            _nested(
                _PROTOCOL,
                _attribute(_NUMBER, _TCP),
                _attribute(_SOURCE_PORT, ports[0]),
                _attribute(_DESTINATION_PORT, ports[1]),
            ),
        )
        answer = self._ask(_FAMILY.pack(family, 0, 0) + reply)
        if answer is None:
            return None
        found = dict(_attributes(dict(_attributes(answer[_FAMILY.size :]))[_ORIGINAL]))
        addresses, protocol = dict(_attributes(found[_IP])), dict(_attributes(found[_PROTOCOL]))
        return (
            (
                inet_ntop(family, addresses[source]),
                int.from_bytes(protocol[_SOURCE_PORT], "big"),
            ),
            (
                inet_ntop(family, addresses[destination]),
                int.from_bytes(protocol[_DESTINATION_PORT], "big"),
            ),
        )

    def _ask(self, question: bytes) -> bytes | None:
        self._sequence += 1
        header = _HEADER.pack(_HEADER.size + len(question), _GET, _REQUEST, self._sequence, 0)
        self._netfilter.send(header + question)
        while True:
            data = self._netfilter.recv(_LARGE, MSG_DONTWAIT)
            length, kind, _, sequence, _ = _HEADER.unpack_from(data)
            if sequence != self._sequence:
                continue  # the answer to a question that was given up
            if kind != _ERROR:
                return data[_HEADER.size : length]
            (number,) = struct.unpack_from("=i", data, _HEADER.size)
            if -number == 2:  # ENOENT
                return None
            raise OSError(-number, "connection tracking cannot be asked")


def _attribute(kind: int, data: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(data), kind) + data + bytes(-len(data) % 4)


def _nested(kind: int, *inner: bytes) -> bytes:
    return _attribute(_NESTED | kind, b"".join(inner))


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            return
        yield kind & _KIND, data[at + _ATTRIBUTE.size : at + length]
        at += length + 3 & ~3
