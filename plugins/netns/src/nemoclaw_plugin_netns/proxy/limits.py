"""What a client may make the proxy wait for, keep, or hold open."""

from __future__ import annotations

import attrs


@attrs.frozen(slots=True, kw_only=True)
class Limits:
    """Times are whole seconds, kept to within one second."""

    connections: int = 4096
    """Open at once, of one sandbox. One more is reset."""
    first_bytes: int = 10
    """Until a whole request head, TLS hello or SOCKS request has arrived, and a handshake ended."""
    dial: int = 30
    """Until a server answers to its address."""
    idle: int = 3600
    """Without a byte either way in a tunnel, or without an answer to a request."""
    keep_alive: int = 120
    """Between two requests on one connection."""
    header_bytes: int = 65536
    """Of a request's or response's head; RFC 9110 asks for at least 8,000."""
    header_count: int = 128
    hello_bytes: int = 32768
    """Of a TLS ClientHello with its record headers. Hybrid key shares make it about 2,000."""
    http2_sessions: int = 512
    """HTTP/2 connections at once, for what each may make us keep. Further clients are offered
    HTTP/1.1."""
    held_bytes: int = 33_554_432
    """Of bodies and messages that rules look into, at once over all connections. One more body is
    refused with 503, one more message with 1013."""
    leaves: int = 256
    """Leaf certificates kept."""
