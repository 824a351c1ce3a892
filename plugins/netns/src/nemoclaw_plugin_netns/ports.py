"""The sockets that are born in a gated network namespace: names, addresses and ports."""

from __future__ import annotations

from typing import Literal

TCP = 15001
"""Where TCP to any address but a loopback one arrives, with SO_ORIGINAL_DST telling which."""
DNS = 15053
PROXY = 3128
"""An explicit proxy, for programs that honour ``HTTPS_PROXY``."""

SOCKETS: tuple[tuple[str, Literal["tcp", "udp", "sock_diag", "netfilter"], str, int], ...] = (
    ("tcp", "tcp", "127.0.0.1", TCP),
    ("tcp6", "tcp", "::1", TCP),
    ("proxy", "tcp", "127.0.0.1", PROXY),
    ("dns-udp", "udp", "127.0.0.1", DNS),
    ("dns-udp6", "udp", "::1", DNS),
    ("dns-tcp", "tcp", "127.0.0.1", DNS),
    ("dns-tcp6", "tcp", "::1", DNS),
    ("diag", "sock_diag", "", 0),
    ("conntrack", "netfilter", "", 0),
)
