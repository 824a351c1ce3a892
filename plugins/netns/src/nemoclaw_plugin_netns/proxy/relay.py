"""Bytes between two sockets, both ways, as they come.

Straight on the sockets, with one receive buffer for all relays: the loop runs one callback at a
time, and what a peer does not take at once is the only thing copied and kept. That is at most one
buffer per direction; until it is gone nothing more is read (backpressure by TCP's own window).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from .table import reset

if TYPE_CHECKING:
    from nemoclaw_hookspecs import Egress

    from .table import Table

BUFFER = 262144
"""Octets. The largest gain is up to 128 KiB; above 512 KiB the processor's cache is left."""
_ROUNDS = 4
"""Reads in a row from one socket, before others get their turn."""


class _Half:
    """One direction."""

    __slots__ = ("_held", "_loop", "_relay", "_unsent", "destination", "done", "reading", "source")

    def __init__(self, relay: Relay, source: socket.socket, destination: socket.socket) -> None:
        self._relay = relay
        self._loop = relay.loop
        self._unsent: memoryview | None = None
        self.source = source
        self.destination = destination
        self._held = False
        self.reading = False
        self.done = False

    def start(self) -> None:
        self.reading = True
        self._loop.add_reader(self.source.fileno(), self._readable)

    def hold(self) -> None:
        self._held = True
        if self.reading:
            self.reading = False
            self._loop.remove_reader(self.source.fileno())

    def resume(self) -> None:
        self._held = False
        if not self.done and self._unsent is None:
            self.start()

    def stop(self) -> None:
        if self.reading:
            self.reading = False
            self._loop.remove_reader(self.source.fileno())
        if self._unsent is not None:
            self._unsent = None
            self._loop.remove_writer(self.destination.fileno())

    def _readable(self) -> None:
        relay = self._relay
        view = relay.view
        relay.deadline = relay.table.now + relay.idle
        try:
            for _ in range(_ROUNDS):
                count = self.source.recv_into(view)
                if not count:
                    self._end()
                    return
                try:
                    sent = self.destination.send(view[:count])
                except BlockingIOError:
                    sent = 0
                if sent < count:
                    self._unsent = memoryview(bytes(view[sent:count]))
                    self.reading = False
                    self._loop.remove_reader(self.source.fileno())
                    self._loop.add_writer(self.destination.fileno(), self._writable)
                    return
                if count < BUFFER // 4:
                    return
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            relay.cut()

    def _writable(self) -> None:
        relay = self._relay
        unsent = self._unsent
        if unsent is None:
            return
        relay.deadline = relay.table.now + relay.idle
        try:
            sent = self.destination.send(unsent)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            relay.cut()
            return
        if sent < len(unsent):
            self._unsent = unsent[sent:]
            return
        self._unsent = None
        self._loop.remove_writer(self.destination.fileno())
        if not self._held:
            self.start()

    def _end(self) -> None:
        """The source has said its last: so do we, towards the destination. The rest lives on."""
        self.reading = False
        self._loop.remove_reader(self.source.fileno())
        self.done = True
        try:
            self.destination.shutdown(socket.SHUT_WR)
        except OSError:
            self._relay.cut()
            return
        self._relay.half_done()


class Relay:
    """A tunnel between a client and a server. Owns both sockets, and its entry in the table."""

    __slots__ = (
        "_allowed",
        "_client",
        "_closed",
        "_down",
        "_gate",
        "_on_cut",
        "_server",
        "_up",
        "deadline",
        "idle",
        "loop",
        "table",
        "view",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        table: Table,
        view: memoryview,
        client: socket.socket,
        server: socket.socket,
        idle: int,
        allowed: Callable[[Egress], bool],
    ) -> None:
        self.loop = loop
        self.table = table
        self.view = view
        self.idle = idle
        self.deadline = table.now + idle
        self._allowed = allowed
        self._client = client
        self._server = server
        self._closed = False
        self._gate: Callable[[], Callable[[], object] | None] | None = None
        self._on_cut: Callable[[], object] | None = None
        self._up = _Half(self, client, server)
        self._down = _Half(self, server, client)

    def start(self, gate: Callable[[], Callable[[], object] | None] | None) -> None:
        """Let the server speak, and the client when it has something to say.

        :param gate: called when the client speaks (or ends) for the first time. ``None``: its bytes
            may pass. Else they wait for :meth:`start_up`, and what was returned is called if the
            tunnel breaks before that.
        """
        self.table.add(self)
        self._down.start()
        if gate is None:
            self._up.start()
        else:
            self._gate = gate
            self.loop.add_reader(self._client.fileno(), self._first)
            self._up.reading = True

    def _first(self) -> None:
        gate = self._gate
        assert gate is not None
        self._on_cut = gate()
        if self._closed:
            return
        if self._on_cut is None:
            self._up.start()  # in place of this callback
        else:
            self._up.hold()

    def resume_down(self) -> None:
        """After :meth:`hold_down`."""
        if not self._closed:
            self._down.resume()

    def hold_down(self) -> None:
        """Let what the server says from now on wait. What it has said before is still delivered."""
        self._down.hold()

    def start_up(self) -> None:
        """Let the client speak."""
        self._on_cut = None
        self.deadline = self.table.now + self.idle
        if not self._closed:
            self._up.resume()

    def half_done(self) -> None:
        """Close when both have said their last."""
        if self._up.done and self._down.done:
            self._close()
            self._client.close()
            self._server.close()

    def allowed(self, egress: Egress) -> bool:
        """See :class:`~.table.Entry`."""
        return self._allowed(egress)

    def expire(self) -> None:
        """See :class:`~.table.Entry`."""
        self.cut()

    def cut(self) -> None:
        """See :class:`~.table.Entry`. Also when either side has broken: the other learns it."""
        if self._closed:
            return
        self._close()
        reset(self._client)
        reset(self._server)
        if self._on_cut is not None:
            self._on_cut()

    def _close(self) -> None:
        self._closed = True
        self.table.remove(self)
        self._up.stop()
        self._down.stop()
