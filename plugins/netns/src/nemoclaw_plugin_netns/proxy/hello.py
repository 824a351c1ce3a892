"""The ClientHello that opens a TLS connection (RFC 8446, 4.1.2), from bytes as they arrive.

For rules whose bytes pass through unread: the name in the hello (SNI, RFC 6066) is what such a rule
can be checked against. So nothing may be understood here otherwise than by a lenient server: what
is not exactly a hello is refused, whatever a server might make of it.

Encrypted Client Hello (RFC 9849) puts the name that counts into an encrypted inner hello, and a
name for show into the outer one. A server that shares its addresses with others may decrypt it
without a look at the outer name, so ``outer name == name of the rule`` proves nothing. The dummy
(GREASE ECH) that Chromium and Firefox send to every server looks the same by design: the two
cannot be told apart, nor can the extension be taken out of a hello that is passed on. Therefore:

* where bytes pass through unread, a hello with ``ech`` must be refused. curl, git, Python, Node, Go
  and Rust clients send none of their own accord; a browser needs a rule that terminates TLS.
* where we terminate, ``ech`` does not matter: we answer the outer hello as a server that knows no
  ECH, and whatever comes next is read. A dummy goes through; a real one makes the client give up.

Nobody in the sandbox gets the key for a real one from us: HTTPS records are answered empty.

A server may answer the first hello with a HelloRetryRequest, and look at the name in the second one
alone. Who passes bytes through must watch for that (:func:`is_retry`) and read the second hello as
well (``HelloReader(second=True)``).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

MAX_HELLO = 65536
"""Octets that a hello may take, record headers included. With post-quantum keys it takes 2,000."""

_HELLO_RETRY = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
_CHANGE_CIPHER_SPEC, _HANDSHAKE, _APPLICATION_DATA = 20, 22, 23
FIRST_OCTETS = frozenset({*range(20, 25), *range(0x80, 0x84)})
"""Of whatever some server might take for the beginning of TLS: a record of any type, since some
overlook a warning that comes before the hello, and a hello of SSL 2.0."""
_SERVER_NAME, _ALPN = 0, 16
_ECH = frozenset({0xFE0D, 0xFFCE, *range(0xFE08, 0xFE0D)})
"""RFC 9849, and the drafts before it, encrypted SNI included."""
_NAME = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-_.")
_PAIR = struct.Struct("!HH")


class NotTls(ValueError):
    """The first octets are not those of a TLS record: another protocol."""


class HelloError(ValueError):
    """TLS, and not a hello as RFC 8446 has it. To be refused."""


class ClientHello(NamedTuple):
    """What a client says about where it wants to go."""

    sni: str | None
    """The host name asked for, in lower case; ``None`` if it names none."""
    alpn: tuple[str, ...] = ()
    """Protocols on offer, the preferred one first. Octets are shown as Latin-1."""
    ech: bool = False
    """Carries an Encrypted Client Hello, or the dummy of one. See this module's text."""


class HelloReader:
    """Reads a hello from pieces of any size; keeps no more than ``limit`` octets.

    :param second: the hello that answers a HelloRetryRequest, which early data and a
        ChangeCipherSpec of compatibility may precede (RFC 8446, 4.2.10 and D.4).
    """

    def __init__(self, *, second: bool = False, limit: int = MAX_HELLO) -> None:
        self._second = second
        self._limit = limit
        self._seen = 0
        self._head = bytearray()  # of the record that is being read
        self._left = 0  # octets to come of that record
        self._skip = False
        self._body = bytearray()  # of the handshake message, over all records
        self.hello: ClientHello | None = None

    def feed(self, data: bytes) -> ClientHello | None:
        """Take the next octets that the client sent.

        :returns: the hello, or ``None`` as long as more is needed. What follows the hello's last
            record is not looked at.
        :raises NotTls: the first octets belong to another protocol.
        :raises HelloError: malformed, fragmented without end, or longer than the limit.
        """
        offset = 0
        while self.hello is None and offset < len(data):
            if self._left:
                piece = data[offset : offset + self._left]
                offset += len(piece)
                self._count(len(piece))
                self._left -= len(piece)
                if not self._skip:
                    self._body += piece
                    self._check_body()
            else:
                self._head.append(data[offset])
                offset += 1
                self._count(1)
                self._check_head()
        return self.hello

    def _count(self, octets: int) -> None:
        # Early data is not the hello's: a second hello has the limit for itself.
        if not self._skip:
            self._seen += octets
            if self._seen > self._limit:
                raise HelloError(f"a hello longer than {self._limit} octets")

    def _check_head(self) -> None:
        """Look at a record's header, as far as it is there (RFC 8446, 5.1)."""
        head = self._head
        kind = head[0]
        if len(head) == 1:
            if not _CHANGE_CIPHER_SPEC <= kind <= 24:
                if self._second or self._seen > 1:
                    raise HelloError("a record of an unknown type")
                raise NotTls("the first octet is not that of a record")
            return
        if len(head) == 2 and head[1] != 3:
            if kind != _HANDSHAKE and not self._second and self._seen == 2:
                raise NotTls("the second octet is not that of a record")
            raise HelloError("a record of an unknown version")
        if kind != _HANDSHAKE and (
            not self._second or self._body or kind not in (_CHANGE_CIPHER_SPEC, _APPLICATION_DATA)
        ):
            # A lenient server might overlook it, and heed a hello that we never looked at.
            raise HelloError("a record of another type where the hello was due")
        if len(head) < 5:
            return
        length = head[3] << 8 | head[4]
        # OpenSSL overlooks empty records; no client sends one (RFC 8446, 5.1).
        if not 0 < length <= (16384 if kind == _HANDSHAKE else 16384 + 256):
            raise HelloError("a record that is empty or too long")
        if kind == _CHANGE_CIPHER_SPEC and length != 1:
            raise HelloError("a ChangeCipherSpec that is not one octet")
        self._left, self._skip = length, kind != _HANDSHAKE
        head.clear()

    def _check_body(self) -> None:
        """Look at the handshake message, as far as it is there."""
        body = self._body
        if body[0] != 1:
            raise HelloError("a handshake message other than ClientHello")
        if len(body) < 4:
            return
        length = int.from_bytes(body[1:4], "big")
        if length > self._limit:
            raise HelloError(f"a hello longer than {self._limit} octets")
        if len(body) + self._left > length + 4:
            raise HelloError("something behind the hello in its record")
        if len(body) == length + 4:
            self.hello = _parse(bytes(body[4:]))
            body.clear()


def read_hello(data: bytes) -> ClientHello | None:
    """The hello that bytes begin with, ``None`` if more are needed; raises as ``feed`` does."""
    return HelloReader().feed(data)


def is_old_hello(data: bytes) -> bool | None:
    """Whether a client begins with a hello of SSL 2.0, as OpenSSL's server still takes it: it can
    hold no name, and lead to any version up to TLS 1.2 (RFC 5246, E.2).

    :param data: what it has sent so far. ``None``: more is needed to tell.
    """
    if not data or not 0x80 <= data[0] < 0x84:
        return False
    return None if len(data) < 5 else data[2] == 1 and (data[3] == 3 or data[3:5] == b"\0\2")


def is_retry(data: bytes) -> bool | None:
    """Whether what a server sent first is a HelloRetryRequest (RFC 8446, 4.1.3).

    :param data: everything it has sent so far. ``None``: more is needed to tell.
    :raises HelloError: it is neither that nor another ServerHello nor the handshake's end: or its
        first message is cut into several records, which nobody does who wants to be understood,
        and which would hide it.
    """
    while data[:1] == b"\x15":  # a warning, such as unrecognized_name, may come before
        if len(data) < 7:
            return None
        if data[1] != 3 or data[3:5] != b"\0\2":
            raise HelloError("an alert that is none")
        if data[5] != 1:
            return False  # fatal: the server hears no more
        data = data[7:]
    if not data:
        return None
    if data[0] != _HANDSHAKE:
        raise HelloError("the server answers a hello with something else")
    if len(data) < 6:
        return None
    if (data[3] << 8 | data[4]) < 38 or data[5] != 2:
        raise HelloError("a ServerHello in pieces, or behind something else")
    if len(data) < 11:  # header of the record, header of the message, version
        return None
    seen = data[11:43]
    if not _HELLO_RETRY.startswith(seen):
        return False
    return True if len(seen) == 32 else None


class _Cursor:
    """Reads vectors (RFC 8446, 3.4) from a message that must be used up."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.offset = 0

    def take(self, count: int) -> bytes:
        piece = self.data[self.offset : self.offset + count]
        if len(piece) != count:
            raise HelloError("a field that leaves the hello")
        self.offset += count
        return piece

    def vector(self, width: int, least: int, most: int) -> bytes:
        length = int.from_bytes(self.take(width), "big")
        if not least <= length <= most:
            raise HelloError("a field of a length that it cannot have")
        return self.take(length)

    @property
    def done(self) -> bool:
        return self.offset == len(self.data)


def _parse(data: bytes) -> ClientHello:
    cursor = _Cursor(data)
    if cursor.take(2)[0] != 3:
        raise HelloError("a hello of an unknown version")
    cursor.take(32)  # random
    cursor.vector(1, 0, 32)  # session
    if len(cursor.vector(2, 2, 65534)) % 2:
        raise HelloError("half a cipher suite")
    if 0 not in cursor.vector(1, 1, 255):
        raise HelloError("a hello that insists on compression")
    if cursor.done:  # before TLS 1.2 there may be no extensions at all
        return ClientHello(None)
    extensions = _Cursor(cursor.vector(2, 0, 65535))
    if not cursor.done:
        raise HelloError("something behind the extensions")
    seen: set[int] = set()
    sni: str | None = None
    alpn: tuple[str, ...] = ()
    while not extensions.done:
        kind, length = _PAIR.unpack(extensions.take(4))
        value = extensions.take(length)
        if kind in seen:  # servers differ in which of the two they heed
            raise HelloError("an extension that comes twice")
        seen.add(kind)
        if kind == _SERVER_NAME:
            sni = _server_name(value)
        elif kind == _ALPN:
            alpn = _protocols(value)
    return ClientHello(sni, alpn, not _ECH.isdisjoint(seen))


def _server_name(value: bytes) -> str:
    """The one host name of a list that could hold others (RFC 6066, 3)."""
    cursor = _Cursor(value)
    names = _Cursor(cursor.vector(2, 1, 65535))
    if not cursor.done:
        raise HelloError("something behind the server names")
    if names.take(1) != b"\0":
        raise HelloError("a server name that is not a host's")
    name = names.vector(2, 1, 255).lower()
    if not names.done:
        raise HelloError("more than one server name")
    if set(name) - _NAME or name[-1:] == b"." or name[:1] == b"." or b".." in name:
        raise HelloError("a server name that is not a host's")
    return name.decode("ascii")


def _protocols(value: bytes) -> tuple[str, ...]:
    """RFC 7301, 3.1."""
    cursor = _Cursor(value)
    names = _Cursor(cursor.vector(2, 2, 65535))
    if not cursor.done:
        raise HelloError("something behind the protocols")
    found = []
    while not names.done:
        found.append(names.vector(1, 1, 255).decode("latin-1"))
    return tuple(found)
