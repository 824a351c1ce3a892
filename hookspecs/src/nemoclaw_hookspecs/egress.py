"""Values that travel through ``authorize_egress``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import attrs


@attrs.frozen(slots=True, kw_only=True)
class Caller:
    """The process inside the sandbox that owns a connection."""

    pid: int
    """In the supervisor's PID namespace."""
    executable: str
    sha256: str = ""
    ancestors: tuple[str, ...] = ()


@attrs.frozen(slots=True, kw_only=True)
class HttpRequest:
    """The part of an inspected request that is judged. The body is not in it."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = attrs.field(factory=dict, repr=False)


@attrs.frozen(slots=True, kw_only=True)
class EgressRequest:
    """A connection, or a request inside one, that wants to leave the sandbox."""

    sandbox: str
    host: str
    port: int
    protocol: Literal["tcp", "tls", "http"]
    caller: Caller | None = None
    http: HttpRequest | None = None


@attrs.frozen(slots=True, kw_only=True)
class EgressDecision:
    """allow, deny, or hold for an operator, and the rule that says so."""

    action: Literal["allow", "deny", "hold"]
    rule: str
    reason: str = ""
