"""What the proxy itself says in HTTP. Written for the agent: no internals of the host."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nemoclaw_hookspecs import EgressVerdict

_REASONS = {
    200: b"Connection established",
    400: b"Bad Request",
    403: b"Forbidden",
    408: b"Request Timeout",
    431: b"Request Header Fields Too Large",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
}
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


def reply(status: int, body: dict[str, str], *, close: bool, head_only: bool = False) -> bytes:
    """A whole response with a JSON body.

    :param head_only: the request was HEAD.
    """
    content = json.dumps(body).encode("ascii") + b"\n"
    head = (
        b"HTTP/1.1 %d %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
        b"Cache-Control: no-store\r\n%b\r\n"
    ) % (status, _REASONS[status], len(content), b"Connection: close\r\n" if close else b"")
    return head if head_only else head + content


def denial(verdict: EgressVerdict) -> dict[str, str]:
    """Why the policy refuses, and what would allow it. Where it is written stays outside."""
    body = {"error": "policy_denied", "rule": verdict.rule, "reason": verdict.reason}
    if verdict.remedy:
        body["remedy"] = verdict.remedy
    if verdict.host:
        body["host"] = verdict.host
        body["port"] = str(verdict.port)
    return body


def refusal(rule: str, reason: str) -> dict[str, str]:
    """What the proxy refuses on its own account: it claims to be something that it is not."""
    return {"error": "policy_denied", "rule": rule, "reason": reason}


def malformed(reason: str) -> dict[str, str]:
    """The request cannot be read, or could be read in two ways."""
    return {"error": "malformed_request", "reason": reason}


def failure(error: str, host: str, reason: str) -> dict[str, str]:
    """The server could not be reached, or did not answer as HTTP asks."""
    return {"error": error, "host": host, "reason": reason}
