"""Connections whose bytes pass through: only the name in a TLS hello is looked at on its way."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from .hello import (
    FIRST_OCTETS,
    ClientHello,
    HelloError,
    HelloReader,
    NotTls,
    is_old_hello,
    is_retry,
    read_hello,
)
from .peeking import peek
from .relay import Relay

if TYPE_CHECKING:
    from nemoclaw_hookspecs import Egress, EgressRequest

    from .gate import Gate

HTTPS = 443
HANDSHAKE = 0x16
"""First octet of a TLS connection."""
_ANSWER_OCTETS = 1024
"""Octets of a server's answer in which a HelloRetryRequest has to be told from a ServerHello. That
takes 43; before them there may be warnings, of 7 each."""


class Refused(Exception):
    """The service itself refuses; the event is still to be written."""

    def __init__(self, rule: str, reason: str) -> None:
        super().__init__(reason)
        self.rule = rule
        self.reason = reason


class Passing:
    """One such connection, on its way to a relay.

    :param name: of the server that the connection is for.
    :param tell: writes the event of a refusal: rule, reason.
    """

    def __init__(
        self,
        gate: Gate,
        client: socket.socket,
        name: str,
        port: int,
        tell: Callable[[str, str], None],
    ) -> None:
        self._gate = gate
        self._client = client
        self._name = name
        self._port = port
        self._tell = tell

    async def hello(self, *, second: bool = False) -> ClientHello:
        """The client's hello, for a server that will see it unchanged.

        :raises Refused: see :func:`read_named_hello`.
        :raises NotTls: it is another protocol, on a port that may carry one.
        """
        try:
            hello = await read_named_hello(
                self._client, self._name, self._gate.limits.hello_bytes, second=second
            )
        except NotTls:
            if self._port == HTTPS:
                raise Refused("not-tls", "port 443 carries TLS only") from None
            raise
        if hello.ech:
            raise Refused("ech", "Encrypted Client Hello hides the name of the server")
        return hello

    def start(
        self, server: socket.socket, request: EgressRequest, hello: ClientHello | None
    ) -> None:
        """Hand both sockets to a relay.

        :param hello: the client's, if it was looked at already.
        """
        gate = self._gate
        relay = Relay(
            gate.loop,
            gate.table,
            gate.view,
            self._client,
            server,
            gate.limits.idle,
            lambda egress: passes(egress, request),
        )
        if hello is not None or self._port == HTTPS:
            relay.deadline = gate.table.now + gate.limits.first_bytes
        relay.start(lambda: self._first(relay, server, hello))

    def _first(
        self, relay: Relay, server: socket.socket, hello: ClientHello | None
    ) -> Callable[[], object] | None:
        """See :meth:`.relay.Relay.start`: TLS is looked at, all else may pass."""
        try:
            octet = self._client.recv(1, socket.MSG_PEEK)
        except OSError:  # told once: a relay that asked again would take it for an end
            relay.cut()
            return None
        if not octet or (octet[0] not in FIRST_OCTETS and self._port != HTTPS):
            relay.deadline = relay.table.now + relay.idle
            return None
        return self._gate.spawn(self._tls(relay, server, hello)).cancel

    async def _tls(self, relay: Relay, server: socket.socket, hello: ClientHello | None) -> None:
        relay.deadline = relay.table.now + self._gate.limits.first_bytes
        try:
            if await self._is_tls(hello):
                relay.hold_down()
                await self._watch_retry(relay, server)
        except Refused as refused:
            self._tell(refused.rule, refused.reason)
            relay.cut()
        except (OSError, asyncio.CancelledError):
            relay.cut()
        else:
            relay.start_up()

    async def _is_tls(self, hello: ClientHello | None) -> bool:
        try:
            return hello is not None or bool(await self.hello())
        except NotTls:
            return False

    async def _watch_retry(self, relay: Relay, server: socket.socket) -> None:
        """Let the first hello through, and a second one only if it names the same server."""
        limit = self._gate.limits.hello_bytes
        hello = self._client.recv(_octets(self._client.recv(limit, socket.MSG_PEEK)))
        if server.send(hello) != len(hello):
            raise ConnectionAbortedError("the server takes no hello")
        data = b""
        retry: bool | None = None
        while retry is None:
            size = len(data)
            data = await peek(server, size, _ANSWER_OCTETS)
            if len(data) <= size:
                if len(data) >= _ANSWER_OCTETS:
                    raise Refused("tls-hello", "the server does not answer the hello")
                break  # the server's last words: nobody is there to take a second hello
            try:
                retry = is_retry(data)
            except HelloError as error:
                raise Refused("tls-hello", str(error)) from None
        relay.resume_down()
        if retry:
            await self.hello(second=True)


async def read_named_hello(
    client: socket.socket, name: str, limit: int, *, second: bool = False
) -> ClientHello:
    """The client's hello, whose name is that of the connection. It stays in the kernel.

    :raises Refused: it is malformed, or names another server or none.
    :raises NotTls: it is none.
    """
    data = b""
    while True:
        size = len(data)
        data = await peek(client, size, limit)
        if len(data) <= size:
            if is_old_hello(data) is None:
                raise NotTls("it ended before it could be one")
            raise Refused("tls-hello", "the connection ended inside of a TLS hello")
        try:
            hello = HelloReader(second=True).feed(data) if second else read_hello(data)
        except NotTls:
            old = is_old_hello(data)
            if old is None:
                continue
            if old:
                raise Refused("tls-hello", "a hello of SSL 2.0 names no server") from None
            raise
        except HelloError as error:
            raise Refused("tls-hello", str(error)) from None
        if hello is not None:
            break
        if len(data) >= limit:
            raise Refused("tls-hello", "the TLS hello is too large")
    sni = hello.sni
    if sni is None:
        if not _is_address(name):
            raise Refused("sni-missing", "the TLS hello names no server")
    elif sni != name:
        raise Refused("sni-mismatch", "the TLS hello names another server than was dialled")
    return hello


def passes(egress: Egress, request: EgressRequest) -> bool:
    """Whether a tunnel may live on: allowed, and still without a look inside."""
    verdict = egress.judge(request)
    return verdict.action == "allow" and not verdict.inspect and verdict.tls != "terminate"


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _octets(data: bytes) -> int:
    """How many octets the records of a whole hello take, which has been read before."""
    at = 0
    body = bytearray()
    while len(body) < 4 or len(body) < 4 + int.from_bytes(body[1:4], "big"):
        length = int.from_bytes(data[at + 3 : at + 5], "big")
        body += data[at + 5 : at + 5 + length]
        at += 5 + length
    return at
