"""One arrangement for this room: policies of the network from a few words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import HealthCheck, settings
from nemoclaw_hookspecs import (
    BinaryRule,
    Caller,
    EgressRequest,
    EgressVerdict,
    HttpRequest,
    HttpRule,
    NetworkPolicy,
    NetworkRule,
    Origin,
)

from nemoclaw_core.egress.rules import Ruleset

from .grounds import gated, outside

__all__ = ["gated", "outside"]

CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""For properties: a machine with other work to do is slow now and then, and that is no failure."""

CURL = Caller(pid=7, executable="/usr/bin/curl", sha256="c" * 64)
GIT = Caller(pid=8, executable="/usr/bin/git", sha256="a" * 64)


def requests(*entries: str) -> tuple[HttpRule, ...]:
    """``GET,POST /path`` and so on."""
    parts = [entry.split(" ") for entry in entries]
    return tuple(HttpRule(methods=tuple(names.split(",")), path=path) for names, path in parts)


def rule(
    host: str,
    *,
    http: Sequence[str] = (),
    deny: Sequence[str] = (),
    binaries: Sequence[str | tuple[str, str]] = (),
    line: int = 1,
    **more: Any,
) -> NetworkRule:
    """One ``[[network.allow]]``."""
    pinned = [(each, None) if isinstance(each, str) else each for each in binaries]
    return NetworkRule(
        host=host,
        http=requests(*http),
        deny_http=requests(*deny),
        binaries=tuple(BinaryRule(path=path, sha256=digest) for path, digest in pinned),
        origin=Origin(file="policies.toml", line=line, key="network.allow"),
        **more,
    )


def ruleset(*rules: NetworkRule, **more: Any) -> Ruleset:
    """A compiled policy."""
    return Ruleset(NetworkPolicy(allow=rules, **{"mode": "proxy", **more}), 3)


def connection(host: str, port: int = 443, caller: Caller | None = CURL) -> EgressRequest:
    """Somebody connects."""
    return EgressRequest(sandbox="s", host=host, port=port, protocol="tls", caller=caller)


def request(
    method: str,
    path: str,
    host: str = "api.test",
    caller: Caller | None = CURL,
    **headers: str,
) -> EgressRequest:
    """Somebody sends a request over an inspected connection. ``_`` in a header's name is ``-``."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    http = HttpRequest(method=method, path=path, headers=named)
    return EgressRequest(
        sandbox="s", host=host, port=443, protocol="http", caller=caller, http=http
    )


def verdict(host: str, port: int, *addresses: str) -> EgressVerdict:
    """An allowed connection, whose rule owns some addresses."""
    return EgressVerdict(
        action="allow",
        rule="r",
        origin="policies.toml:1 network.allow",
        host=host,
        port=port,
        addresses=addresses,
    )
