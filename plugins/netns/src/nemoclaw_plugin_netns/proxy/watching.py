"""A WebSocket whose rule looks into messages: each of the client's is judged, then sent on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .channel import Channel
from .holding import attended
from .websocket import (
    BAD_GATEWAY,
    GOING_AWAY,
    POLICY,
    TEXT,
    TRY_LATER,
    FrameError,
    MessageReader,
    read_header,
    write_close,
    write_frame,
)

if TYPE_CHECKING:
    from nemoclaw_hookspecs import EgressRequest

    from .gate import Gate
    from .judging import Judging
    from .table import Entry

LARGEST = 1 << 20
"""Octets of a client's message."""
_WHOLE = 32768
"""Octets of a server's frame that is passed on whole. So there is mostly a place between two where
the client can be told why its connection ends."""
_GOODBYE = 30
"""Seconds that a server has to close what the client has closed."""


class Watching:
    """Both directions of one WebSocket, until either side ends it or the client is refused.

    :param entry: has the deadline.
    :param request: what has opened it.
    """

    def __init__(self, entry: Entry, gate: Gate, judging: Judging, request: EgressRequest) -> None:
        self._entry = entry
        self._gate = gate
        self._judging = judging
        self._request = request
        self._inside = False

    async def run(self, client: Channel, server: Channel) -> bool:
        """Serve. True: the client was refused, and told so if it could be.

        :raises ConnectionError: one side has gone.
        """
        back = self._gate.spawn(self._back(server, client))
        try:
            refused = await self._forth(client, server)
            if refused is None:
                await back
                return False
            back.cancel()
            await asyncio.wait((back,))
            if not self._inside and not client.lost:
                client.write(write_close(refused.code, refused.reason, mask=False))
            if not server.lost:
                server.write(write_close(GOING_AWAY, "", mask=True))
            server.finish()
            return True
        finally:
            back.cancel()

    def _stamp(self) -> None:
        self._entry.deadline = self._gate.table.now + self._gate.limits.idle

    async def _forth(self, client: Channel, server: Channel) -> FrameError | None:
        """What the client says. A message that may not be sent ends it."""
        reader = MessageReader(LARGEST)
        held = 0
        try:
            while not reader.closed and (client.buffer or await client.more()):
                self._stamp()
                for opcode, data in reader.feed(client.take(len(client.buffer))):
                    if opcode == TEXT:
                        await self._ask(client, data)
                    if server.lost:
                        return None
                    server.write(write_frame(opcode, data, mask=True))
                    if server.congested:
                        await server.drain()
                self._gate.held += reader.held - held
                held = reader.held
                if held and self._gate.held > self._gate.limits.held_bytes:
                    raise FrameError(TRY_LATER, "too many messages are looked into at once")
        except FrameError as error:
            if error.code != POLICY:
                self._gate.egress.denied(self._request, "malformed", error.reason)
            return error
        except ConnectionError:
            if not server.lost:
                raise
            return None  # what it has said before it went is still on its way to the client
        finally:
            self._gate.held -= held
        if reader.closed:
            self._entry.deadline = self._gate.table.now + _GOODBYE
        if client.broken or not (reader.closed or reader.between):
            server.reset()
        elif not reader.closed:
            server.end_writing()
        return None

    async def _ask(self, client: Channel, message: bytes) -> None:
        def gone() -> bool:
            return client.ended or client.lost

        verdict = await attended(
            self._gate.loop, gone, self._judging.message(self._request, message)
        )
        if verdict.action != "allow":
            raise FrameError(POLICY, f"{verdict.rule}: {verdict.reason}")

    async def _back(self, server: Channel, client: Channel) -> None:
        """What the server says, passed on in whole frames unless they are large."""
        while True:
            try:
                ready, large = _whole(server.buffer)
            except FrameError:
                if not client.lost:
                    text = "the server does not speak WebSocket"
                    client.write(write_close(BAD_GATEWAY, text, mask=False))
                break
            if ready:
                self._stamp()
                client.write(server.take(ready))
            elif large:
                await self._pass(server, client, large)
            elif not await server.more():
                break
            if client.congested:
                await client.drain()
        server.finish()
        client.finish()

    async def _pass(self, server: Channel, client: Channel, left: int) -> None:
        self._inside = True
        while left:
            if not server.buffer and not await server.more():
                raise ConnectionAbortedError("the server ended inside of a frame")
            self._stamp()
            piece = server.take(left)
            left -= len(piece)
            client.write(piece)
            if client.congested:
                await client.drain()
        self._inside = False


def _whole(data: bytes | bytearray) -> tuple[int, int]:
    """Octets of the whole frames that data begins with, or of the large one that it begins with.

    :raises FrameError: it begins with none.
    """
    at = 0
    while True:
        try:
            header = read_header(data, at)
            if header is not None and header.masked:
                raise FrameError(BAD_GATEWAY, "a server's frame is masked")
        except FrameError:
            if at:
                return at, 0
            raise
        if header is None:
            return at, 0
        size = header.size + header.length
        if len(data) - at < size:
            return at, size if not at and size > _WHOLE else 0
        at += size
