"""What the proxy itself says in HTTP/2: JSON, or the status that gRPC clients show."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import quote

from .http2_outlet import Outlet, ignore

if TYPE_CHECKING:
    from .head import Fields
    from .http2_connection import Connection

_GRPC_STATUS = {400: 3, 403: 7, 408: 4, 421: 7, 431: 8, 502: 14, 503: 14, 504: 14}
"""Codes of gRPC (google.rpc.Code) for what HTTP calls otherwise."""


def send_json(
    client: Connection, stream: int, status: int, body: dict[str, str], *, head_only: bool = False
) -> None:
    """A whole response."""
    content = json.dumps(body).encode("ascii") + b"\n"
    fields: Fields = [
        (b":status", b"%d" % status),
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(content)),
        (b"cache-control", b"no-store"),
    ]
    if client.send_headers(stream, fields, end=head_only) and not head_only:
        outlet = Outlet(ignore)
        outlet.write(content, 0, end=True)
        outlet.attach(client, stream)


def send_grpc(client: Connection, stream: int, status: int, body: dict[str, str]) -> None:
    """Trailers alone: gRPC over HTTP/2 has its own status, and a client shows no other."""
    parts = [body.get("error", ""), body.get("rule", ""), body.get("reason", "")]
    message = ": ".join(part for part in parts if part)
    if body.get("remedy"):
        message += f" (what would allow it: {body['remedy']})"
    fields: Fields = [
        (b":status", b"200"),
        (b"content-type", b"application/grpc"),
        (b"grpc-status", b"%d" % _GRPC_STATUS.get(status, 2)),
        (b"grpc-message", quote(message, safe=" !\"#$&'()*+,/:;<=>?@[]{}|").encode("ascii")),
    ]
    client.send_headers(stream, fields, end=True)
