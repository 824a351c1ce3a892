"""What all connections of one sandbox's proxy share."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

from .limits import Limits
from .relay import BUFFER
from .table import Table

if TYPE_CHECKING:
    import ssl

    from nemoclaw_hookspecs import Caller, Egress, EgressVerdict

    from ..dns.synthetic import SyntheticAddresses
    from .alpn import Protocols
    from .authority import Authority
    from .channel import Channel

Identify = Callable[[tuple[Any, ...], tuple[Any, ...], tuple[Any, ...]], Awaitable["Caller | None"]]


class Gate:
    """For one thread: the loop of the network service.

    :param extra_ca: see :func:`.authority.upstream_context`.
    :param authority: the sandbox's, if its certificate has been made already.
    :param identify: who owns a connection, by the accepted socket's own address, its peer's, and
        the one that was dialled where that is another.
    """

    def __init__(
        self,
        egress: Egress,
        addresses: SyntheticAddresses,
        loop: asyncio.AbstractEventLoop,
        *,
        limits: Limits | None = None,
        extra_ca: str = "",
        authority: Authority | None = None,
        identify: Identify | None = None,
    ) -> None:
        self.egress = egress
        self.sandbox = egress.sandbox
        self.addresses = addresses
        self.loop = loop
        self.limits = limits or Limits()
        self.table = Table(loop)
        self.view = memoryview(bytearray(BUFFER))
        self.identify = identify
        self._extra_ca = extra_ca
        self._authority = authority
        self.http2_sessions = 0
        """HTTP/2 connections of clients that are open."""
        self.http2_bulk = 16
        """HTTP/2 connections to servers that may still be given a wide window. Each may make us
        keep some MiB: enough for a download from far away, too much for everybody."""
        self._protocols: Protocols | None = None
        self._upstream: ssl.SSLContext | None = None
        self._upstream2: ssl.SSLContext | None = None
        self.held = 0
        """Octets of bodies and messages that are kept to be looked into; see ``held_bytes``."""
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def authority(self) -> Authority:
        """The sandbox's certificate authority, made when it is needed for the first time."""
        if self._authority is None:
            from .authority import Authority

            self._authority = Authority(self.sandbox, self.limits.leaves)
        return self._authority

    @property
    def upstream(self) -> ssl.SSLContext:
        """What servers are verified with."""
        if self._upstream is None:
            from .authority import upstream_context

            self._upstream = upstream_context(self._extra_ca)
        return self._upstream

    @property
    def upstream2(self) -> ssl.SSLContext:
        """The same for servers that may choose HTTP/2."""
        if self._upstream2 is None:
            from .authority import upstream_context

            self._upstream2 = upstream_context(self._extra_ca, http2=True)
        return self._upstream2

    @property
    def protocols(self) -> Protocols:
        """Which version of HTTP servers have chosen."""
        if self._protocols is None:
            from .alpn import Protocols

            self._protocols = Protocols()
        return self._protocols

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run in a task that is kept until it ends."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def dial(self, verdict: EgressVerdict) -> socket.socket:
        """A connection to what a verdict allows.

        :raises EgressDenied, OSError: see ``Egress.dial``.
        """
        sock = await self.egress.dial(verdict)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    async def connect(self, verdict: EgressVerdict, tls: bool, *, http2: bool = False) -> Channel:
        """The same as a channel, through verified TLS if asked for.

        :param http2: whether a server may choose it, see :attr:`.Channel.protocol`.
        :raises ssl.SSLError: the server's certificate is not valid for the name.
        """
        from .channel import PlainChannel, TlsChannel

        sock = await self.dial(verdict)
        if not tls:
            return PlainChannel(self.loop, sock, self.view)
        channel = TlsChannel(self.loop)
        try:
            await self.loop.create_connection(
                lambda: channel,
                sock=sock,
                ssl=self.upstream2 if http2 else self.upstream,
                server_hostname=verdict.host,
                ssl_handshake_timeout=self.limits.dial,
            )
        except BaseException:
            sock.close()
            raise
        return channel

    async def close(self) -> None:
        """Cut everything, and wait for the tasks' end."""
        self.table.close()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
