"""One end of a connection as an inspected session uses it: octets in and out, bounded."""

from __future__ import annotations

import asyncio
import socket
from abc import ABC, abstractmethod
from typing import cast

from .table import reset as _reset
from .table import reset_transport

_ENOUGH = 65536
"""Octets that wait to be looked at, or to be sent, after which no more are taken on."""


class Channel(ABC):
    """What has been received, and a way to send. One task reads, one task writes."""

    __slots__ = ("_drained", "_loop", "_paused", "_waiter", "broken", "buffer", "ended", "lost")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.buffer: bytes | bytearray = b""
        """What was received and not taken yet."""
        self.ended = False
        """Nothing more will be received."""
        self.lost = False
        """Nothing more can be sent."""
        self.broken = False
        """It did not end as its protocol would."""
        self._loop = loop
        self._waiter: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._paused = False

    def take(self, count: int) -> bytes:
        """The first ``count`` octets that were received, or all of them if there are fewer."""
        buffer = self.buffer
        if count >= len(buffer):
            self.buffer = b""
            taken = bytes(buffer)
        else:
            taken = bytes(buffer[:count])
            self.buffer = buffer[count:]
        if self._paused and len(self.buffer) < _ENOUGH:
            self._paused = False
            if not self.lost:
                self._resume_reading()
        return taken

    def unread(self, data: bytes) -> None:
        """Put back octets that were taken and belong to what follows."""
        if data:
            self.buffer = data + self.buffer

    async def more(self) -> bool:
        """Wait for octets beyond those in the buffer. False: there will be none."""
        if self.ended:
            return False
        waiter = self._waiter = self._loop.create_future()
        size = len(self.buffer)
        await waiter
        return len(self.buffer) > size

    async def gone(self) -> None:
        """Wait until everything is sent and the socket closed, after :meth:`finish`."""
        while not self.lost:
            self.take(len(self.buffer))
            self._waiter = self._loop.create_future()
            await self._waiter

    async def drain(self) -> None:
        """Wait until the peer has taken most of what was written.

        :raises ConnectionError: the peer has gone.
        """
        if self._drained is not None:
            await self._drained
        if self.lost:
            raise ConnectionResetError("the peer has gone")

    @property
    def protocol(self) -> str:
        """What TLS has agreed on (RFC 7301). Empty: nothing."""
        return ""

    @property
    def congested(self) -> bool:
        """Whether :meth:`drain` would wait."""
        return self._drained is not None

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Send. What the peer does not take is kept: see :meth:`drain`.

        :raises ConnectionError: the peer has gone.
        """

    @abstractmethod
    def finish(self) -> None:
        """Let go once everything has been sent."""

    @abstractmethod
    def end_writing(self) -> None:
        """Say that nothing more comes, and go on listening where the protocol can (not in TLS)."""

    @abstractmethod
    def reset(self) -> None:
        """Cut, at once."""

    @abstractmethod
    def _pause_reading(self) -> None: ...

    @abstractmethod
    def _resume_reading(self) -> None: ...

    def _received(self, data: bytes) -> None:
        if not self.buffer:
            self.buffer = data
        else:
            if isinstance(self.buffer, bytes):
                self.buffer = bytearray(self.buffer)
            self.buffer += data
        if len(self.buffer) >= _ENOUGH and not self._paused:
            self._paused = True
            self._pause_reading()
        self._wake()

    def _congest(self) -> None:
        if self._drained is None and not self.lost:
            self._drained = self._loop.create_future()

    def _relieve(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class TlsChannel(Channel, asyncio.Protocol):
    """Over a transport, which does the TLS."""

    __slots__ = ("_transport",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See :class:`asyncio.Protocol`."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    @property
    def protocol(self) -> str:
        """See :class:`Channel`."""
        tls = self._transport.get_extra_info("ssl_object") if self._transport is not None else None
        return (tls.selected_alpn_protocol() or "") if tls is not None else ""

    def data_received(self, data: bytes) -> None:
        """See :class:`asyncio.Protocol`."""
        self._received(data)

    def eof_received(self) -> None:
        """See :class:`asyncio.Protocol`. The transport closes: asyncio's TLS has no other half."""
        self.ended = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """See :class:`asyncio.Protocol`."""
        self.broken = not self.ended or exc is not None
        self.ended = True
        self.lost = True
        self._wake()
        self._relieve()

    def pause_writing(self) -> None:
        """See :class:`asyncio.Protocol`."""
        self._congest()

    def resume_writing(self) -> None:
        """See :class:`asyncio.Protocol`."""
        self._relieve()

    def write(self, data: bytes) -> None:
        """See :class:`Channel`."""
        if self.lost or self._transport is None:
            raise ConnectionResetError("the peer has gone")
        self._transport.write(data)

    def finish(self) -> None:
        """See :class:`Channel`."""
        # Not twice: asyncio's TLS transport could not be cut after that.
        if self._transport is not None and not self._transport.is_closing():
            self._transport.close()

    def end_writing(self) -> None:
        """See :class:`Channel`."""
        self.finish()

    def reset(self) -> None:
        """See :class:`Channel`."""
        if self._transport is not None and not self.lost:
            reset_transport(self._transport)

    def _pause_reading(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()


class PlainChannel(Channel):
    """Straight on a socket, which it owns: a third of what a transport costs.

    :param view: where octets are received into; shared, see :mod:`.relay`.
    """

    __slots__ = ("_closing", "_ending", "_reading", "_sock", "_unsent", "_view")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, view: memoryview
    ) -> None:
        super().__init__(loop)
        self._sock = sock
        self._view = view
        self._unsent = bytearray()
        self._closing = False
        self._ending = False
        self._reading = True
        loop.add_reader(sock.fileno(), self._readable)

    def write(self, data: bytes) -> None:
        """See :class:`Channel`."""
        if self.lost or self._closing or self._ending:
            raise ConnectionResetError("the peer has gone")
        if not self._unsent:
            try:
                sent = self._sock.send(data)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError:
                self._lose()
                raise ConnectionResetError("the peer has gone") from None
            if sent == len(data):
                return
            data = data[sent:]
            self._loop.add_writer(self._sock.fileno(), self._writable)
        self._unsent += data
        if len(self._unsent) > _ENOUGH:
            self._congest()

    def finish(self) -> None:
        """See :class:`Channel`."""
        self._closing = True
        if not self._unsent:
            self._lose()

    def end_writing(self) -> None:
        """See :class:`Channel`."""
        self._ending = True
        if not self._unsent and not self.lost:
            self._shut()

    def reset(self) -> None:
        """See :class:`Channel`."""
        if not self.lost:
            self._lose(reset=True)

    def _readable(self) -> None:
        try:
            count = self._sock.recv_into(self._view)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.broken = True
            self._lose()
            return
        if count:
            self._received(bytes(self._view[:count]))
            return
        self.ended = True
        self._pause_reading()
        self._wake()

    def _writable(self) -> None:
        try:
            sent = self._sock.send(self._unsent)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.broken = True
            self._lose()
            return
        del self._unsent[:sent]
        if len(self._unsent) < _ENOUGH // 2:
            self._relieve()
        if not self._unsent:
            self._loop.remove_writer(self._sock.fileno())
            if self._closing:
                self._lose()
            elif self._ending:
                self._shut()

    def _shut(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._lose()

    def _lose(self, *, reset: bool = False) -> None:
        """The socket is closed, and nothing of it stays in the loop."""
        if self.lost:
            return
        self.lost = True
        self.ended = True
        self._pause_reading()
        if self._unsent:
            self._unsent.clear()
            self._loop.remove_writer(self._sock.fileno())
        if reset:
            _reset(self._sock)
        else:
            self._sock.close()
        self._wake()
        self._relieve()

    def _pause_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._sock.fileno())

    def _resume_reading(self) -> None:
        if not self.ended:
            self._reading = True
            self._loop.add_reader(self._sock.fileno(), self._readable)
