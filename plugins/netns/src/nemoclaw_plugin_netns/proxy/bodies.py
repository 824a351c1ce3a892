"""Bodies on their way from one channel to another, as they come and as fast as they are taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .channel import Channel
from .chunks import LAST, ChunkedReader, write_chunk

if TYPE_CHECKING:
    from .table import Entry, Table


class Bodies:
    """Moves the bodies of one session, and puts its deadline off with each piece.

    :param idle: seconds that a piece may be waited for.
    """

    __slots__ = ("_entry", "_idle", "_table")

    def __init__(self, entry: Entry, table: Table, idle: int) -> None:
        self._entry = entry
        self._table = table
        self._idle = idle

    def _stamp(self) -> None:
        self._entry.deadline = self._table.now + self._idle

    async def copy(self, source: Channel, destination: Channel, left: int) -> None:
        """Of a known length.

        :raises ConnectionError: it ended too early, or nobody takes it any more.
        """
        while left:
            if not source.buffer and not await source.more():
                raise ConnectionAbortedError("a body ended too early")
            self._stamp()
            piece = source.take(left)
            left -= len(piece)
            destination.write(piece)
            if destination.congested:
                await destination.drain()

    async def copy_chunks(self, source: Channel, destination: Channel, *, reframe: bool) -> None:
        """In chunks, which are made anew or, for a client of HTTP/1.0, taken off.

        :raises HeadError: it is not in chunks.
        :raises ConnectionError: as for :meth:`copy`.
        """
        reader = ChunkedReader()
        while not reader.done:
            if not source.buffer and not await source.more():
                raise ConnectionAbortedError("a body ended too early")
            self._stamp()
            pieces = reader.feed(source.take(len(source.buffer)))
            if pieces:
                body = b"".join(pieces)
                destination.write(write_chunk(body) if reframe else body)
            if destination.congested:
                await destination.drain()
        source.unread(reader.rest)
        if reframe:
            destination.write(LAST)

    async def read_chunks(self, source: Channel, limit: int) -> bytes | None:
        """All of a body in chunks; ``None``: it has more octets than ``limit``.

        :raises HeadError: it is not in chunks.
        :raises ConnectionError: it ended too early.
        """
        reader = ChunkedReader()
        pieces: list[bytes] = []
        size = 0
        while not reader.done:
            if not source.buffer and not await source.more():
                raise ConnectionAbortedError("a body ended too early")
            found = reader.feed(source.take(len(source.buffer)))
            pieces += found
            size += sum(map(len, found))
            if size > limit:
                return None
        source.unread(reader.rest)
        return b"".join(pieces)

    async def copy_rest(self, source: Channel, destination: Channel, *, reframe: bool) -> None:
        """All that comes until the server ends.

        :raises ConnectionError: as for :meth:`copy`.
        """
        while source.buffer or await source.more():
            self._stamp()
            piece = source.take(len(source.buffer))
            destination.write(write_chunk(piece) if reframe else piece)
            if destination.congested:
                await destination.drain()
        if source.broken:
            raise ConnectionAbortedError("a body ended too early")
        if reframe:
            destination.write(LAST)

    async def pour(self, source: Channel, destination: Channel) -> None:
        """Octets of no known form, and their end in whichever way it comes."""
        while source.buffer or await source.more():
            self._stamp()
            destination.write(source.take(len(source.buffer)))
            if destination.congested:
                await destination.drain()
        if source.broken:
            destination.reset()
        else:
            destination.end_writing()
