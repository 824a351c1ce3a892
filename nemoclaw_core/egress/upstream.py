"""The way out of this host itself: a company's proxy, and the authorities that its servers have.

A proxy resolves names by itself. So the name is what it is given, and a name that cannot be
resolved here is no obstacle; what can be is held against the table of addresses all the same.
"""

from __future__ import annotations

import attrs

from nemoclaw_core import globs

from .addresses import contains
from .hosts import Host

_LOOPBACK = ("127.0.0.0/8", "::1")
_LOCALHOST = ("localhost", "**.localhost")


@attrs.frozen(slots=True, kw_only=True)
class Proxy:
    """An HTTP proxy that makes tunnels (CONNECT, RFC 9110 section 9.3.6)."""

    host: str
    """Canonical. It is looked up on this host, and no rule is asked for it."""
    port: int
    authorization: str = attrs.field(default="", repr=False)
    """Value of Proxy-Authorization. A secret. Empty: none is sent."""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


@attrs.frozen(slots=True, kw_only=True)
class Upstream:
    """How this host reaches servers. All empty: directly, with the system's authorities."""

    proxy: Proxy | None = None
    direct_hosts: tuple[str, ...] = ()
    """Patterns of hosts that are not reached through the proxy."""
    direct_ranges: tuple[str, ...] = ()
    """Addresses and ranges that are not."""
    authorities: str = attrs.field(default="", repr=False)
    """PEM of certificate authorities besides the system's."""

    def proxy_for(self, host: Host) -> Proxy | None:
        """The proxy that leads to a host; ``None``: it is reached directly, as this host's own
        loopback always is."""
        if host.packed:
            direct = contains((*_LOOPBACK, *self.direct_ranges), host)
        else:
            patterns = (*_LOCALHOST, *self.direct_hosts)
            direct = any(globs.matches(each, host.text, ".") for each in patterns)
        return None if direct else self.proxy
