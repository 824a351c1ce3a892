"""Which protocol the client of an inspected TLS connection is offered: the one its server takes.

Were the two sides to speak different versions, requests would have to be translated, and what means
one thing in HTTP/2 may mean two in HTTP/1 ("downgrade smuggling"). So the server is asked before
the client is answered. It may be: a rule names it, and the connection has been authorized.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from nemoclaw_hookspecs.errors import EgressDenied

from .passing import Refused
from .reaching import UpstreamFailed, open_channel

if TYPE_CHECKING:
    from nemoclaw_hookspecs import EgressVerdict

    from .channel import Channel
    from .gate import Gate
    from .target import Origin

H2 = "h2"
HTTP1 = "http/1.1"
_ORIGINS = 256
_LIFE = 600.0
"""Seconds that a server's choice is believed."""


class Protocols:
    """What servers took when they were asked last. For one thread."""

    def __init__(self) -> None:
        self._known: OrderedDict[Origin, tuple[float, str]] = OrderedDict()

    def of(self, origin: Origin, now: float) -> str:
        """The protocol; empty: the server has to be asked."""
        until, protocol = self._known.get(origin, (0.0, ""))
        return protocol if now < until else ""

    def remember(self, origin: Origin, protocol: str, now: float) -> None:
        """The server has just taken it."""
        self._known[origin] = now + _LIFE, protocol
        self._known.move_to_end(origin)
        while len(self._known) > _ORIGINS:
            self._known.popitem(last=False)

    def forget(self, origin: Origin) -> None:
        """It does so no more."""
        self._known.pop(origin, None)


async def choose(
    gate: Gate, verdict: EgressVerdict, origin: Origin, offered: tuple[str, ...]
) -> tuple[str, Channel | None]:
    """What to offer the client, and the connection to the server if one had to be made to know.

    :param offered: by the client, in its hello.
    :raises Refused: the client speaks HTTP/2 alone, and the server does not.
    """
    if H2 not in offered or gate.http2_sessions >= gate.limits.http2_sessions:
        return HTTP1, None
    channel: Channel | None = None
    now = gate.loop.time()
    protocol = gate.protocols.of(origin, now)
    if not protocol:
        try:
            channel, protocol = await open_channel(gate, verdict, origin)
        except (EgressDenied, UpstreamFailed):
            # The first request is answered with what is wrong, in a version that the client has.
            return HTTP1 if HTTP1 in offered else H2, None
        protocol = protocol if protocol == H2 else HTTP1
        gate.protocols.remember(origin, protocol, now)
    if protocol == H2:
        return H2, channel
    if channel is not None:
        channel.finish()
    if HTTP1 not in offered:
        raise Refused("alpn", "the client speaks HTTP/2 alone, and the server does not")
    return HTTP1, None
