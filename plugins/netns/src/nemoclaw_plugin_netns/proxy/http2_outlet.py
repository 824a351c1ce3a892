"""Bodies on their way out of HTTP/2 connections: as much as the peer's windows let, and no more."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from . import http2_guard as guard

if TYPE_CHECKING:
    from .head import Fields
    from .http2_connection import Connection


class Outlet:
    """A body on its way out: what has been received of it and not been sent yet.

    :param taken: told each time that something has left, and how many octets of flow control.
    :param length: how long it is said to be; -1: not said.
    """

    __slots__ = (
        "_connection", "_end", "_pieces", "_received", "_stream", "_taken", "_trailers", "done",
        "length",
    )  # fmt: skip

    def __init__(self, taken: Callable[[int], None], length: int = -1) -> None:
        self.done = False
        """The stream's end has been sent."""
        self.length = length
        self._received = 0
        self._taken = taken
        self._pieces: deque[tuple[bytes, int]] = deque()
        self._connection: Connection | None = None
        self._stream = 0
        self._end = False
        self._trailers: Fields = []

    @property
    def waiting(self) -> bool:
        """Whether anything is to be sent."""
        return bool(self._pieces) or (self._end and not self.done)

    @property
    def empty(self) -> bool:
        """Whether all that has been received has been sent."""
        return not self._pieces

    @property
    def fits(self) -> bool:
        """Whether what has been received is as long as was said. Where a DATA frame ends the
        stream h2 looks after that; where a header block or trailers do, nobody else."""
        return self.length in (-1, self._received)

    @property
    def ended(self) -> bool:
        """Whether all of the body has been received."""
        return self._end

    def attach(self, connection: Connection, stream: int, *, done: bool = False) -> None:
        """Where to send.

        :param done: the end has been sent with the header block.
        """
        self._connection, self._stream = connection, stream
        self.done = done
        if not done:
            connection.outlets[stream] = self
            while self.push():
                pass

    def write(self, data: bytes, size: int, *, end: bool = False) -> None:
        """The next piece.

        :param size: what it counts in flow control: with its padding.
        """
        self._received += len(data)
        self._pieces.append((data, size))
        self._end = self._end or end
        while self.push():
            pass

    def finish(self, trailers: Fields | None = None) -> None:
        """There is no more."""
        self._end = True
        self._trailers = trailers or []
        while self.push():
            pass

    def take(self) -> bytes:
        """All that waits, which is not going to be sent."""
        data = b"".join(piece for piece, _ in self._pieces)
        self.drop()
        return data

    def drop(self) -> None:
        """Forget what waits."""
        size = sum(size for _, size in self._pieces)
        self._pieces.clear()
        if size:
            self._taken(size)

    def push(self) -> bool:
        """Send one frame. False: nothing waits, or nothing may be sent now."""
        connection, stream = self._connection, self._stream
        if connection is None or self.done or connection.channel.congested:
            return False
        if not connection.is_open(stream):  # its owner is about to hear of it
            return False
        h2 = connection.h2
        if not self._pieces:
            if self._end:
                if self._trailers:
                    h2.send_headers(stream, self._trailers, end_stream=True)
                else:
                    h2.end_stream(stream)
                self._finished(connection)
                self._taken(0)
            return False
        data, size = self._pieces[0]
        count = len(data)
        if count:
            count = min(count, guard.MAX_FRAME, h2.local_flow_control_window(stream))
            if count <= 0:
                return False
        left = len(data) - count
        last = self._end and not left and len(self._pieces) == 1 and not self._trailers
        if count or last:
            h2.send_data(stream, data[:count] if left else data, end_stream=last)
            connection.guard.earn(2)
            connection.flush_soon()
        if left:
            self._pieces[0] = data[count:], size - count
            size = count
        else:
            self._pieces.popleft()
        if last:
            self._finished(connection)
        self._taken(size)
        return not last

    def _finished(self, connection: Connection) -> None:
        self.done = True
        connection.outlets.pop(self._stream, None)
        connection.flush_soon()


def ignore(size: int) -> None:
    """What is sent did not come from a stream."""
