"""Inspected HTTP/2: every request is judged, and both directions are written anew (RFC 9113).

A session is one client connection and the connection to the server that its requests share. Both
speak HTTP/2 or neither does: what the client is offered is what the server has taken (see
:mod:`.alpn`), so there is no translation into HTTP/1 in which a request could become two.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from h2.events import DataReceived, RequestReceived, StreamReset, TrailersReceived

from . import http2_guard as guard
from . import replies
from .head import HeadError
from .http2_answers import send_json
from .http2_connection import Connection
from .http2_exchange import Exchange
from .http2_fields import read_request
from .http2_guard import Violation
from .http2_upstream import Upstream
from .judging import Judging
from .reaching import UpstreamFailed, open_channel
from .target import MismatchError, Origin

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from nemoclaw_hookspecs import Caller, Egress, EgressRequest, EgressVerdict

    from .channel import Channel
    from .gate import Gate

_WINDOW = 65535
"""Octets of one request's body that may wait here. The client is near."""
_LINGER = 2


class Session:
    """Serves one client until either side ends it.

    :param origin: the server that the connection was made for.
    :param connection: what was authorized when the connection was made.
    :param caller: whose connection it is, if that was looked up already.
    :param identify: looks it up.
    :param upstream: a connection to the server on which it has agreed to speak HTTP/2.
    """

    def __init__(
        self,
        gate: Gate,
        channel: Channel,
        origin: Origin,
        connection: EgressRequest,
        caller: Caller | None,
        identify: Callable[[], Awaitable[Caller | None]],
        upstream: Channel | None = None,
    ) -> None:
        self.deadline = gate.table.now + gate.limits.keep_alive
        self.gate = gate
        self.origin = origin
        self.judging = Judging(gate, caller, identify)
        self._connection = connection
        self._exchanges: dict[int, Exchange] = {}
        self._idle_at = self.deadline
        self._leaving = False
        self._ended = False
        self._cut = False
        self._dialling: asyncio.Task[Upstream] | None = None
        self._upstreams: set[Upstream] = set()
        self._current: Upstream | None = None
        if upstream is not None:
            self._take(upstream)
        self._task: asyncio.Task[Any] | None = None
        self.client = Connection(
            channel,
            gate.loop,
            gate.table,
            gate.limits,
            server=True,
            stream_window=_WINDOW,
            handlers={
                RequestReceived: self._begin,
                DataReceived: self._data,
                TrailersReceived: self._trailers,
                StreamReset: self._reset,
            },
            goodbye=self._goodbye,
        )

    async def serve(self) -> None:
        """Serve until the end. The task that calls this is the session's from now on."""
        gate = self.gate
        gate.table.add(self)
        gate.http2_sessions += 1
        self._task = asyncio.current_task()
        client = self.client
        try:
            await client.run(patient=True)
        except Violation as error:
            gate.egress.denied(self._connection, "malformed", error.reason)
            client.close(error.code)
        except (OSError, asyncio.CancelledError):
            if not self._cut:
                client.reset()
        finally:
            gate.http2_sessions -= 1
            self._leave()
            self._end()
            if not self._cut:
                try:
                    await client.channel.gone()
                finally:
                    gate.table.remove(self)

    def _leave(self) -> None:
        self._leaving = True
        for exchange in tuple(self._exchanges.values()):
            exchange.cancel(guard.CANCEL)
        if self._dialling is not None:
            self._dialling.cancel()
        for upstream in tuple(self._upstreams):
            upstream.close()

    # -- what the table asks

    def allowed(self, egress: Egress) -> bool:
        """See :class:`~.table.Entry`. Requests that are denied now end; the others live on."""
        if egress.judge(self._connection).action != "allow":
            return False
        for exchange in tuple(self._exchanges.values()):
            request = exchange.judged_as
            if request is not None and egress.judge(request).action != "allow":
                exchange.cut()
        return True

    def cut(self) -> None:
        """See :class:`~.table.Entry`."""
        self._cut = True
        self.gate.table.remove(self)
        self.client.reset()
        for upstream in tuple(self._upstreams):
            upstream.reset()
        if self._task is not None:
            self._task.cancel()

    def expire(self) -> None:
        """See :class:`~.table.Entry`. The session's deadline is the earliest of several."""
        now = self.gate.table.now
        if self._ended:
            self.cut()
            return
        if not self._exchanges and self._idle_at < now:
            self._end()
            return
        for exchange in tuple(self._exchanges.values()):
            if 0 < exchange.deadline < now:
                exchange.expire()
        self._set_deadline()

    def _end(self) -> None:
        """Say goodbye; the client has a moment to hear it."""
        self._leaving = True
        self._ended = True
        self.client.close()
        self.deadline = self.gate.table.now + _LINGER

    def hurry(self, deadline: int) -> None:
        """One of the deadlines has come nearer."""
        if not self.deadline or deadline < self.deadline:
            self.deadline = deadline

    def _set_deadline(self) -> None:
        times = [each.deadline for each in self._exchanges.values() if each.deadline]
        if not self._exchanges:
            times.append(self._idle_at)
        self.deadline = min(times, default=0)

    # -- what the client sends

    def _begin(self, event: RequestReceived) -> None:
        stream = event.stream_id
        ended = event.stream_ended is not None
        if self._leaving:
            self.client.reset_stream(stream, guard.REFUSED_STREAM)
            return
        try:
            request = read_request(event.headers, self.origin, self.gate.limits.header_count)
            if ended and request.length > 0:
                raise HeadError("Content-Length, and no body")
        except HeadError as error:
            self.client.guard.fault()
            self.malformed(None, error)
            if isinstance(error, MismatchError):
                body = replies.refusal("host-mismatch", error.reason)
            else:
                body = replies.malformed(error.reason)
            send_json(self.client, stream, error.status, body)
            if not ended:
                self.client.reset_stream(stream, guard.NO_ERROR)
            return
        self._exchanges[stream] = Exchange(self, stream, request, ended=ended)

    def malformed(self, request: EgressRequest | None, error: HeadError) -> None:
        """Tell of a request that cannot be judged."""
        rule = "host-mismatch" if isinstance(error, MismatchError) else "malformed"
        self.gate.egress.denied(request or self._connection, rule, error.reason)

    def _data(self, event: DataReceived) -> None:
        exchange = self._exchanges.get(event.stream_id)
        size = event.flow_controlled_length
        if exchange is None:
            self.client.acknowledge(size, event.stream_id)
        else:
            exchange.receive(event.data, size, end=event.stream_ended is not None)

    def _trailers(self, event: TrailersReceived) -> None:
        exchange = self._exchanges.get(event.stream_id)
        if exchange is None:
            return
        if exchange.up.fits:
            exchange.end()
        else:
            self.client.guard.fault()
            self.malformed(exchange.judged_as, HeadError("Content-Length is not the body's"))
            self.client.reset_stream(event.stream_id, guard.PROTOCOL_ERROR)
            exchange.cancel(guard.PROTOCOL_ERROR)

    def _reset(self, event: StreamReset) -> None:
        exchange = self._exchanges.get(event.stream_id)
        if exchange is not None:
            self.client.guard.abandoned()
            exchange.cancel(guard.CANCEL)

    def _goodbye(self) -> None:
        """The client opens no more streams."""
        self._leaving = True
        if not self._exchanges:
            self._end()

    def forget(self, exchange: Exchange) -> None:
        """It has ended."""
        if self._exchanges.pop(exchange.stream, None) is None:
            return
        if not self._exchanges:
            now = self.gate.table.now
            self._idle_at = now + self.gate.limits.keep_alive
            self.hurry(self._idle_at)
            if self._leaving:
                self._end()

    # -- towards the server

    async def reach(self, verdict: EgressVerdict) -> Upstream:
        """The connection to the server, which is made when the first request needs it.

        :raises EgressDenied, UpstreamFailed: see :func:`.reaching.open_channel`.
        """
        if self._current is not None and self._current.usable:
            return self._current
        if self._dialling is None:
            self._dialling = self.gate.loop.create_task(self._dial(verdict))
            self._dialling.add_done_callback(self._dialled)
        return await asyncio.shield(self._dialling)

    async def _dial(self, verdict: EgressVerdict) -> Upstream:
        channel, protocol = await open_channel(self.gate, verdict, self.origin)
        if protocol != "h2":
            channel.reset()
            self.forget_protocol()
            self._leaving = True  # the next connection is offered what the server takes now
            raise UpstreamFailed(
                502, "upstream_protocol", "the server does not speak HTTP/2 any more"
            )
        if self._cut or self.client.dead:
            channel.reset()
            raise asyncio.CancelledError
        return self._take(channel)

    def _dialled(self, task: asyncio.Task[Upstream]) -> None:
        self._dialling = None
        if not task.cancelled():
            task.exception()  # whoever waits for it has it; perhaps nobody does any more

    def _take(self, channel: Channel) -> Upstream:
        upstream = self._current = Upstream(self.gate, channel, self._upstream_gone)
        self._upstreams.add(upstream)
        return upstream

    def _upstream_gone(self, upstream: Upstream) -> None:
        self._upstreams.discard(upstream)
        if self._current is upstream:
            self._current = None

    def forget_protocol(self) -> None:
        """The server has changed its mind about HTTP/2."""
        self.gate.protocols.forget(self.origin)
