"""The open connections of a sandbox: how many, how long still, and which a new policy forbids."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, Any, Protocol, cast

from nemoclaw_hookspecs import EgressVerdict

if TYPE_CHECKING:
    from nemoclaw_hookspecs import Egress, EgressRequest

_RESET = struct.pack("ii", 1, 0)
_UNCHANGED = EgressVerdict(action="allow", rule="unchanged")
"""Of something that is open, and was allowed in the way in which it is served."""


class Entry(Protocol):
    """Something open: a connection that is being set up, a tunnel, or an inspected session."""

    deadline: int
    """On the table's clock, where it passes within one second after. 0: none."""

    def allowed(self, egress: Egress) -> bool:
        """Whether the policy in force still allows it, in the way in which it is served."""

    def cut(self) -> None:
        """Reset both sides at once."""

    def expire(self) -> None:
        """The deadline has passed: end it as its protocol would."""


class _Review:
    """A policy that has just come into force, as what is open asks it: of a host whose rules are
    the same as before, nothing has to be judged anew."""

    def __init__(self, egress: Egress) -> None:
        self._egress = egress
        self._changed: dict[str, bool] = {}

    def judge(self, request: EgressRequest) -> EgressVerdict:
        host = request.host
        changed = self._changed.get(host)
        if changed is None:
            changed = self._changed[host] = self._egress.changed(host)
        return self._egress.judge(request) if changed else _UNCHANGED

    def __getattr__(self, name: str) -> Any:
        return getattr(self._egress, name)


class Table:
    """Counts and times connections. One timer serves all: a stamp costs an attribute."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.now = 1
        """Seconds that the clock ran. It stands still while nothing is open."""
        self._loop = loop
        self._entries: set[Entry] = set()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: Entry) -> None:
        """Begin to watch a connection."""
        self._entries.add(entry)
        if self._timer is None:
            self._timer = self._loop.call_later(1.0, self._tick)

    def remove(self, entry: Entry) -> None:
        """Its sockets are closed, or another entry has them now."""
        self._entries.discard(entry)

    def recheck(self, egress: Egress) -> int:
        """Cut what the policy in force denies. The number of connections that were cut."""
        review = cast("Egress", _Review(egress))
        gone = [entry for entry in self._entries if not entry.allowed(review)]
        for entry in gone:
            self._entries.discard(entry)
            entry.cut()
        return len(gone)

    def close(self) -> None:
        """Cut everything."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for entry in tuple(self._entries):
            entry.cut()
        self._entries.clear()

    def _tick(self) -> None:
        self.now += 1
        now = self.now
        for entry in [e for e in self._entries if 0 < e.deadline < now]:
            entry.expire()
        self._timer = self._loop.call_later(1.0, self._tick) if self._entries else None


def reset(sock: socket.socket) -> None:
    """Close with RST: the peer learns at once, and no byte that waits is sent."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    except OSError:  # closed already
        pass
    sock.close()


def reset_transport(transport: asyncio.Transport) -> None:
    """Like :func:`reset`, for a socket that a transport owns."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        except (OSError, ValueError):  # closed already; uvloop says so by ValueError
            pass
    transport.abort()
