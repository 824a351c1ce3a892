"""The servers' side of an inspected HTTP/1.1 session: connections, requests, responses' heads."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

from nemoclaw_hookspecs.errors import EgressDenied

from .channel import Channel
from .head import (
    CHUNKED,
    UNTIL_CLOSE,
    HeadError,
    RequestHead,
    ResponseHead,
    find_end,
    read_response,
    write_request,
    write_response,
)
from .http1_client import DIAL, SERVE, ClientSide

if TYPE_CHECKING:
    from nemoclaw_hookspecs import EgressRequest

    from .bodies import Bodies
    from .gate import Gate
    from .http1 import Session
    from .judging import Judged
    from .target import Origin, Target

_SAFE = frozenset(("GET", "HEAD", "OPTIONS"))
_INTERIM = 16
"""Interim responses to one request."""
_MOST = 8
"""Servers that one client of the explicit proxy has connections to at a time."""


class UpstreamFailed(Exception):
    """No response, or none that may be passed on."""

    def __init__(self, status: int, error: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.error = error
        self.reason = reason


class ServerSide:
    """Sends requests, and keeps connections for the next.

    :param session: has the deadlines.
    :param client: where requests' bodies come from, and interim responses go to.
    """

    __slots__ = ("_bodies", "_client", "_gate", "_pump", "_session", "kept", "serving")

    def __init__(self, gate: Gate, client: ClientSide, session: Session, bodies: Bodies) -> None:
        self._gate = gate
        self._session = session
        self._client = client
        self._bodies = bodies
        self._pump: asyncio.Task[None] | None = None
        self.kept: dict[Origin, Channel] = {}
        """Connections at the end of a message."""
        self.serving: Channel | None = None
        """The one that has a request to answer."""

    async def exchange(
        self, head: RequestHead, target: Target, judged: Judged
    ) -> tuple[ResponseHead, Channel]:
        """Send a request; the head of its response, and where the rest comes from.

        :raises UpstreamFailed, EgressDenied, ConnectionError: there is none.
        :raises HeadError: the request's own body is malformed.
        """
        upstream = self._reusable(target.origin)
        reused = upstream is not None
        if upstream is None:
            upstream = await self._connect(target.origin, judged)
        while True:
            self.serving = upstream
            self._session.enter(SERVE, self._gate.limits.idle)
            try:
                self._send(head, target, upstream, judged.body)
                return await self._response(head, upstream), upstream
            except (UpstreamFailed, ConnectionError):
                # A server may close a connection between two requests, while ours is on its way.
                untouched = reused and upstream.ended and not upstream.buffer
                if not untouched or self._session.late or head.length or head.method not in _SAFE:
                    raise
                upstream.reset()
                reused = False
                upstream = await self._connect(target.origin, judged)

    def settle(self, origin: Origin, response: ResponseHead, upstream: Channel) -> None:
        """Keep the connection for the next request, if it is at the end of a message."""
        self.serving = None
        if (
            response.keep_alive
            and response.http11
            and response.length != UNTIL_CLOSE
            and self._pump is None
            and not upstream.ended
            and not upstream.buffer
        ):
            self.kept[origin] = upstream
            if len(self.kept) > _MOST:
                oldest = next(iter(self.kept))
                self.kept.pop(oldest).finish()
        elif upstream.buffer or self._pump is not None:
            upstream.reset()
        else:
            upstream.finish()

    def sending(self) -> bool:
        """Whether the request's body is still on its way.

        :raises HeadError, ConnectionError: it was malformed, or has ended too early.
        """
        if self._pump is not None and self._pump.done():
            self._raise_pump()
            self._pump = None
        return self._pump is not None

    async def stop_sending(self) -> bool | None:
        """Another answer than the server's is given. Whether the request's body was sent to its
        end; ``None``: nothing of it was."""
        pump, self._pump = self._pump, None
        if self.serving is not None:
            self.serving.reset()
            self.serving = None
        if pump is None:
            return None
        if not pump.done():
            pump.cancel()
            await asyncio.wait((pump,))
            return False
        return not pump.cancelled() and pump.exception() is None

    def finish(self) -> None:
        """The session is over."""
        if self._pump is not None:
            self._pump.cancel()
        for upstream in self.kept.values():
            upstream.finish()
        if self.serving is not None:
            self.serving.reset()

    def reset(self) -> None:
        """Cut every connection."""
        for upstream in self.kept.values():
            upstream.reset()
        if self.serving is not None:
            self.serving.reset()

    def _reusable(self, origin: Origin) -> Channel | None:
        upstream = self.kept.pop(origin, None)
        if upstream is not None and (upstream.ended or upstream.buffer):
            # Octets that no request asked for: whatever they are, no response.
            upstream.reset()
            return None
        return upstream

    async def _connect(self, origin: Origin, judged: Judged) -> Channel:
        self._session.enter(DIAL, self._gate.limits.dial)
        late = UpstreamFailed(504, "upstream_timeout", "the server did not answer in time")
        try:
            channel = await self._gate.connect(judged.verdict, origin.tls)
        except asyncio.CancelledError:
            if self._session.late:
                raise late from None
            raise
        except EgressDenied:
            raise
        except ssl.SSLCertVerificationError as error:
            raise UpstreamFailed(502, "upstream_certificate", error.verify_message) from None
        except ssl.SSLError as error:
            raise UpstreamFailed(502, "upstream_tls", error.reason or "handshake failed") from None
        except TimeoutError:
            raise late from None
        except OSError as error:
            raise UpstreamFailed(502, "upstream_unreachable", _reason(error)) from None
        egress = self._gate.egress
        if judged.verdict.generation != egress.generation:
            self._judge_again(judged.request, channel)
        return channel

    def _judge_again(self, request: EgressRequest, channel: Channel) -> None:
        again = self._gate.egress.judge(request)
        if again.action != "allow":
            channel.reset()
            raise EgressDenied(again.reason or "the policy has changed")

    def _send(
        self, head: RequestHead, target: Target, upstream: Channel, body: bytes | None
    ) -> None:
        """Send a request's head, and its body at once if it is here, else as it comes."""
        client = self._client
        arrived = len(client.channel.buffer)
        raw = write_request(head, target.path, target.origin.authority.encode("ascii"))
        if body is not None:
            upstream.write(raw + body)
        elif not head.length:
            upstream.write(raw)
        elif 0 < head.length <= arrived:
            upstream.write(raw + client.take_body(head.length))
        else:
            upstream.write(raw)
            self._pump = self._gate.spawn(self._send_body(head.length, upstream))

    async def _send_body(self, length: int, upstream: Channel) -> None:
        try:
            if length == CHUNKED:
                await self._bodies.copy_chunks(self._client.channel, upstream, reframe=True)
            else:
                await self._bodies.copy(self._client.channel, upstream, length)
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
                    raise UpstreamFailed(502, "upstream_malformed", error.reason) from None
                if end:
                    break
                if not await upstream.more():
                    self._raise_pump()
                    if self._session.late:
                        raise UpstreamFailed(504, "upstream_timeout", "no response in time")
                    raise UpstreamFailed(
                        502, "upstream_closed", "the server closed without a response"
                    )
            try:
                response = read_response(upstream.take(end), head.method, limits.header_count)
            except HeadError as error:
                raise UpstreamFailed(502, "upstream_malformed", error.reason) from None
            if response.status == 101:
                if not (head.websocket and response.websocket):
                    raise UpstreamFailed(502, "upstream_malformed", "101 that nobody asked for")
                return response
            if response.status >= 200:
                return response
            if head.http11:
                self._client.channel.write(write_response(response, False, False))
        raise UpstreamFailed(502, "upstream_malformed", "interim responses without end")

    def _raise_pump(self) -> None:
        """A request whose body was malformed has no response: that is the client's fault."""
        pump = self._pump
        if pump is not None and pump.done() and not pump.cancelled():
            error = pump.exception()
            if error is not None:
                self._pump = None
                raise error


def _reason(error: OSError) -> str:
    """In words, without the addresses that asyncio puts into its own."""
    what = getattr(error, "what", None)
    if isinstance(what, str):
        return what
    return error.strerror or "the server cannot be reached"
