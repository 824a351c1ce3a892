"""Sign a request for AWS anew (Signature Version 4).

The agent's SDK has signed with placeholder keys. That signature is dropped, wherever it stands, and
one with the real keys is made over what is sent. Source: "Create a signed AWS API request", AWS
Identity and Access Management User Guide.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

import attrs

from .injection import NotFit

if TYPE_CHECKING:
    from datetime import datetime

    from nemoclaw_hookspecs import OutgoingRequest

_ALGORITHM = "AWS4-HMAC-SHA256"
_SCOPE = re.compile(r"[^/]*/[0-9]{8}/([a-z0-9-]+)/([A-Za-z0-9._-]+)/aws4_request")
_CREDENTIAL = re.compile(r"Credential=([^,\s]+)")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_UNSIGNED = ("UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER")
"""Values of X-Amz-Content-Sha256 that sign no octet of the body."""
_DROPPED = frozenset({"authorization", "x-amz-date", "x-amz-security-token", "date"})
_PRESIGNED = frozenset(
    {
        "x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-expires", "x-amz-signature",
        "x-amz-signedheaders", "x-amz-security-token", "x-amz-content-sha256",
    }
)  # fmt: skip
"""Parameters of a URL that carries its signature; lower case."""
_ONCE = frozenset({"s3", "s3express", "s3-outposts", "s3-object-lambda"})
"""Services whose canonical path is encoded once, and not twice."""


@attrs.frozen(slots=True, kw_only=True)
class Keys:
    """An AWS credential."""

    access_key_id: str = attrs.field(repr=False)
    secret_access_key: str = attrs.field(repr=False)
    session_token: str = attrs.field(default="", repr=False)


def needs_body(headers: dict[str, str], query: str) -> bool:
    """Whether a request can be signed only with its body at hand.

    :param headers: by lower-case name.
    """
    return "x-amz-content-sha256" not in headers and "X-Amz-Signature=" not in query


def sign(
    request: OutgoingRequest, keys: Keys, *, region: str, service: str, now: datetime
) -> OutgoingRequest:
    """The request with a new signature.

    :param region, service: to sign for; where one is empty, what the agent has signed for.
    :param now: in UTC.
    :raises NotFit: it cannot be signed. What the agent has to change is said.
    """
    region, service = _scope(request, region, service)
    path, _, query = request.target.decode("ascii").partition("?")
    declared = _declared(request, query)
    payload = declared or _digest(request.body)
    fields = [field for field in request.fields if _name(field) not in _DROPPED]
    kept = [
        each for each in query.split("&") if each and _parameter(each).lower() not in _PRESIGNED
    ]
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    fields.append((b"x-amz-date", stamp.encode("ascii")))
    if keys.session_token:
        fields.append((b"x-amz-security-token", keys.session_token.encode("ascii")))
    if service in _ONCE and all(_name(field) != "x-amz-content-sha256" for field in fields):
        fields.append((b"x-amz-content-sha256", payload.encode("ascii")))
    signed = _signed(fields, authority(request))
    names = ";".join(signed)
    text = "\n".join(
        (
            request.method,
            _path(path, service),
            _query(kept),
            "".join(f"{name}:{value}\n" for name, value in signed.items()),
            names,
            payload,
        )
    )
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    digest = hashlib.sha256(text.encode("latin-1")).hexdigest()
    key = f"AWS4{keys.secret_access_key}".encode()
    for step in scope.split("/"):
        key = hmac.digest(key, step.encode("ascii"), "sha256")
    signature = hmac.digest(key, f"{_ALGORITHM}\n{stamp}\n{scope}\n{digest}".encode(), "sha256")
    value = (
        f"{_ALGORITHM} Credential={keys.access_key_id}/{scope}, SignedHeaders={names}, "
        f"Signature={signature.hex()}"
    )
    fields.append((b"authorization", value.encode("ascii")))
    target = path + ("?" + "&".join(kept) if kept else "")
    return attrs.evolve(request, target=target.encode("ascii"), fields=tuple(fields))


def authority(request: OutgoingRequest) -> str:
    """The Host field, which the session writes (RFC 9110 section 7.2)."""
    host = f"[{request.host}]" if ":" in request.host else request.host
    return host if request.port == (443 if request.secure else 80) else f"{host}:{request.port}"


def _name(field: tuple[bytes, bytes]) -> str:
    return field[0].decode("ascii").lower()


def _parameter(pair: str) -> str:
    return unquote(pair.partition("=")[0])


def _scope(request: OutgoingRequest, region: str, service: str) -> tuple[str, str]:
    """Region and service."""
    found = ""
    for field in request.fields:
        if _name(field) == "authorization":
            value = field[1].decode("latin-1")
            if value.startswith("AWS4-") and not value.startswith(f"{_ALGORITHM} "):
                raise NotFit(
                    "the request is signed for several regions (SigV4a), which is not done here; "
                    "configure the SDK for one region"
                )
            credential = _CREDENTIAL.search(value)
            found = credential[1] if credential else found
    query = request.target.decode("ascii").partition("?")[2]
    for pair in query.split("&"):
        if _parameter(pair).lower() == "x-amz-credential":
            found = unquote(pair.partition("=")[2])
    scope = _SCOPE.fullmatch(found)
    region, service = region or (scope[1] if scope else ""), service or (scope[2] if scope else "")
    if not region or not service:
        raise NotFit(
            "it is not known which AWS region and service to sign for: the request has no "
            "signature that says so, and neither has the credential"
        )
    return region, service


def _declared(request: OutgoingRequest, query: str) -> str:
    """What the client says of the payload; empty: nothing."""
    values = {
        value.decode("latin-1").strip()
        for name, value in request.fields
        if name.lower() == b"x-amz-content-sha256"
    }
    if len(values) > 1:
        raise NotFit("the request has several X-Amz-Content-Sha256")
    found = next(iter(values), "")
    if found.startswith("STREAMING-AWS4-"):
        raise NotFit(
            "each chunk of the body is signed with the placeholder keys, and a stream is not "
            "signed anew; configure the SDK to send the payload unsigned or in one piece"
        )
    if found and found not in _UNSIGNED and not _DIGEST.fullmatch(found):
        raise NotFit("X-Amz-Content-Sha256 is neither a digest nor a known word")
    if not found and "X-Amz-Signature=" in query:
        return "UNSIGNED-PAYLOAD"
    return found


def _digest(body: bytes | None) -> str:
    if body is None:
        raise NotFit("the body is too large to be signed; send its digest, or a smaller one")
    return hashlib.sha256(body).hexdigest()


def _signed(fields: list[tuple[bytes, bytes]], host: str) -> dict[str, str]:
    """The canonical headers, sorted: those that nothing on the way changes."""
    found = {"host": host}
    for field in fields:
        name = _name(field)
        if name.startswith("x-amz-") or name in ("content-type", "content-md5"):
            value = " ".join(field[1].decode("latin-1").split())
            found[name] = f"{found[name]},{value}" if name in found else value
    return dict(sorted(found.items()))


def _path(path: str, service: str) -> str:
    if service in _ONCE:
        return quote(unquote(path, encoding="latin-1"), safe="/-_.~", encoding="latin-1") or "/"
    # Those services take a path without empty segments, whatever was sent.
    return quote(re.sub("/+", "/", path), safe="/-_.~") or "/"


def _query(pairs: list[str]) -> str:
    encoded = []
    for pair in pairs:
        name, _, value = pair.partition("=")
        encoded.append((_reencoded(name), _reencoded(value)))
    return "&".join(f"{name}={value}" for name, value in sorted(encoded))


def _reencoded(text: str) -> str:
    return quote(unquote(text, encoding="latin-1"), safe="-_.~", encoding="latin-1")
