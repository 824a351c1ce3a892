"""Bodies of HTTP/2 requests that a rule looks into: read whole before anything is sent on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .head import HeadError

if TYPE_CHECKING:
    from .gate import Gate
    from .http2_outlet import Outlet


class BodyReader:
    """Reads one. What it keeps counts for all connections together."""

    __slots__ = ("_gate", "_held", "_more")

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._held = 0
        self._more: asyncio.Future[None] | None = None

    async def read(self, body: Outlet, declared: int, limit: int) -> bytes | None:
        """All that comes before the request's end; ``None``: it is more than ``limit``.

        :param declared: its length; -1: not known.
        :raises HeadError: there are too many others.
        """
        if declared > limit:
            return None
        self._hold(limit if declared < 0 else declared)
        whole = bytearray()
        while True:
            whole += body.take()
            if len(whole) > limit:
                self.release()
                return None
            if body.ended:
                break
            self._more = self._gate.loop.create_future()
            await self._more
        self.release()
        self._hold(len(whole))
        return bytes(whole)

    def wake(self) -> None:
        """More has arrived, or the end."""
        more, self._more = self._more, None
        if more is not None and not more.done():
            more.set_result(None)

    def release(self) -> None:
        """What was read is not needed any more."""
        self._gate.held -= self._held
        self._held = 0

    def _hold(self, size: int) -> None:
        if self._gate.held + size > self._gate.limits.held_bytes:
            raise HeadError("too many bodies are looked into at once", 503)
        self._gate.held += size
        self._held = size
