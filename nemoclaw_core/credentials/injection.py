"""Put a secret into a request that is about to be sent: in a header, in the query, in the body."""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

import attrs

if TYPE_CHECKING:
    from nemoclaw_hookspecs import CredentialPolicy, OutgoingRequest

    Fields = tuple[tuple[bytes, bytes], ...]

_VISIBLE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_FOR_SECRETS = re.compile(
    r"(?:.*-)?(?:auth|authorization|authentication|key|apikey|accesskey|token|apitoken|authtoken"
    r"|accesstoken|secret|password|credentials?)(?:-.*)?"
)
"""Names of headers that are made for credentials: one of these is a whole word of theirs."""
_META = re.compile(r"(?:.*-)?meta(?:data)?-.*")
"""Names of what object stores keep beside an object, and give back to who asks for it."""
_NEVER = frozenset({"proxy-authorization", "idempotency-key", "sec-websocket-key"})
_BASIC = re.compile(r"basic +([A-Za-z0-9+/]+={0,2})", re.IGNORECASE)


class NotFit(Exception):
    """A secret, or a request, that nothing can be put into. The text is for the agent too."""


def takes(credential: CredentialPolicy, kind: str, name: str) -> bool:
    """Whether a placeholder of a credential may stand at a place (see :meth:`.Marks.places`)."""
    if credential.type == "aws":
        if kind == "header":
            return name in ("authorization", "x-amz-security-token")
        return kind == "query" and name.lower() in ("x-amz-credential", "x-amz-security-token")
    if kind == "header":
        if credential.header:
            return name == credential.header.lower()
        if credential.query or credential.body:
            return False
        name = name.replace("_", "-")
        if name in _NEVER or _META.fullmatch(name):
            return False
        return bool(_FOR_SECRETS.fullmatch(name))
    if kind == "query":
        return bool(credential.query) and name == credential.query
    return kind == "body" and credential.body


def inject(
    credential: CredentialPolicy, placeholder: str, secret: str, request: OutgoingRequest
) -> OutgoingRequest:
    """The request with the secret where the policy wants it.

    :raises NotFit: the secret cannot stand there.
    """
    if credential.header:
        value = _in_header(secret)
        if credential.type == "basic":
            value = _basic(credential.username, secret)
        elif credential.scheme:
            value = f"{credential.scheme} {value}"
        request = attrs.evolve(request, fields=_set(request.fields, credential.header, value))
    elif not credential.query and not credential.body:
        request = attrs.evolve(request, fields=_replaced(credential, placeholder, secret, request))
    if credential.query:
        request = attrs.evolve(request, target=_queried(request.target, credential.query, secret))
    if credential.body and request.body:
        kind = next((v for n, v in request.fields if n.lower() == b"content-type"), b"")
        body = request.body.replace(placeholder.encode(), _in_body(secret, kind))
        request = attrs.evolve(request, body=body)
    return request


def _in_header(secret: str) -> str:
    if not _VISIBLE.fullmatch(secret):
        raise NotFit("the credential is not one line of visible ASCII, as a header needs it")
    return secret


def _basic(username: str, secret: str) -> str:
    pair = f"{username}:{secret}" if username else secret
    if ":" not in pair:
        raise NotFit("the credential is not USER:PASSWORD, and no username is written")
    return "Basic " + base64.b64encode(pair.encode()).decode("ascii")


def _set(fields: Fields, name: str, value: str) -> Fields:
    key = name.lower().encode("ascii")
    # To many servers (CGI, WSGI) X_Key and X-Key are one: the agent's own must not stand beside it.
    same = key.replace(b"_", b"-")
    kept = tuple(field for field in fields if field[0].lower().replace(b"_", b"-") != same)
    return (*kept, (key, value.encode("ascii")))


def _replaced(
    credential: CredentialPolicy, placeholder: str, secret: str, request: OutgoingRequest
) -> Fields:
    found = []
    for name, value in request.fields:
        text = value.decode("latin-1")
        if takes(credential, "header", name.decode("ascii").lower()):
            basic = _BASIC.fullmatch(text)
            if basic is not None:
                text = _rewrapped(text, basic[1], placeholder, secret)
            elif placeholder in text:
                text = text.replace(placeholder, _in_header(secret))
        found.append((name, text.encode("latin-1")))
    return tuple(found)


def _rewrapped(text: str, token: str, placeholder: str, secret: str) -> str:
    try:
        pair = base64.b64decode(token + "=" * (-len(token) % 4))
    except binascii.Error:
        return text
    mark = placeholder.encode()
    if mark not in pair:
        return text
    return "Basic " + base64.b64encode(pair.replace(mark, secret.encode())).decode("ascii")


def _queried(target: bytes, name: str, secret: str) -> bytes:
    path, _, query = target.partition(b"?")
    pair = f"{quote(name, safe='')}={quote(secret, safe='')}".encode("ascii")
    found: list[bytes] = []
    for parameter in query.split(b"&") if query else ():
        if unquote(parameter.partition(b"=")[0].decode("latin-1")) != name:
            found.append(parameter)
        elif pair not in found:
            found.append(pair)
    if pair not in found:
        found.append(pair)
    return path + b"?" + b"&".join(found)


def _in_body(secret: str, content_type: bytes) -> bytes:
    kind = content_type.partition(b";")[0].strip().lower()
    if kind == b"application/x-www-form-urlencoded":
        return quote(secret, safe="").encode("ascii")
    if kind == b"application/json" or kind.endswith(b"+json"):
        return json.dumps(secret)[1:-1].encode("ascii")
    return secret.encode()
