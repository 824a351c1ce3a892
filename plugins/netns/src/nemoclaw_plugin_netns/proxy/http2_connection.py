"""One HTTP/2 connection, to a client or to a server: frames in and out, and nobody's buffer grows.

What is received on a stream is acknowledged once the other side has taken it: so the sender's own
flow control holds it back, stream by stream. Until then it waits here, as much as the windows let.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import Event, RemoteSettingsChanged, WindowUpdated
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings
from hyperframe.frame import GoAwayFrame

from . import http2_guard as guard
from .http2_guard import FrameGuard, Violation, explain
from .http2_hpack import RememberingDecoder, RememberingEncoder

if TYPE_CHECKING:
    import asyncio

    from .channel import Channel
    from .head import Fields
    from .http2_outlet import Outlet
    from .limits import Limits
    from .table import Table

STREAMS = 128
"""Open at once on a connection."""
_WINDOW = 1 << 20
"""Octets that all streams of a connection may have waiting here."""
_TABLE = 4096
"""Octets of field compression state, whatever a peer offers to keep."""
_UNSENT = 1 << 20
"""Octets of frames that a peer may leave untaken."""

Handler = Callable[[Any], None]


class _H2(H2Connection):
    MAX_CLOSED_STREAMS = 1024  # remembered, to tell late frames from wrong ones
    DEFAULT_MAX_INBOUND_FRAME_SIZE = guard.MAX_FRAME


class Connection:
    """Frames of one connection. Its streams are somebody else's.

    :param server: whether the peer is a client.
    :param stream_window: octets that one stream may have waiting here.
    :param handlers: what to do with each kind of event of :mod:`h2.events`.
    :param goodbye: told when the peer has said GOAWAY, see :attr:`.FrameGuard.goodbye`.
    """

    def __init__(
        self,
        channel: Channel,
        loop: asyncio.AbstractEventLoop,
        table: Table,
        limits: Limits,
        *,
        server: bool,
        stream_window: int,
        handlers: dict[type[Event], Handler],
        goodbye: Callable[[], None],
    ) -> None:
        self.channel = channel
        self.guard = FrameGuard(server=server, header_bytes=limits.header_bytes, now=table.now)
        self.outlets: dict[int, Outlet] = {}
        self.dead = False
        """Nothing more can be sent."""
        self._loop = loop
        self._table = table
        self._handlers: dict[type[Event], Handler] = {
            **handlers,
            WindowUpdated: self._window_updated,
            RemoteSettingsChanged: self._settings_changed,
        }
        self._goodbye = goodbye
        self._unsent = bytearray()
        self._flushing = False
        self._draining: asyncio.Task[None] | None = None
        # Header blocks are checked by http2_fields: at the speed of re, and stream by stream.
        self.h2 = h2 = _H2(
            H2Configuration(
                client_side=not server,
                validate_inbound_headers=False,
                normalize_inbound_headers=False,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        # Nothing of RFC 8441 (extended CONNECT) is in it, so no client may ask for that.
        h2.local_settings = Settings(
            client=not server,
            initial_values={
                SettingCodes.ENABLE_PUSH: 0,
                SettingCodes.INITIAL_WINDOW_SIZE: stream_window,
                SettingCodes.MAX_CONCURRENT_STREAMS: STREAMS,
                SettingCodes.MAX_FRAME_SIZE: guard.MAX_FRAME,
                SettingCodes.MAX_HEADER_LIST_SIZE: limits.header_bytes,
            },
        )
        h2.encoder = RememberingEncoder()
        h2.decoder = RememberingDecoder(limits.header_bytes)
        h2.initiate_connection()
        h2.increment_flow_control_window(_WINDOW - 65535)
        self.flush()

    # -- in

    async def run(self, *, patient: bool) -> None:
        """Handle what arrives, until the peer's end.

        :param patient: read nothing while the peer takes nothing.
        :raises Violation: the peer breaks the protocol. It has been told.
        :raises ConnectionError: it has gone.
        """
        channel = self.channel
        while channel.buffer or await channel.more():
            data = channel.take(len(channel.buffer))
            before = self.guard.goodbye
            slices = self.guard.feed(data, self._table.now)
            for each in slices:
                self._receive(each)
                if len(slices) > 1:
                    self.flush()
                    await _turn(self._loop)
            if self.guard.goodbye is not before:
                self._goodbye()
            self.flush()
            if patient and channel.congested:
                await channel.drain()

    def _receive(self, data: bytes) -> None:
        try:
            events = self.h2.receive_data(data)
        except ProtocolError as error:
            self.flush()  # it has said GOAWAY, and says nothing more
            self._die()
            raise Violation(explain(error), int(error.error_code)) from None
        handlers = self._handlers
        for event in events:
            handler = handlers.get(event.__class__)
            if handler is not None:
                handler(event)

    def _window_updated(self, event: WindowUpdated) -> None:
        if event.stream_id:
            outlet = self.outlets.get(event.stream_id)
            if outlet is not None:
                while outlet.push():
                    pass
        else:
            self.pump()

    def _settings_changed(self, event: RemoteSettingsChanged) -> None:
        if self.h2.encoder.header_table_size > _TABLE:
            self.h2.encoder.header_table_size = _TABLE
        self.pump()

    def acknowledge(self, size: int, stream: int) -> None:
        """Octets of a stream are no longer here: as many more may be sent."""
        if size and not self.dead:
            self.h2.acknowledge_received_data(size, stream)
            self.flush_soon()

    # -- out

    def send_headers(self, stream: int, fields: Fields, *, end: bool = False) -> bool:
        """A header block. False: the stream has ended in the meantime."""
        if not self.is_open(stream):
            return False
        self.h2.send_headers(stream, fields, end_stream=end)
        self.flush_soon()
        return True

    def is_open(self, stream: int) -> bool:
        """Whether something may be sent on a stream that has been begun."""
        if self.dead:
            return False
        found = self.h2.streams.get(stream)
        return found is not None and not found.closed

    def reset_stream(self, stream: int, code: int) -> None:
        """Give a stream up, if it is still there."""
        self.outlets.pop(stream, None)
        if self.is_open(stream):
            self.h2.reset_stream(stream, code)
            self.flush_soon()

    def say_goodbye(self, code: int = guard.NO_ERROR) -> None:
        """GOAWAY: no more streams. Those that are open live on."""
        # Not by h2, which takes this frame for the end.
        self.flush()  # some take it for the end of everything too: all else comes before
        if not self.dead:
            last = self.h2.highest_inbound_stream_id
            self._unsent += GoAwayFrame(0, last_stream_id=last, error_code=code).serialize()
            self.flush()

    def close(self, code: int = guard.NO_ERROR) -> None:
        """The same, and let go."""
        self.say_goodbye(code)
        stuck = bool(self._unsent)  # it takes nothing: then neither this
        self._die()
        if stuck:
            self.channel.reset()
        else:
            self.channel.finish()

    def reset(self) -> None:
        """Cut, at once."""
        self._die()
        self.channel.reset()

    def pump(self) -> None:
        """Send what waits, a frame of each stream in turn."""
        waiting = [outlet for outlet in self.outlets.values() if outlet.waiting]
        while waiting:
            waiting = [outlet for outlet in waiting if outlet.push()]

    def flush_soon(self) -> None:
        """Send what has been written by the end of this turn of the loop."""
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Send what has been written."""
        self._flushing = False
        if self.dead:
            return
        data = self.h2.data_to_send()
        if self.channel.congested:
            self._unsent += data
            if len(self._unsent) > _UNSENT:
                self.reset()
            return
        if self._unsent:
            data = bytes(self._unsent) + data
            self._unsent.clear()
        if not data:
            return
        try:
            self.channel.write(data)
        except ConnectionError:
            self._die()
            return
        if self.channel.congested and self._draining is None:
            self._draining = self._loop.create_task(self._drain())

    async def _drain(self) -> None:
        try:
            await self.channel.drain()
        except ConnectionError:
            self._die()
            return
        finally:
            self._draining = None
        self.flush()
        self.pump()

    def _die(self) -> None:
        self.dead = True
        self.outlets.clear()
        if self._draining is not None:
            self._draining.cancel()


async def _turn(loop: asyncio.AbstractEventLoop) -> None:
    """Let everything else have its turn."""
    waiter = loop.create_future()
    loop.call_soon(_wake, waiter)
    await waiter


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
