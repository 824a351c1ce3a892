"""The client's side of an inspected HTTP/1.1 session: what it asks for, and what it is told."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from . import replies
from .channel import Channel
from .head import CHUNKED, HeadError, RequestHead, ResponseHead, find_end, write_response

if TYPE_CHECKING:
    from .bodies import Bodies
    from .gate import Gate
    from .http1 import Session

IDLE, HEAD, DIAL, SERVE, CLOSE = range(5)
"""What a session waits for: a request, the rest of one, a server, the end of one, the client."""
LINGER = 2
"""Seconds that a client has to take a refusal while it is still sending."""


class ClientSide:
    """Reads requests, and writes responses.

    :param session: has the deadlines.
    """

    __slots__ = (
        "_bodies",
        "_gate",
        "_held",
        "_limits",
        "_session",
        "answered",
        "channel",
        "spent",
        "taken",
    )

    def __init__(self, gate: Gate, channel: Channel, session: Session, bodies: Bodies) -> None:
        self._gate = gate
        self._limits = gate.limits
        self._session = session
        self._bodies = bodies
        self.channel = channel
        self.answered = False
        """A response to the present request has begun."""
        self._held = 0
        self.taken = False
        """The present request's body is no longer in the channel."""
        self.spent = False
        """A part of it was dropped: it can not be sent any more."""

    async def read_head(self) -> bytes | None:
        """The next request's head; ``None``: there will be none.

        :raises HeadError: it ends too early, is too large, or does not arrive in time.
        """
        channel = self.channel
        limits = self._limits
        if self._held:
            self.release()
        self.answered = self.taken = self.spent = False
        if not channel.buffer:
            self._session.enter(IDLE, limits.keep_alive)
            if not await channel.more() and not channel.buffer:
                return None
        self._session.enter(HEAD, limits.first_bytes)
        while True:
            end = find_end(channel.buffer, limits.header_bytes)
            if end:
                return channel.take(end)
            if not await self._more():
                raise HeadError("the connection ended inside of a request head")

    async def read_body(self, head: RequestHead, limit: int) -> bytes | None:
        """All of a request's body, for the core to look at; ``None``: it has more than ``limit``.

        :raises HeadError: it is not in chunks though it should be, does not arrive in time, or
            there are too many others.
        :raises ConnectionError: the client has gone.
        """
        channel = self.channel
        if head.length > limit:
            return None
        self._session.enter(HEAD, self._limits.first_bytes)
        if head.length and any(name.lower() == b"expect" for name, _ in head.fields):
            channel.write(replies.CONTINUE)
        self._hold(limit if head.length == CHUNKED else head.length)
        if head.length == CHUNKED:
            body = await self._read_chunks(limit)
            self.release()
            self._hold(len(body or b""))
        elif head.length <= len(channel.buffer):
            body = self.take_body(head.length)
        else:
            body = await self._read_rest(head.length)
        self._session.enter(SERVE, 0)
        return body

    def _hold(self, size: int) -> None:
        if self._gate.held + size > self._limits.held_bytes:
            raise HeadError("too many bodies are looked into at once", 503)
        self._gate.held += size
        self._held = size

    def release(self) -> None:
        """The body that was read is not needed any more."""
        self._gate.held -= self._held
        self._held = 0

    async def _read_chunks(self, limit: int) -> bytes | None:
        try:
            body = await self._bodies.read_chunks(self.channel, limit)
        except asyncio.CancelledError:
            self._raise_if_late()
            raise
        self.taken = body is not None
        self.spent = body is None
        return body

    async def _read_rest(self, length: int) -> bytes:
        body = bytearray()
        while len(body) < length:
            if not self.channel.buffer and not await self._more():
                raise ConnectionAbortedError("a body ended too early")
            body += self.channel.take(length - len(body))
        self.taken = True
        return bytes(body)

    def take_body(self, length: int) -> bytes:
        """A request's body that has arrived."""
        self.taken = True
        return self.channel.take(length)

    async def _more(self) -> bool:
        try:
            return await self.channel.more()
        except asyncio.CancelledError:
            self._raise_if_late()
            raise

    def _raise_if_late(self) -> None:
        if self._session.late:
            raise HeadError("the request did not arrive in time", 408) from None

    async def relay(
        self, head: RequestHead, response: ResponseHead, upstream: Channel, *, sending: bool
    ) -> bool:
        """Pass a response on. False: the connection ends with it.

        :param sending: the request's body is still on its way.
        :raises ConnectionError: one side has gone.
        """
        channel = self.channel
        length = response.length
        chunked = length < 0 and head.http11
        keep = head.keep_alive and head.http11 and not sending
        raw = write_response(response, chunked, not keep)
        self.answered = True
        if 0 <= length <= len(upstream.buffer):
            channel.write(raw + upstream.take(length) if length else raw)
        else:
            channel.write(raw)
            if length > 0:
                await self._bodies.copy(upstream, channel, length)
            elif length == CHUNKED:
                try:
                    await self._bodies.copy_chunks(upstream, channel, reframe=chunked)
                except HeadError as error:  # the server's fault, and the client is told by a break
                    raise ConnectionAbortedError(error.reason) from None
            else:
                await self._bodies.copy_rest(upstream, channel, reframe=chunked)
        if channel.congested:
            await channel.drain()
        if not keep:
            await self.linger()
        return keep

    async def answer(
        self, head: RequestHead, status: int, body: dict[str, str], *, sent: bool | None = None
    ) -> bool:
        """Answer a request in place of the server. False: the connection ends with it.

        :param sent: whether its body was passed on piece by piece to its end; ``None``: no piece.
        :raises ConnectionError: the server's response has begun, or the client has gone.
        """
        if self.answered:  # all that is left is to break it off
            raise ConnectionAbortedError("the response broke off")
        complete = self._skip_body(head) if sent is None else sent
        keep = complete and head.keep_alive and head.http11
        self.channel.write(
            replies.reply(status, body, close=not keep, head_only=head.method == "HEAD")
        )
        if keep:
            await self.channel.drain()
            return True
        await self.linger()
        return False

    def refuse(self, status: int, body: dict[str, str]) -> None:
        """Answer what is no request."""
        if not self.channel.lost:
            self.channel.write(replies.reply(status, body, close=True))

    def _skip_body(self, head: RequestHead) -> bool:
        """Drop the body of a refused request if it has arrived. False: its end is not known yet."""
        if head.length > 0 and not self.taken and len(self.channel.buffer) >= head.length:
            self.take_body(head.length)
        return self.taken or head.length == 0

    async def linger(self) -> None:
        """Let the client read what was said, though it may still be sending: close(2) with unread
        octets would send RST, and the client's kernel would drop what it has not read."""
        channel = self.channel
        self._session.enter(CLOSE, LINGER)
        channel.end_writing()
        while not channel.lost:
            channel.take(len(channel.buffer))
            if not await channel.more():
                break
