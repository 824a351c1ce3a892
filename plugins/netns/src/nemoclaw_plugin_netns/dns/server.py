"""DNS over the sockets that were born inside a sandbox: UDP and TCP, in one asyncio loop.

Answers are made on the spot (see ``responder``), so there is no pending query to keep or to time
out. What is left is to be fair: neither a flood of datagrams nor a client that is slow to send,
slow to read or never leaves may keep the loop from serving the agent's other connections.
"""

from __future__ import annotations

import asyncio
import socket
from collections import OrderedDict
from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from .responder import Responder

BATCH = 32
"""Queries answered before the loop turns to others; 32 of them take about a millisecond."""
MAX_QUERY = 4096
"""Octets. A name and an OPT record with padding (RFC 8467) are far below it."""


class DnsServer:
    """Serves already bound sockets; whoever made them closes them.

    :param datagrams: UDP sockets. :param streams: TCP sockets, listening or not.
    :param idle: seconds within which a connection must bring a whole query, and take its answers.
    :param connections: TCP connections at once; one more, and the one that has been quiet for the
        longest goes.
    """

    def __init__(
        self,
        responder: Responder,
        datagrams: Iterable[socket.socket] = (),
        streams: Iterable[socket.socket] = (),
        *,
        idle: float = 10.0,
        connections: int = 128,
    ) -> None:
        self._responder = responder
        self._datagrams = tuple(datagrams)
        self._streams = tuple(streams)
        self._idle = idle
        self._limit = connections
        self._servers: list[asyncio.Server] = []
        self._open: OrderedDict[_Connection, None] = OrderedDict()  # the quietest first

    @property
    def connections(self) -> int:
        """TCP connections that are open."""
        return len(self._open)

    async def start(self) -> None:
        """Begin to answer."""
        loop = asyncio.get_running_loop()
        for each in self._datagrams:
            each.setblocking(False)
            loop.add_reader(each, self._receive, each)
        for each in self._streams:
            # asyncio owns and closes what it is given: it gets a descriptor of its own.
            server = await loop.create_server(self._connection, sock=each.dup(), backlog=128)
            self._servers.append(server)

    async def close(self) -> None:
        """Stop, and cut what is open."""
        loop = asyncio.get_running_loop()
        for each in self._datagrams:
            loop.remove_reader(each)
        for server in self._servers:
            server.close()
        for connection in tuple(self._open):
            connection.cut()
        for server in self._servers:
            await server.wait_closed()
        self._servers.clear()

    def _receive(self, sock: socket.socket) -> None:
        for _ in range(BATCH):
            try:
                data, sender = sock.recvfrom(MAX_QUERY + 1)
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:
                continue  # an ICMP error about an earlier answer: its client has gone
            if len(data) > MAX_QUERY:
                continue
            answer = self._responder.answer(data)
            if answer is None:
                continue
            try:
                sock.sendto(answer, sender)
            except OSError:
                # The client's port is closed or its buffer full. A datagram may get lost: it asks
                # again if it still wants to know.
                continue

    def _connection(self) -> _Connection:
        return _Connection(self._responder, self._open, self._limit, self._idle)


class _Connection(asyncio.Protocol):
    """One TCP client: queries and answers with their length before them (RFC 7766)."""

    def __init__(
        self,
        responder: Responder,
        peers: OrderedDict[_Connection, None],
        limit: int,
        idle: float,
    ) -> None:
        self._responder = responder
        self._open = peers
        self._limit = limit
        self._idle = idle
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._scheduled: asyncio.Handle | None = None
        self._writable = True
        self._finished = False
        self._deadline = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A loop's transports need not descend from asyncio's: uvloop's do not.
        self._transport = stream = cast("asyncio.Transport", transport)
        stream.set_write_buffer_limits(high=16384)
        loop = asyncio.get_running_loop()
        self._deadline = loop.time() + self._idle
        self._timer = loop.call_at(self._deadline, self._look_at_the_clock)
        while len(self._open) >= self._limit:
            next(iter(self._open)).cut()
        self._open[self] = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._open.pop(self, None)
        for handle in (self._timer, self._scheduled):
            if handle is not None:
                handle.cancel()
        self._timer = self._scheduled = self._transport = None
        self._buffer.clear()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._scheduled is None:
            self._work()

    def eof_received(self) -> bool:
        """A client that has no more questions may still wait for answers (RFC 7766, 6.2.4)."""
        self._finished = True
        self._leave_if_done()
        return True

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        if self._scheduled is None:
            self._work()

    def cut(self) -> None:
        """Close without waiting for a client that may never read."""
        self._open.pop(self, None)
        if self._transport is not None:
            self._transport.abort()

    def _work(self) -> None:
        """Answer a batch, and take more from the client only when there is nothing left to do."""
        self._scheduled = None
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        buffer, offset, answered = self._buffer, 0, 0
        while self._writable and answered < BATCH and len(buffer) - offset >= 2:
            length = buffer[offset] << 8 | buffer[offset + 1]
            if not 12 <= length <= MAX_QUERY:
                transport.close()  # after what was answered already
                buffer.clear()
                return
            if len(buffer) - offset - 2 < length:
                break
            answer = self._responder.answer(
                bytes(buffer[offset + 2 : offset + 2 + length]), stream=True
            )
            offset += 2 + length
            answered += 1
            if answer is not None:
                transport.write(len(answer).to_bytes(2, "big") + answer)
        del buffer[:offset]
        loop = asyncio.get_running_loop()
        if answered and self in self._open:
            self._deadline = loop.time() + self._idle
            self._open.move_to_end(self)
        if self._has_query():
            transport.pause_reading()
            if self._writable:
                self._scheduled = loop.call_soon(self._work)
        else:
            transport.resume_reading()
            self._leave_if_done()

    def _has_query(self) -> bool:
        buffer = self._buffer
        return len(buffer) >= 2 and len(buffer) - 2 >= (buffer[0] << 8 | buffer[1])

    def _leave_if_done(self) -> None:
        if self._finished and not self._has_query() and self._transport is not None:
            self._transport.close()

    def _look_at_the_clock(self) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() >= self._deadline:
            self._timer = None
            self.cut()
        else:
            self._timer = loop.call_at(self._deadline, self._look_at_the_clock)
