"""Field blocks of HTTP/2 messages: read strictly, written anew (RFC 9113 section 8).

As for HTTP/1, what could be read in two ways is refused, and what is sent on is written from what
was understood. Both sides speak HTTP/2: nothing is ever translated to or from HTTP/1, where a
field could become a line, or a length another one.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from hpack import HeaderTuple, NeverIndexedHeaderTuple

from .head import Fields, HeadError
from .target import MismatchError, Origin, read_authority

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_VALUE = re.compile(rb"[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?|")
_METHOD = re.compile(rb"[A-Z][A-Z-]*")
_TARGET = re.compile(rb"/[\x21\x22\x24-\x7e]*")
_STATUS = re.compile(rb"[1-5][0-9][0-9]")
_FORBIDDEN = frozenset(
    (b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade")
)
_HOP = frozenset(
    (
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"trailer",
        b"http2-settings",
    )
)
_SPECIAL = frozenset((*_FORBIDDEN, *_HOP, b"te", b"host", b"cookie", b"content-length"))
_NOT_IN_TRAILERS = frozenset((*_SPECIAL, b"authorization", b"content-encoding", b"content-type"))
_SECRET = frozenset((b"authorization", b"cookie"))


class Request(NamedTuple):
    """What the header block of a request says."""

    method: str
    target: bytes
    """Path and query."""
    fields: Fields
    """Without pseudo-header fields, Host and Content-Length; cookies are one field."""
    length: int
    """The Content-Length field; -1 without one."""
    grpc: bool


class Response(NamedTuple):
    """What the header block of a response says."""

    status: int
    fields: Fields
    """All of them, ``:status`` too."""
    length: int = -1
    """The Content-Length field; -1 without one."""


def read_request(headers: Fields, origin: Origin, max_fields: int) -> Request:
    """A request's header block, decoded.

    :param origin: whom the connection is for.
    :raises MismatchError: the request is for another server.
    :raises HeadError: it is malformed or could be read in two ways.
    """
    pseudo, rest = _split(headers, max_fields)
    method = pseudo.pop(b":method", b"")
    scheme = pseudo.pop(b":scheme", None)
    authority = pseudo.pop(b":authority", None)
    target = pseudo.pop(b":path", b"")
    if method == b"CONNECT":
        raise HeadError("CONNECT inside of a connection")
    if pseudo:
        raise HeadError("a pseudo-header field that is not a request's")
    if not _METHOD.fullmatch(method):
        raise HeadError("no method, or one that is none")
    if scheme != (b"https" if origin.tls else b"http"):
        raise HeadError("the scheme is not the connection's")
    if not _TARGET.fullmatch(target) and not (target == b"*" and method == b"OPTIONS"):
        raise HeadError("no path, or one that is none")
    fields: Fields = []
    cookies: Fields = []
    host = None
    length = -1
    grpc = False
    for field in rest:
        name, value = field
        if name not in _SPECIAL:
            if name == b"content-type" and value.startswith(b"application/grpc"):
                grpc = True
            fields.append(field)
        elif name == b"te":
            if value != b"trailers":
                raise HeadError("TE is not trailers alone")
            fields.append(field)
        elif name == b"cookie":
            cookies.append(field)
        elif name == b"host":
            if host is not None:
                raise HeadError("more than one Host field")
            host = value
        elif name == b"content-length":
            if length >= 0:
                raise HeadError("more than one Content-Length")
            length = _length(value)
        elif name in _FORBIDDEN:
            raise HeadError("a field that HTTP/2 does not have")
    if cookies:  # cut up for the sake of compression (RFC 9113 section 8.2.3)
        whole = b"; ".join(value for _, value in cookies)
        fields.append(cookies[0] if len(cookies) == 1 else HeaderTuple(b"cookie", whole))
    if authority is None:
        authority = host
    if authority is None:
        raise HeadError("no :authority")
    for named in (authority, host):
        if named is not None and named != origin.authority.encode("ascii"):
            _check_authority(named, origin)
    return Request(method.decode("ascii"), target, fields, length, grpc)


def read_response(headers: Fields, max_fields: int) -> Response:
    """The header block of a response or of an interim one, decoded.

    :raises HeadError: it is malformed.
    """
    pseudo, rest = _split(headers, max_fields)
    status = pseudo.pop(b":status", b"")
    if pseudo or not _STATUS.fullmatch(status):
        raise HeadError("no status, or one that is none", 502)
    fields: Fields = [(b":status", status)]
    length = -1
    for field in rest:
        name = field[0]
        if name in _SPECIAL:
            if name in _FORBIDDEN:
                raise HeadError("a field that HTTP/2 does not have", 502)
            if name in _HOP:
                continue
            if name == b"content-length":
                if length >= 0:
                    raise HeadError("more than one Content-Length", 502)
                length = _length(field[1])
        fields.append(field)
    return Response(int(status), fields, length)


def read_trailers(headers: Fields, max_fields: int) -> Fields:
    """The fields behind a response's body; those that would change its meaning are left out.

    :raises HeadError: they are malformed.
    """
    pseudo, rest = _split(headers, max_fields)
    if pseudo:
        raise HeadError("a pseudo-header field behind the body", 502)
    return [field for field in rest if field[0] not in _NOT_IN_TRAILERS]


def write_request(
    method: str, origin: Origin, target: bytes, fields: Fields, length: int, secret: bool
) -> Fields:
    """The header block that the server gets.

    :param length: of the body; -1: not said.
    :param secret: something in the target or the fields must not be kept by who compresses them.
    """
    written: Fields = [
        (b":method", method.encode("ascii")),
        (b":scheme", b"https" if origin.tls else b"http"),
        (b":authority", origin.authority.encode("ascii")),
        (NeverIndexedHeaderTuple if secret else HeaderTuple)(b":path", target),
    ]
    for field in fields:
        if secret or field[0] in _SECRET or field[0] != field[0].lower():
            written.append(NeverIndexedHeaderTuple(field[0].lower(), field[1]))
        else:
            written.append(field)
    if length >= 0:
        written.append((b"content-length", b"%d" % length))
    return written


def _split(headers: Fields, max_fields: int) -> tuple[dict[bytes, bytes], Fields]:
    """Pseudo-header fields, which come first and once each, and the others, all well formed."""
    if len(headers) > max_fields:
        raise HeadError("too many header fields", 431)
    pseudo: dict[bytes, bytes] = {}
    for index, (name, value) in enumerate(headers):
        if name[:1] != b":":
            rest = headers[index:]
            break
        if name in pseudo or not _VALUE.fullmatch(value):
            raise HeadError("a pseudo-header field that comes twice, or is malformed")
        pseudo[name] = value
    else:
        rest = []
    for name, value in rest:
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise HeadError("a malformed header field")
    return pseudo, rest


def _length(value: bytes) -> int:
    if not value.isdigit() or len(value) > 18:
        raise HeadError("Content-Length is not a number")
    return int(value)


def _check_authority(value: bytes, origin: Origin) -> None:
    try:
        text = value.decode("ascii")
    except UnicodeDecodeError:
        raise HeadError("not a host and a port") from None
    if read_authority(text, 443 if origin.tls else 80) != (origin.host, origin.port):
        raise MismatchError("the request names another server than its connection", 421)
