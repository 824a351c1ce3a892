"""The HTTP/2 connection to a server that the requests of one client share (RFC 9113)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from h2.events import (
    DataReceived,
    InformationalResponseReceived,
    ResponseReceived,
    StreamReset,
    TrailersReceived,
)

from . import http2_guard as guard
from .head import Fields, HeadError
from .http2_connection import Connection
from .http2_fields import read_response, read_trailers
from .http2_guard import Violation
from .http2_outlet import Outlet
from .reaching import UpstreamFailed

if TYPE_CHECKING:
    from .channel import Channel
    from .gate import Gate

_WINDOW = 1 << 18
"""Octets of one response that may wait here."""
_BULK = 1 << 22
"""The same for one connection of a few, see :class:`.gate.Gate`: servers are far away."""
_LAST_STREAM = (1 << 31) - 3
_INTERIM = 16
"""Interim responses to one request."""


class Exchange(Protocol):
    """A request on its way, as its server's connection sees it."""

    up: Outlet
    down: Outlet
    """Its length is 0 from the start where the response has no body whatever its fields say."""

    def touch(self) -> None:
        """Something has arrived for it."""

    def respond(self, fields: Fields, *, final: bool, end: bool) -> None:
        """A header block."""

    def failed(self, error: UpstreamFailed) -> None:
        """There is no response, or no more of it."""

    def abandoned(self, code: int) -> None:
        """The server has given it up, by RST_STREAM with this code."""

    def untouched(self) -> None:
        """The server has not looked at it, and will not."""


class Upstream:
    """One connection. Its exchanges come from one client.

    :param closed: told when it has gone.
    """

    def __init__(self, gate: Gate, channel: Channel, closed: Callable[[Upstream], None]) -> None:
        self.exchanges: dict[int, Exchange] = {}
        self._gate = gate
        self._closed = closed
        self._leaving = False
        self._bulk = False
        self._interim: dict[int, int] = {}
        self._taken: dict[int, int] = {}
        self._room: list[asyncio.Future[None]] = []
        self.connection = Connection(
            channel,
            gate.loop,
            gate.table,
            gate.limits,
            server=False,
            stream_window=_WINDOW,
            handlers={
                InformationalResponseReceived: self._interim_response,
                ResponseReceived: self._response,
                DataReceived: self._data,
                TrailersReceived: self._trailers,
                StreamReset: self._reset,
            },
            goodbye=self._check_goodbye,
        )
        self._task = gate.spawn(self._run())

    @property
    def usable(self) -> bool:
        """Whether it takes another request."""
        connection = self.connection
        return (
            not self._leaving
            and not connection.dead
            and not connection.channel.ended
            and connection.h2.highest_outbound_stream_id < _LAST_STREAM
        )

    async def room(self) -> None:
        """Wait until the server lets one more stream be opened."""
        h2 = self.connection.h2
        while self.usable and h2.open_outbound_streams >= h2.remote_settings.max_concurrent_streams:
            waiter = self._gate.loop.create_future()
            self._room.append(waiter)
            await waiter

    def begin(self, exchange: Exchange, fields: Fields, *, end: bool) -> int:
        """Send a request's header block; its body is attached to it. The stream's number."""
        connection = self.connection
        stream = connection.h2.get_next_available_stream_id()
        connection.h2.send_headers(stream, fields, end_stream=end)
        connection.flush_soon()
        self.exchanges[stream] = exchange
        exchange.up.attach(connection, stream, done=end)
        return stream

    def forget(self, stream: int, code: int | None) -> None:
        """An exchange has ended.

        :param code: for the server, if it is to give it up.
        """
        if self.exchanges.pop(stream, None) is None:
            return
        self._interim.pop(stream, None)
        self._taken.pop(stream, None)
        self.connection.outlets.pop(stream, None)
        if code is not None:
            self.connection.reset_stream(stream, code)
        self._next()
        if self._leaving and not self.exchanges:
            self.connection.close()

    def acknowledge(self, size: int, stream: int) -> None:
        """See :meth:`.http2_connection.Connection.acknowledge`. A response that is large, and is
        taken as fast as it comes, may be on its way in larger parts."""
        connection = self.connection
        connection.acknowledge(size, stream)
        if self._bulk or not size or stream not in self.exchanges:
            return
        taken = self._taken[stream] = self._taken.get(stream, 0) + size
        if taken > 2 * _WINDOW and self._gate.http2_bulk > 0 and connection.is_open(stream):
            self._bulk = True
            self._gate.http2_bulk -= 1
            connection.h2.increment_flow_control_window(_BULK)
            connection.h2.increment_flow_control_window(_BULK, stream)

    def close(self) -> None:
        """The client has gone."""
        self.exchanges.clear()
        self.connection.close()

    def reset(self) -> None:
        """Cut, at once."""
        self.exchanges.clear()
        self.connection.reset()

    # -- what arrives

    async def _run(self) -> None:
        failure = UpstreamFailed(502, "upstream_closed", "the server closed without a response")
        try:
            await self.connection.run(patient=False)
        except Violation as error:
            failure = UpstreamFailed(502, "upstream_malformed", error.reason)
            self.connection.close(error.code)
        except OSError:
            pass
        finally:
            if self._bulk:
                self._gate.http2_bulk += 1
            self._leaving = True
            self.connection.close()
            for stream, exchange in tuple(self.exchanges.items()):
                if self.exchanges.pop(stream, None) is not None:
                    self._lost(exchange, stream, failure)
            self._next()
            self._closed(self)

    def _lost(self, exchange: Exchange, stream: int, failure: UpstreamFailed) -> None:
        goodbye = self.connection.guard.goodbye
        if goodbye is not None and stream > goodbye.last_stream:
            exchange.untouched()
        else:
            exchange.failed(failure)

    def _check_goodbye(self) -> None:
        """The server has said GOAWAY: what it will not look at has to go elsewhere."""
        goodbye = self.connection.guard.goodbye
        if goodbye is None:
            return
        self._leaving = True
        for stream, exchange in tuple(self.exchanges.items()):
            if stream > goodbye.last_stream:
                self.forget(stream, None)
                exchange.untouched()
        if not self.exchanges:
            self.connection.close()
        self._next()

    def _next(self) -> None:
        waiting, self._room = self._room, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    def _response(self, event: ResponseReceived) -> None:
        self._head(event.stream_id, event.headers, True, event.stream_ended is not None)

    def _interim_response(self, event: InformationalResponseReceived) -> None:
        self._head(event.stream_id, event.headers, False, False)

    def _head(self, stream: int, headers: Fields, final: bool, end: bool) -> None:
        exchange = self.exchanges.get(stream)
        if exchange is None:
            return
        exchange.touch()
        try:
            response = read_response(headers, self._gate.limits.header_count)
            if not final:
                count = self._interim[stream] = self._interim.get(stream, 0) + 1
                if response.status == 101 or count > _INTERIM:
                    raise HeadError("an interim response that may not be", 502)
            elif exchange.down.length and response.status != 304:
                exchange.down.length = response.length
                if end and not exchange.down.fits:
                    raise HeadError("Content-Length, and no body", 502)
        except HeadError as error:
            self.forget(stream, guard.PROTOCOL_ERROR)
            exchange.failed(UpstreamFailed(502, "upstream_malformed", error.reason))
            return
        exchange.respond(response.fields, final=final, end=end)

    def _data(self, event: DataReceived) -> None:
        stream = event.stream_id
        exchange = self.exchanges.get(stream)
        if exchange is None:
            self.connection.acknowledge(event.flow_controlled_length, stream)
            return
        exchange.touch()
        exchange.down.write(
            event.data, event.flow_controlled_length, end=event.stream_ended is not None
        )

    def _trailers(self, event: TrailersReceived) -> None:
        exchange = self.exchanges.get(event.stream_id)
        if exchange is None:
            return
        exchange.touch()
        try:
            trailers = read_trailers(event.headers, self._gate.limits.header_count)
            if not exchange.down.fits:
                raise HeadError("Content-Length is not the body's", 502)
        except HeadError as error:
            self.forget(event.stream_id, guard.PROTOCOL_ERROR)
            exchange.failed(UpstreamFailed(502, "upstream_malformed", error.reason))
            return
        exchange.down.finish(trailers)

    def _reset(self, event: StreamReset) -> None:
        stream = event.stream_id
        exchange = self.exchanges.get(stream)
        if exchange is None:
            return
        self.forget(stream, None)
        if event.error_code == guard.REFUSED_STREAM:
            exchange.untouched()
        else:
            exchange.abandoned(int(event.error_code))
