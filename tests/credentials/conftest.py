"""One arrangement for this room: credentials and requests from a few words."""

from __future__ import annotations

from typing import Any

from nemoclaw_hookspecs import (
    CredentialPolicy,
    EgressRequest,
    EgressVerdict,
    HttpRequest,
    Origin,
    OutgoingRequest,
    SecretSource,
)

KEY = "sk-test-4QmZ7rT1xWv9Kd3Lb8Np5Ys2Ga6Hc0Jf"
ORIGIN = Origin(file="p.toml", line=7, key="credential.api")


def credential(name: str = "api", *, variable: str = "API_KEY", **more: Any) -> CredentialPolicy:
    """One ``[credential.NAME]`` from a variable."""
    source = SecretSource(kind="environment", name=variable)
    return CredentialPolicy(**{"name": name, "source": source, "origin": ORIGIN, **more})


def outgoing(
    target: str = "/x",
    body: bytes | None = None,
    *,
    method: str = "GET",
    host: str = "api.test",
    secure: bool = True,
    **headers: str,
) -> OutgoingRequest:
    """An allowed request. ``_`` in a header's name is ``-``."""
    fields = tuple(
        (name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()
    )
    return OutgoingRequest(
        method=method,
        host=host,
        port=443,
        target=target.encode(),
        fields=fields,
        body=body,
        secure=secure,
    )


def headers_of(request: OutgoingRequest) -> dict[str, str]:
    """Its header fields by lower-case name; each must be there once."""
    names = [name.lower() for name, _ in request.fields]
    assert len(names) == len(set(names)), names
    return {name.decode().lower(): value.decode() for name, value in request.fields}


def asked(
    path: str = "/x",
    query: str = "",
    body: bytes | None = None,
    *,
    method: str = "GET",
    message: bytes | None = None,
    **headers: str,
) -> EgressRequest:
    """A request that is judged."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    http = HttpRequest(
        method=method, path=path, query=query, headers=named, body=body, message=message
    )
    return EgressRequest(sandbox="box", host="api.test", port=443, protocol="http", http=http)


def allowed(credential: str = "api") -> EgressVerdict:
    """A verdict for api.test."""
    return EgressVerdict(
        action="allow", rule="r", host="api.test", port=443, credential=credential, path="/x"
    )
