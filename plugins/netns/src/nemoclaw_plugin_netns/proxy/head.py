"""Heads of HTTP/1 messages: read strictly, written anew (RFC 9112).

Two readers have to agree: a grammar that knows nothing but the strict form, and llhttp, which most
of the world's clients and servers are tested against. What either refuses is refused. What is sent
on is written from what was understood, so that the other side cannot see another message than the
one that was judged. (The grammar costs a third of what llhttp does with a callback a field.)
"""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

import httptools

Fields = list[tuple[bytes, bytes]]
"""Names as sent, and values."""

CHUNKED = -1
"""Length of a body that ends with its last chunk."""
UNTIL_CLOSE = -2
"""Length of a response body that ends with the connection."""

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_TEXT = rb"[\t\x20-\x7e\x80-\xff]*"
_BLOCK = rb"((?:" + _TOKEN + rb":" + _TEXT + rb"\r\n)*)\r\n"
_REQUEST = re.compile(rb"([A-Z][A-Z-]*) ([\x21\x22\x24-\x7e]+) HTTP/1\.([01])\r\n" + _BLOCK)
_RESPONSE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: (" + _TEXT + rb"))?\r\n" + _BLOCK)
_FIELD = re.compile(rb"([^:]+):[\t ]*([^\r]*)\r\n")  # of what _BLOCK has matched
_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
    )
)
_SPECIAL = _HOP | {b"host", b"content-length"}
_SILENT = object()  # llhttp has nothing to tell us but whether it agrees
_FRAMING = frozenset((b"host", b"content-length", b"transfer-encoding", b"expect"))
_USUAL = frozenset((b"close", b"keep-alive", b"upgrade", b""))
_NO_OPTIONS: frozenset[bytes] = frozenset()
_NO_BODY = frozenset((204, 304))


class HeadError(ValueError):
    """A head that is malformed, ambiguous or too large.

    :param reason: for people, and for the event. Holds nothing of the message.
    :param status: of the response to the client.
    """

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status


class RequestHead(NamedTuple):
    """What a request's head says."""

    method: str
    target: bytes
    http11: bool
    host: str
    """The one Host field, lower case; empty for an HTTP/1.0 request without one."""
    fields: Fields
    """Without hop-by-hop fields, Host and Content-Length."""
    length: int
    """Of the body in octets, or :data:`CHUNKED`."""
    keep_alive: bool
    websocket: bool
    """Asks to become a WebSocket (RFC 6455)."""


class ResponseHead(NamedTuple):
    """What a response's head says."""

    status: int
    reason: bytes
    http11: bool
    fields: Fields
    """Without hop-by-hop fields and Content-Length."""
    length: int
    """Of the body in octets, or :data:`CHUNKED`, or :data:`UNTIL_CLOSE`."""
    declared: int
    """The Content-Length field, for a response without a body too; -1 without one."""
    keep_alive: bool
    websocket: bool


_Framing = tuple["int | None", bool, "bytes | None", "frozenset[bytes]", bytes, Fields]
"""Content-Length, chunked, Host, options of the Connection fields, Upgrade, all other fields."""


def find_end(data: bytes | bytearray, limit: int) -> int:
    """Where a head at the beginning of ``data`` ends; 0 when it has not ended yet.

    :raises HeadError: it is larger than ``limit``, or has a line that ends with a bare LF.
    """
    end = data.find(b"\r\n\r\n", 0, limit)
    if end >= 0:
        return end + 4
    if len(data) >= limit:
        raise HeadError("the header fields are too large", 431)
    if data.count(b"\n") != data.count(b"\r\n"):
        raise HeadError("a line ends with LF alone")
    return 0


def read_request(head: bytes, max_fields: int) -> RequestHead:
    """The head of a request, with its final empty line.

    :raises HeadError: it is malformed or could be read in two ways.
    """
    match = _REQUEST.fullmatch(head)
    try:
        httptools.HttpRequestParser(_SILENT).feed_data(head)
    except httptools.HttpParserUpgrade:  # CONNECT, or an Upgrade field: the head was complete
        pass
    except httptools.HttpParserError as error:
        raise HeadError(f"malformed request: {_explain(error)}") from None
    if match is None:
        raise HeadError(_fault(head))
    method, target, minor, block = match.groups()
    http11 = minor == b"1"
    declared, chunked, host, options, upgrade, fields = _framing(block, max_fields, http11)
    if host is None and http11:
        raise HeadError("no Host field")
    return RequestHead(
        method.decode("ascii"),
        target,
        http11,
        "" if host is None else host.decode("latin-1").lower(),
        fields,
        CHUNKED if chunked else declared or 0,
        b"close" not in options if http11 else b"keep-alive" in options,
        upgrade == b"websocket" and b"upgrade" in options,
    )


def read_response(head: bytes, method: str, max_fields: int) -> ResponseHead:
    """The head of the response to a request of ``method``, with its final empty line.

    :raises HeadError: it is malformed or could be read in two ways.
    """
    match = _RESPONSE.fullmatch(head)
    try:
        httptools.HttpResponseParser(_SILENT).feed_data(head)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        raise HeadError(f"malformed response: {_explain(error)}", 502) from None
    if match is None:
        raise HeadError(_fault(head), 502)
    minor, code, reason, block = match.groups()
    http11 = minor == b"1"
    status = int(code)
    try:
        declared, chunked, _, options, upgrade, fields = _framing(block, max_fields, http11)
    except HeadError as error:
        raise HeadError(error.reason, 502) from None
    if status < 200 or status in _NO_BODY or method == "HEAD":
        length = 0
    elif chunked:
        length = CHUNKED
    else:
        length = UNTIL_CLOSE if declared is None else declared
    return ResponseHead(
        status,
        reason or b"",
        http11,
        fields,
        length,
        -1 if declared is None else declared,
        b"close" not in options if http11 else b"keep-alive" in options,
        upgrade == b"websocket" and b"upgrade" in options,
    )


def write_request(head: RequestHead, target: bytes, authority: bytes) -> bytes:
    """The head that the server gets: for the origin, HTTP/1.1, one framing."""
    parts = [head.method.encode("ascii"), b" ", target, b" HTTP/1.1\r\nHost: ", authority, b"\r\n"]
    for name, value in head.fields:
        parts += (name, b": ", value, b"\r\n")
    if head.websocket:
        parts.append(b"Connection: Upgrade\r\nUpgrade: websocket\r\n")
    if head.length == CHUNKED:
        parts.append(b"Transfer-Encoding: chunked\r\n")
    elif head.length or head.method in ("POST", "PUT", "PATCH"):
        parts.append(b"Content-Length: %d\r\n" % head.length)
    parts.append(b"\r\n")
    return b"".join(parts)


def write_response(head: ResponseHead, chunked: bool, close: bool) -> bytes:
    """The head that the client gets.

    :param chunked: the body is sent in chunks, whatever the server did.
    """
    parts = [b"HTTP/1.1 %d " % head.status, head.reason, b"\r\n"]
    for name, value in head.fields:
        parts += (name, b": ", value, b"\r\n")
    if chunked:
        parts.append(b"Transfer-Encoding: chunked\r\n")
    elif head.declared >= 0 and head.status >= 200 and head.status != 204:
        parts.append(b"Content-Length: %d\r\n" % head.declared)
    if head.status == 101:
        parts.append(b"Connection: Upgrade\r\nUpgrade: websocket\r\n")
    elif close:
        parts.append(b"Connection: close\r\n")
    parts.append(b"\r\n")
    return b"".join(parts)


def _framing(block: bytes, max_fields: int, http11: bool) -> _Framing:
    """Take the fields apart that say where a message ends and whom it is for."""
    length: int | None = None
    chunked = False
    host: bytes | None = None
    options = _NO_OPTIONS
    upgrade = b""
    kept: Fields = []
    found: Fields = _FIELD.findall(block)
    if len(found) > max_fields:
        raise HeadError("too many header fields", 431)
    if b" \r" in block or b"\t\r" in block:
        found = [(name, value.rstrip(b" \t")) for name, value in found]
    for field in found:
        name, value = field
        name = name.lower()
        if name not in _SPECIAL:
            kept.append(field)
            continue
        if name == b"host":
            if host is not None:
                raise HeadError("more than one Host field")
            host = value
        elif name == b"content-length":
            if length is not None:
                raise HeadError("more than one Content-Length")
            if not value.isdigit() or len(value) > 18:
                raise HeadError("Content-Length is not a number")
            length = int(value)
        elif name == b"transfer-encoding":
            if chunked or value.lower() != b"chunked" or not http11:
                raise HeadError("Transfer-Encoding is not chunked alone")
            chunked = True
        elif name == b"connection":
            options |= _options(value)
        elif name == b"upgrade":
            upgrade = value.lower() if not upgrade else b"several"
    if chunked and length is not None:
        raise HeadError("Content-Length and Transfer-Encoding together")
    if options - _USUAL:
        if options & _FRAMING:
            raise HeadError("Connection names a field that is not for one hop")
        kept = [field for field in kept if field[0].lower() not in options]
    return length, chunked, host, options, upgrade, kept


@functools.lru_cache(maxsize=64)
def _options(value: bytes) -> frozenset[bytes]:
    """Of a Connection field; most clients send one of three."""
    return frozenset(option.strip(b" \t") for option in value.lower().split(b","))


def _fault(head: bytes) -> str:
    """Why a head that llhttp would take is refused all the same."""
    if head.count(b"\n") != head.count(b"\r\n") or head.count(b"\r") != head.count(b"\r\n"):
        return "a bare CR or LF in the head"
    if b"\n " in head or b"\n\t" in head:
        return "a folded header field"
    return "not the start line and fields of an HTTP/1 message"


def _explain(error: Exception) -> str:
    """llhttp's own words. They quote nothing of the message."""
    return str(error).strip() or type(error).__name__
