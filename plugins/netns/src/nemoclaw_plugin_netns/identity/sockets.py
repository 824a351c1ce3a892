"""What the kernel knows of sockets, asked through one sock_diag(7) socket.

Such a socket sees the network namespace that it was born in, whoever holds it, and needs no right.
"""

from __future__ import annotations

import struct
from socket import AF_INET, AF_INET6, AF_UNIX, IPPROTO_TCP, MSG_DONTWAIT, SOCK_STREAM, inet_pton
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from socket import socket

_SOCK_DIAG_BY_FAMILY, _ERROR, _DONE = 20, 2, 3
_REQUEST, _DUMP = 0x1, 0x300
_HEADER = struct.Struct("=IHHII")
# linux/inet_diag.h: inet_diag_req_v2 and inet_diag_msg, with inet_diag_sockid inside.
_ADDRESSES = struct.Struct("!HH16s16s")
_QUESTION = struct.Struct("=BBBxI36sIII")
_ANSWER = struct.Struct("=Bxxx36s28xI")
_ANY_STATE, _ANY_COOKIE = 0xFFFFFFFF, 0xFFFFFFFF
# linux/unix_diag.h: unix_diag_req, unix_diag_msg, and the lengths of the queues.
_UNIX_QUESTION = struct.Struct("=BBxxIIIII")
_UNIX_ANSWER = struct.Struct("=BBBxI8x")
_SHOW_QUEUES, _QUEUES = 0x10, 4
_MAPPED = bytes(10) + b"\xff\xff"
_LARGE = 1 << 15


class Diagnostics:
    """Questions to one NETLINK_SOCK_DIAG socket; one at a time."""

    def __init__(self, diag: socket) -> None:
        self._diag = diag
        self._sequence = 0

    def tcp(self, local: tuple[Any, ...], peer: tuple[Any, ...]) -> int | None:
        """Inode of the socket with exactly these ends, as its owner sees them.

        None if no process has it.

        :param local: its own address and port.
        :param peer: what it was connected to, before any redirection.
        :raises OSError: the kernel cannot be asked.
        """
        family = AF_INET6 if ":" in local[0] else AF_INET
        wanted = _ends(local, peer, family)
        question = _QUESTION.pack(
            family, IPPROTO_TCP, 0, _ANY_STATE, wanted, 0, _ANY_COOKIE, _ANY_COOKIE
        )
        for body in self._ask(question, _REQUEST):
            answered, ends, inode = _ANSWER.unpack_from(body)
            # Where no connection fits, the kernel looks for a listener.
            if inode and _normal(ends, answered) == _normal(wanted, family):
                return int(inode)
        return None

    def only(self, local: tuple[Any, ...], peer: tuple[Any, ...]) -> int | None:
        """Inode of the one socket that is connected to ``peer`` from an address, on any port.

        None if there is none or more than one.

        :raises OSError: the kernel cannot be asked.
        """
        family = AF_INET6 if ":" in local[0] else AF_INET
        _, other_port, own, other = _normal(_ends(local, peer, family), family)
        found = set()
        for each in (AF_INET, AF_INET6):  # an IPv6 socket may be connected to IPv4
            question = _QUESTION.pack(
                each, IPPROTO_TCP, 0, _ANY_STATE, bytes(36), 0, _ANY_COOKIE, _ANY_COOKIE
            )
            for body in self._ask(question, _REQUEST | _DUMP):
                answered, ends, inode = _ANSWER.unpack_from(body)
                _, port, address, server = _normal(ends, answered)
                if inode and (address, server, port) == (own, other, other_port):
                    found.add(int(inode))
        return found.pop() if len(found) == 1 else None

    def unix_with_mail(self) -> set[int]:
        """Inodes of the Unix sockets in whose queue descriptors may wait to be received.

        :raises OSError: the kernel cannot be asked.
        """
        question = _UNIX_QUESTION.pack(AF_UNIX, 0, _ANY_STATE, 0, _SHOW_QUEUES, 0, 0)
        found = set()
        for body in self._ask(question, _REQUEST | _DUMP):
            _, kind, _, inode = _UNIX_ANSWER.unpack_from(body)
            # A stream carries descriptors with a byte at least; a datagram may be empty.
            if kind != SOCK_STREAM or _queued(body):
                found.add(inode)
        return found

    def _ask(self, question: bytes, flags: int) -> list[bytes]:
        self._sequence += 1
        header = _HEADER.pack(
            _HEADER.size + len(question), _SOCK_DIAG_BY_FAMILY, flags, self._sequence, 0
        )
        self._diag.send(header + question)
        answers: list[bytes] = []
        while True:
            data = self._diag.recv(_LARGE, MSG_DONTWAIT)
            at = 0
            while at < len(data):
                length, kind, _, sequence, _ = _HEADER.unpack_from(data, at)
                if sequence == self._sequence:  # Not the rest of an answer that was given up.
                    if kind in (_ERROR, _DONE):
                        return answers
                    answers.append(data[at + _HEADER.size : at + length])
                    if flags == _REQUEST:
                        return answers
                at += length + 3 & ~3


def _ends(local: tuple[Any, ...], peer: tuple[Any, ...], family: int) -> bytes:
    own, other = (inet_pton(family, end[0].partition("%")[0]) for end in (local, peer))
    return _ADDRESSES.pack(local[1], peer[1], own.ljust(16, b"\0"), other.ljust(16, b"\0"))


def _normal(ends: bytes, family: int) -> tuple[Any, ...]:
    """Both ends, alike for an IPv4 socket and an IPv6 socket that was connected to IPv4."""
    own_port, other_port, own, other = _ADDRESSES.unpack(ends)
    if family == AF_INET:
        own, other = (_MAPPED + end[:4] for end in (own, other))
    return own_port, own, other_port, other


def _queued(body: bytes) -> bool:
    """True unless an answer says that the receive queue is empty."""
    at = _UNIX_ANSWER.size
    while at + 4 <= len(body):
        length, kind = struct.unpack_from("=HH", body, at)
        if kind == _QUEUES:
            (waiting,) = struct.unpack_from("=I", body, at + 4)
            return bool(waiting)
        at += max(length, 4) + 3 & ~3
    return True
