"""SOCKS5 as a server (RFC 1928), from bytes as they arrive. CONNECT, and no authentication.

The agent's programs need no password for a proxy in their own namespace. BIND and UDP ASSOCIATE
would open a way that no rule describes. SOCKS4 and 4a are read to the end and refused in their own
words, so that the client says so and does not hang.
"""

from __future__ import annotations

import ipaddress
from typing import Literal, NamedTuple

SUCCEEDED, FAILURE, NOT_ALLOWED, NETWORK_UNREACHABLE, HOST_UNREACHABLE = range(5)
CONNECTION_REFUSED, TTL_EXPIRED, COMMAND_NOT_SUPPORTED, ADDRESS_NOT_SUPPORTED = range(5, 9)

_MAX_SOCKS4 = 8 + 256 + 256
_HOST = frozenset(range(0x21, 0x7F)) - frozenset(b"/\\@?#%<>\"'`{}|^")
_REFUSED4 = b"\0\x5b" + bytes(6)


class SocksRequest(NamedTuple):
    """Where a client wants to be connected to; the core says what its host means."""

    host: str
    """A name as it was sent, or an address in its usual spelling."""
    port: int


class SocksServer:
    """The server's half of a handshake.

    Feed it what arrives, send what it returns, and look at ``state``:

    ``reading``
        More is needed.
    ``requested``
        ``request`` is there. Connect, and send ``reply(...)``. ``rest`` holds octets that the
        client sent ahead for the other end.
    ``refused``
        ``reason`` says why. Close once everything has been sent.
    """

    def __init__(self) -> None:
        self.state: Literal["reading", "requested", "refused"] = "reading"
        self.request: SocksRequest | None = None
        self.reason = ""
        self.rest = b""
        self._buffer = bytearray()
        self._greeted = False

    def feed(self, data: bytes) -> bytes:
        """Take what the client sent; returns what to send back, which may be nothing.

        :raises ValueError: the handshake is over.
        """
        if self.state != "reading":
            raise ValueError("fed after the end of the handshake")
        self._buffer += data
        answer = b""
        if self._buffer and not self._greeted:
            if self._buffer[0] == 4:
                return self._socks4()
            answer = self._greeting()
        if self._greeted and self.state == "reading":
            answer += self._request()
        return answer

    def _greeting(self) -> bytes:
        buffer = self._buffer
        if buffer[0] != 5:
            return self._refuse("not SOCKS version 5", b"")
        if len(buffer) < 2 or len(buffer) < 2 + buffer[1]:
            return b""
        methods = buffer[2 : 2 + buffer[1]]
        del buffer[: 2 + len(methods)]
        if 0 not in methods:
            return self._refuse("a client that insists on authentication", b"\5\xff")
        self._greeted = True
        return b"\5\0"

    def _request(self) -> bytes:
        buffer = self._buffer
        if buffer and buffer[0] != 5:
            return self._refuse("a request that is not of version 5", reply(FAILURE))
        if len(buffer) < 5:
            return b""
        command, reserved, kind = buffer[1:4]
        if reserved:
            return self._refuse("a reserved octet that is not zero", reply(FAILURE))
        if kind not in (1, 3, 4):
            return self._refuse("an unknown type of address", reply(ADDRESS_NOT_SUPPORTED))
        start, length = (5, buffer[4]) if kind == 3 else (4, 4 if kind == 1 else 16)
        end = start + length
        if len(buffer) < end + 2:
            return b""
        address = bytes(buffer[start:end])
        port = buffer[end] << 8 | buffer[end + 1]
        self.rest = bytes(buffer[end + 2 :])
        buffer.clear()
        host = _name(address) if kind == 3 else str(ipaddress.ip_address(address))
        if not host:
            return self._refuse("a name that no host can have", reply(FAILURE))
        self.request = SocksRequest(host, port)
        if command != 1:
            # With the request at hand: who watches the log sees where it was meant to go.
            return self._refuse("a command other than CONNECT", reply(COMMAND_NOT_SUPPORTED))
        if not port:
            return self._refuse("port 0", reply(NOT_ALLOWED))
        self.state = "requested"
        return b""

    def _socks4(self) -> bytes:
        """Version 4: command, port, address, user and, if the address is 0.0.0.x, a name."""
        buffer = self._buffer
        reason = "SOCKS version 4; use version 5 (socks5h://)"
        if len(buffer) < 9:
            return b""
        port, address = int.from_bytes(buffer[2:4], "big"), bytes(buffer[4:8])
        host = str(ipaddress.ip_address(address))
        end = buffer.find(0, 8, _MAX_SOCKS4)
        if end >= 0 and address[:3] == b"\0\0\0" and address[3]:
            start, end = end + 1, buffer.find(0, end + 1, _MAX_SOCKS4)
            host = _name(bytes(buffer[start:end])) if end >= 0 else ""
        if end < 0:
            if len(buffer) < _MAX_SOCKS4:
                return b""
            host = ""
        if host:
            self.request = SocksRequest(host, port)
        return self._refuse(reason, _REFUSED4)

    def _refuse(self, reason: str, answer: bytes) -> bytes:
        self.state, self.reason = "refused", reason
        self._buffer.clear()
        return answer


def reply(code: int, address: str = "0.0.0.0", port: int = 0) -> bytes:
    """The answer to a request.

    :param code: one of this module's, ``SUCCEEDED`` to ``ADDRESS_NOT_SUPPORTED``.
    :param address: what the other end's connection is bound to. The default tells nothing of the
        host's addresses, and no client uses it.
    """
    packed = ipaddress.ip_address(address).packed
    kind = 1 if len(packed) == 4 else 4
    return bytes((5, code, 0, kind)) + packed + port.to_bytes(2, "big")


def _name(name: bytes) -> str:
    """A host as text; empty if it holds what no host may. Whether it is one, the core decides."""
    return "" if not name or set(name) - _HOST else name.decode("ascii")
