"""Inspected HTTP/1.1: every request is judged, and both directions are written anew (RFC 9112).

A session is one client connection and the upstream connections that its requests need. Requests are
served one after the other; bodies are streamed, bounded by what the other side takes.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Any

from nemoclaw_hookspecs.egress import EgressRequest, HttpRequest
from nemoclaw_hookspecs.errors import EgressDenied

from . import replies
from .bodies import Bodies
from .channel import Channel
from .head import (
    CHUNKED,
    UNTIL_CLOSE,
    HeadError,
    RequestHead,
    ResponseHead,
    find_end,
    read_request,
    read_response,
    write_request,
    write_response,
)
from .target import Headers, MismatchError, Origin, Target, read_target

if TYPE_CHECKING:
    from collections.abc import Callable

    from nemoclaw_hookspecs import Caller, Egress, EgressVerdict

    from .gate import Gate

_IDLE, _HEAD, _DIAL, _SERVE, _CLOSE = range(5)
_SAFE = frozenset(("GET", "HEAD", "OPTIONS"))
_INTERIM = 16
"""Interim responses to one request."""
_UPSTREAMS = 8
"""Servers that one client of the explicit proxy has connections to at a time."""
_LINGER = 2
"""Seconds that a client has to take a refusal while it is still sending."""


class _UpstreamFailed(Exception):
    """No response, or none that may be passed on."""

    def __init__(self, status: int, error: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.error = error
        self.reason = reason


class Session:
    """Serves one client until either side ends it.

    :param fixed: the server that the connection was made for; ``None``: an explicit proxy.
    :param connection: what was authorized when the connection was made.
    :param caller: whose connection it is, if that was looked up already.
    :param identify: looks it up.
    """

    def __init__(
        self,
        gate: Gate,
        client: Channel,
        fixed: Origin | None,
        connection: EgressRequest | None,
        caller: Caller | None,
        identify: Callable[[], Caller | None],
    ) -> None:
        self.deadline = 0
        self._gate = gate
        self._egress = gate.egress
        self._client = client
        self._fixed = fixed
        self._connection = connection
        self._caller = caller
        self._identify = identify
        self._bodies = Bodies(self, gate.table, gate.limits.idle)
        self._upstreams: dict[Origin, Channel] = {}
        self._serving: Channel | None = None
        self._request: EgressRequest | None = None
        self._state = _IDLE
        self._late = False
        self._cut = False
        self._answered = False
        self._pump: asyncio.Task[None] | None = None
        self._task: asyncio.Task[Any] | None = None

    async def serve(self) -> None:
        """Serve until the end. The task that calls this is the session's from now on."""
        self._gate.table.add(self)
        self._task = asyncio.current_task()
        await self._run()

    # -- what the table asks

    def allowed(self, egress: Egress) -> bool:
        """See :class:`~.table.Entry`."""
        for request in (self._connection, self._request):
            if request is not None and egress.judge(request).action != "allow":
                return False
        if self._fixed is None:
            for origin, upstream in tuple(self._upstreams.items()):
                if egress.judge(self._to(origin, None)).action != "allow":
                    if upstream is self._serving:
                        return False
                    del self._upstreams[origin]
                    upstream.reset()
        return True

    def cut(self) -> None:
        """See :class:`~.table.Entry`."""
        self._cut = True
        self._gate.table.remove(self)
        self._client.reset()
        for upstream in self._upstreams.values():
            upstream.reset()
        if self._serving is not None:
            self._serving.reset()
        if self._task is not None:
            self._task.cancel()

    def expire(self) -> None:
        """See :class:`~.table.Entry`."""
        if self._state == _IDLE:
            self._client.finish()
            self._enter(_CLOSE, _LINGER)
        elif self._state == _HEAD and not self._answered:
            self._answered = True
            self._refuse(408, replies.malformed("the request did not arrive in time"))
            self._client.finish()
            self._enter(_CLOSE, _LINGER)
        elif self._state == _DIAL and self._task is not None:
            self._late = True
            self._enter(_SERVE, _LINGER)
            self._task.cancel()
        elif self._state == _SERVE and not self._late and self._serving is not None:
            self._late = True
            self._enter(_SERVE, _LINGER)
            self._serving.reset()
        else:
            self.cut()

    def _enter(self, state: int, seconds: int) -> None:
        self._state = state
        self.deadline = self._gate.table.now + seconds

    # -- the loop

    async def _run(self) -> None:
        client = self._client
        try:
            while await self._exchange():
                pass
        except HeadError as error:
            self._deny_malformed(error)
            await self._linger()
        except OSError:  # one side has gone in the middle of a message
            if not self._cut:
                client.reset()
        except asyncio.CancelledError:
            if not self._cut:
                client.reset()
        finally:
            if self._pump is not None:
                self._pump.cancel()
            for upstream in self._upstreams.values():
                upstream.finish()
            if self._serving is not None:
                self._serving.reset()
            client.finish()
            if not self._cut:
                self._enter(_CLOSE, _LINGER)
                try:
                    await client.gone()
                finally:
                    self._gate.table.remove(self)

    async def _exchange(self) -> bool:
        """One request and its response. False: the connection ends here."""
        gate = self._gate
        raw = await self._read_head()
        if raw is None:
            return False
        head = read_request(raw, gate.limits.header_count)
        if head.method == "CONNECT":
            raise HeadError("CONNECT inside of a connection")
        target = read_target(head, self._fixed)
        path, _, query = target.path.partition(b"?")
        http = HttpRequest(
            method=head.method,
            path=path.decode("ascii"),
            query=query.decode("ascii"),
            headers=Headers(head.fields),
        )
        if self._caller is None and self._egress.wants_caller:
            self._caller = self._identify()
        request = self._to(target.origin, http)
        self._state = _SERVE
        self.deadline = 0  # an operator may be asked: the core sets the time for that
        verdict = await self._egress.authorize(request)
        self._request = request
        if verdict.action == "allow" and verdict.generation != self._egress.generation:
            verdict = self._egress.judge(request)
        try:
            if verdict.action != "allow":
                keep = await self._answer(head, 403, replies.denial(verdict))
            else:
                if verdict.path:  # what was judged is what is sent
                    canonical = verdict.path.encode("ascii")
                    if canonical != path:
                        target = Target(target.origin, canonical + target.path[len(path) :])
                keep = await self._forward(head, target, verdict)
        except EgressDenied as error:
            keep = await self._answer(head, 403, replies.refusal("address", error.what))
        except _UpstreamFailed as error:
            body = replies.failure(error.error, target.origin.host, error.reason)
            keep = await self._answer(head, error.status, body)
        self._request = None
        return keep

    async def _read_head(self) -> bytes | None:
        client = self._client
        limits = self._gate.limits
        self._answered = False
        if not client.buffer:
            self._enter(_IDLE, limits.keep_alive)
            if not await client.more() and not client.buffer:
                return None
        self._enter(_HEAD, limits.first_bytes)
        while True:
            end = find_end(client.buffer, limits.header_bytes)
            if end:
                return client.take(end)
            if not await client.more():
                if self._answered:
                    return None
                raise HeadError("the connection ended inside of a request head")

    def _to(self, origin: Origin, http: HttpRequest | None) -> EgressRequest:
        return EgressRequest(
            sandbox=self._gate.sandbox,
            host=origin.host,
            port=origin.port,
            protocol="tcp" if http is None else "http",
            caller=self._caller,
            http=http,
        )

    # -- refusals

    def _deny_malformed(self, error: HeadError) -> None:
        request = self._request or self._connection
        if request is None:
            request = self._to(self._fixed or Origin("", 0), None)
        mismatch = isinstance(error, MismatchError)
        rule = "host-mismatch" if mismatch else "malformed"
        self._egress.denied(request, rule, error.reason)
        if mismatch:
            self._refuse(403, replies.refusal(rule, error.reason))
        else:
            self._refuse(error.status, replies.malformed(error.reason))

    def _refuse(self, status: int, body: dict[str, str]) -> None:
        if not self._client.lost:
            self._client.write(replies.reply(status, body, close=True))

    async def _answer(self, head: RequestHead, status: int, body: dict[str, str]) -> bool:
        """Answer a request in place of the server."""
        if self._answered:  # the server's response has begun: all that is left is to break it off
            raise ConnectionAbortedError("the response broke off")
        if self._pump is not None and not self._pump.done():
            self._pump.cancel()
            await asyncio.wait((self._pump,))
            complete = False
        elif self._pump is not None:
            complete = self._pump.exception() is None
            self._pump = None
        else:
            complete = self._skip_body(head)
        keep = complete and head.keep_alive and head.http11
        self._client.write(
            replies.reply(status, body, close=not keep, head_only=head.method == "HEAD")
        )
        if keep:
            await self._client.drain()
            return True
        await self._linger()
        return False

    def _skip_body(self, head: RequestHead) -> bool:
        """Drop the body of a refused request if it has arrived. False: its end is not known yet."""
        if head.length > 0 and len(self._client.buffer) >= head.length:
            self._client.take(head.length)
            return True
        return head.length == 0

    async def _linger(self) -> None:
        """Let the client read what was said, though it may still be sending: close(2) with unread
        octets would send RST, and the client's kernel would drop what it has not read."""
        client = self._client
        self._enter(_CLOSE, _LINGER)
        client.end_writing()
        while not client.lost:
            client.take(len(client.buffer))
            if not await client.more():
                break

    # -- towards the server

    async def _forward(self, head: RequestHead, target: Target, verdict: EgressVerdict) -> bool:
        upstream = self._reusable(target.origin)
        reused = upstream is not None
        if upstream is None:
            upstream = await self._connect(target.origin, verdict)
        while True:
            self._serving = upstream
            self._state = _SERVE
            try:
                self._send(head, target, upstream)
                response = await self._response(head, upstream)
                break
            except (_UpstreamFailed, ConnectionError):
                # A server may close a connection between two requests, while ours is on its way.
                untouched = reused and upstream.ended and not upstream.buffer
                if not untouched or self._late or head.length or head.method not in _SAFE:
                    raise
                upstream.reset()
                reused = False
                upstream = await self._connect(target.origin, verdict)
        if response.status == 101:
            return await self._switch(response, upstream)
        keep = await self._relay_response(head, response, upstream)
        self._settle(target.origin, response, upstream)
        return keep

    def _reusable(self, origin: Origin) -> Channel | None:
        upstream = self._upstreams.pop(origin, None)
        if upstream is not None and (upstream.ended or upstream.buffer):
            # Octets that no request asked for: whatever they are, no response.
            upstream.reset()
            return None
        return upstream

    def _settle(self, origin: Origin, response: ResponseHead, upstream: Channel) -> None:
        """Keep the connection for the next request, if it is at the end of a message."""
        self._serving = None
        if (
            response.keep_alive
            and response.http11
            and response.length != UNTIL_CLOSE
            and self._pump is None
            and not upstream.ended
            and not upstream.buffer
        ):
            self._upstreams[origin] = upstream
            if len(self._upstreams) > _UPSTREAMS:
                oldest = next(iter(self._upstreams))
                self._upstreams.pop(oldest).finish()
        elif upstream.buffer or self._pump is not None:
            upstream.reset()
        else:
            upstream.finish()

    async def _connect(self, origin: Origin, verdict: EgressVerdict) -> Channel:
        self._enter(_DIAL, self._gate.limits.dial)
        try:
            channel = await self._gate.connect(verdict, origin.tls)
        except asyncio.CancelledError:
            if self._late:
                raise _UpstreamFailed(
                    504, "upstream_timeout", "the server did not answer in time"
                ) from None
            raise
        except EgressDenied:
            raise
        except ssl.SSLCertVerificationError as error:
            raise _UpstreamFailed(502, "upstream_certificate", error.verify_message) from None
        except ssl.SSLError as error:
            raise _UpstreamFailed(502, "upstream_tls", error.reason or "handshake failed") from None
        except TimeoutError:
            raise _UpstreamFailed(
                504, "upstream_timeout", "the server did not answer in time"
            ) from None
        except OSError as error:
            raise _UpstreamFailed(502, "upstream_unreachable", _reason(error)) from None
        if verdict.generation != self._egress.generation and self._request is not None:
            again = self._egress.judge(self._request)
            if again.action != "allow":
                channel.reset()
                raise EgressDenied(again.reason or "the policy has changed")
        return channel

    def _send(self, head: RequestHead, target: Target, upstream: Channel) -> None:
        """Send a request's head, and its body at once if it is here, else as it comes."""
        client = self._client
        self.deadline = self._gate.table.now + self._gate.limits.idle
        raw = write_request(head, target.path, target.origin.authority.encode("ascii"))
        if not head.length:
            upstream.write(raw)
        elif 0 < head.length <= len(client.buffer):
            upstream.write(raw + client.take(head.length))
        else:
            upstream.write(raw)
            self._pump = self._gate.spawn(self._send_body(head.length, upstream))

    async def _send_body(self, length: int, upstream: Channel) -> None:
        try:
            if length == CHUNKED:
                await self._bodies.copy_chunks(self._client, upstream, reframe=True)
            else:
                await self._bodies.copy(self._client, upstream, length)
        except BaseException:
            upstream.reset()  # half a request must not look like a whole one
            raise

    async def _response(self, head: RequestHead, upstream: Channel) -> ResponseHead:
        """The head of the final response. Interim ones are passed on (RFC 9110 section 15.2)."""
        limits = self._gate.limits
        for _ in range(_INTERIM):
            while True:
                try:
                    end = find_end(upstream.buffer, limits.header_bytes)
                except HeadError as error:
                    raise _UpstreamFailed(502, "upstream_malformed", error.reason) from None
                if end:
                    break
                if not await upstream.more():
                    self._raise_pump()
                    if self._late:
                        raise _UpstreamFailed(504, "upstream_timeout", "no response in time")
                    raise _UpstreamFailed(
                        502, "upstream_closed", "the server closed without a response"
                    )
            try:
                response = read_response(upstream.take(end), head.method, limits.header_count)
            except HeadError as error:
                raise _UpstreamFailed(502, "upstream_malformed", error.reason) from None
            if response.status == 101:
                if not (head.websocket and response.websocket):
                    raise _UpstreamFailed(502, "upstream_malformed", "101 that nobody asked for")
                return response
            if response.status >= 200:
                return response
            if head.http11:
                self._client.write(write_response(response, False, False))
        raise _UpstreamFailed(502, "upstream_malformed", "interim responses without end")

    def _raise_pump(self) -> None:
        """A request whose body was malformed has no response: that is the client's fault."""
        pump = self._pump
        if pump is not None and pump.done() and not pump.cancelled():
            error = pump.exception()
            if error is not None:
                self._pump = None
                raise error

    # -- towards the client

    async def _relay_response(
        self, head: RequestHead, response: ResponseHead, upstream: Channel
    ) -> bool:
        client = self._client
        length = response.length
        if self._pump is not None and self._pump.done():
            self._raise_pump()
            self._pump = None
        chunked = length < 0 and head.http11
        keep = head.keep_alive and head.http11 and self._pump is None
        raw = write_response(response, chunked, not keep)
        self._answered = True
        if 0 <= length <= len(upstream.buffer):
            client.write(raw + upstream.take(length) if length else raw)
        else:
            client.write(raw)
            if length > 0:
                await self._bodies.copy(upstream, client, length)
            elif length == CHUNKED:
                try:
                    await self._bodies.copy_chunks(upstream, client, reframe=chunked)
                except HeadError as error:  # the server's fault, and the client is told by a break
                    raise ConnectionAbortedError(error.reason) from None
            else:
                await self._bodies.copy_rest(upstream, client, reframe=chunked)
        if client.congested:
            await client.drain()
        if not keep:
            await self._linger()
        return keep

    async def _switch(self, response: ResponseHead, upstream: Channel) -> bool:
        """A WebSocket from here on: octets, both ways, until both have said their last."""
        self._answered = True
        self._client.write(write_response(response, False, False))
        self._pump = self._gate.spawn(self._bodies.pour(self._client, upstream))
        await self._bodies.pour(upstream, self._client)
        await self._pump
        self._serving = None
        upstream.finish()
        return False


def _reason(error: OSError) -> str:
    """In words, without the addresses that asyncio puts into its own."""
    what = getattr(error, "what", None)
    if isinstance(what, str):
        return what
    return error.strerror or "the server cannot be reached"
