"""Connecting to a server that may speak HTTP/2, and what to tell the client when that fails."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

from nemoclaw_hookspecs.errors import EgressDenied

if TYPE_CHECKING:
    from nemoclaw_hookspecs import EgressVerdict

    from .channel import Channel
    from .gate import Gate
    from .target import Origin


class UpstreamFailed(Exception):
    """No response, or none that may be passed on.

    :param error: a code for the client.
    """

    def __init__(self, status: int, error: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.error = error
        self.reason = reason


async def open_channel(gate: Gate, verdict: EgressVerdict, origin: Origin) -> tuple[Channel, str]:
    """Connect to a server that may speak HTTP/2; which protocol it has chosen (RFC 7301).

    :raises EgressDenied: it leads to where it may not.
    :raises UpstreamFailed: it cannot be reached, or is not who it should be.
    """
    try:
        channel = await asyncio.wait_for(
            gate.connect(verdict, origin.tls, http2=True), gate.limits.dial
        )
    except EgressDenied:
        raise
    except ssl.SSLCertVerificationError as error:
        raise UpstreamFailed(502, "upstream_certificate", error.verify_message) from None
    except ssl.SSLError as error:
        raise UpstreamFailed(502, "upstream_tls", error.reason or "handshake failed") from None
    except (asyncio.TimeoutError, TimeoutError):
        raise UpstreamFailed(504, "upstream_timeout", "the server did not answer in time") from None
    except OSError as error:
        what = getattr(error, "what", None)
        reason = what if isinstance(what, str) else error.strerror
        raise UpstreamFailed(
            502, "upstream_unreachable", reason or "the server cannot be reached"
        ) from None
    return channel, channel.protocol if origin.tls else "h2"
