"""Heads and bodies of HTTP/1: what may be read in two ways is refused."""

from __future__ import annotations

import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nemoclaw_plugin_netns.proxy.chunks import LAST, ChunkedReader, write_chunk
from nemoclaw_plugin_netns.proxy.head import (
    CHUNKED,
    UNTIL_CLOSE,
    HeadError,
    find_end,
    read_request,
    read_response,
    write_request,
    write_response,
)
from nemoclaw_plugin_netns.proxy.target import MismatchError, Origin, read_authority, read_target

MOST = 64


def _request(fields: bytes, line: bytes = b"POST / HTTP/1.1") -> bytes:
    return line + b"\r\nHost: a.example\r\n" + fields + b"\r\n"


AMBIGUOUS = {
    "CL.TE": b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n",
    "TE.CL": b"Transfer-Encoding: chunked\r\nContent-Length: 6\r\n",
    "TE.TE": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
    "TE twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    "TE list": b"Transfer-Encoding: gzip, chunked\r\n",
    "TE other": b"Transfer-Encoding: gzip\r\n",
    "TE unknown": b"Transfer-Encoding: xchunked\r\n",
    "TE vertical tab": b"Transfer-Encoding:\x0bchunked\r\n",
    "TE space before colon": b"Transfer-Encoding : chunked\r\n",
    "TE folded": b"Transfer-Encoding:\r\n chunked\r\n",
    "TE quoted": b'Transfer-Encoding: "chunked"\r\n',
    "CL twice": b"Content-Length: 6\r\nContent-Length: 6\r\n",
    "CL differ": b"Content-Length: 6\r\nContent-Length: 7\r\n",
    "CL list": b"Content-Length: 6, 6\r\n",
    "CL sign": b"Content-Length: +6\r\n",
    "CL negative": b"Content-Length: -6\r\n",
    "CL hex": b"Content-Length: 0x6\r\n",
    "CL underscore": b"Content-Length: 1_0\r\n",
    "CL empty": b"Content-Length:\r\n",
    "CL huge": b"Content-Length: 99999999999999999999999999\r\n",
    "CL inner space": b"Content-Length: 1 0\r\n",
    "CL unicode digit": b"Content-Length: \xb2\r\n",
    "obs-fold": b"X-A: b\r\n c\r\n",
    "obs-fold tab": b"X-A: b\r\n\tc\r\n",
    "first line folded": b" X-A: b\r\n",
    "bare LF": b"X-A: b\nX-B: c\r\n",
    "bare CR": b"X-A: b\rX-B: c\r\n",
    "NUL": b"X-A: b\0c\r\n",
    "control": b"X-A: b\x01c\r\n",
    "DEL": b"X-A: b\x7f\r\n",
    "space before colon": b"X-A : b\r\n",
    "tab before colon": b"X-A\t: b\r\n",
    "space in name": b"X A: b\r\n",
    "no colon": b"X-A\r\n",
    "empty name": b": b\r\n",
    "non-ascii name": b"X-\xc3\xa4: b\r\n",
    "Host twice": b"Host: a.example\r\n",
    "Host other": b"host: b.example\r\n",
    "Connection: host": b"Connection: close, host\r\n",
    "Connection: content-length": b"Connection: content-length\r\nContent-Length: 3\r\n",
    "Connection: transfer-encoding": b"Connection: transfer-encoding\r\n",
}


@pytest.mark.parametrize("fields", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_ambiguous_fields_are_refused(fields: bytes) -> None:
    assert read_request(_request(b""), MOST).length == 0
    with pytest.raises(HeadError):
        read_request(_request(fields), MOST)


RESPONSE_FIELDS = [name for name in AMBIGUOUS if not name.startswith("Connection:")]


@pytest.mark.parametrize("name", RESPONSE_FIELDS)
def test_ambiguous_responses_are_refused(name: str) -> None:
    head = b"HTTP/1.1 200 OK\r\nHost: a.example\r\n" + AMBIGUOUS[name] + b"\r\n"
    with pytest.raises(HeadError) as caught:
        read_response(head, "GET", MOST)
    assert caught.value.status == 502


LINES = (
    b"GET  / HTTP/1.1",
    b"GET /  HTTP/1.1",
    b"GET\t/ HTTP/1.1",
    b"GET / HTTP/1.1 ",
    b" GET / HTTP/1.1",
    b"GET / HTTP/1.2",
    b"GET / HTTP/2.0",
    b"GET / HTTP/0.9",
    b"GET / http/1.1",
    b"GET / RTSP/1.0",
    b"GET /",
    b"GET /a b HTTP/1.1",
    b"GET /\xc3\xa9 HTTP/1.1",
    b"GET /a#b HTTP/1.1",
    b"GET /\0 HTTP/1.1",
    b"get / HTTP/1.1",
    b"MADEUP / HTTP/1.1",
    b"PRI * HTTP/2.0",
    b"",
)


@pytest.mark.parametrize("line", LINES)
def test_odd_request_lines_are_refused(line: bytes) -> None:
    with pytest.raises(HeadError):
        read_request(_request(b"", line), MOST)


def test_host_is_needed_in_http_1_1_alone() -> None:
    with pytest.raises(HeadError):
        read_request(b"GET / HTTP/1.1\r\n\r\n", MOST)
    assert read_request(b"GET / HTTP/1.0\r\n\r\n", MOST).host == ""


def test_chunked_is_refused_in_http_1_0() -> None:
    with pytest.raises(HeadError):
        read_request(_request(b"Transfer-Encoding: chunked\r\n", b"POST / HTTP/1.0"), MOST)


def test_limits_of_size_and_count() -> None:
    with pytest.raises(HeadError) as caught:
        read_request(_request(b"X: y\r\n" * MOST), MOST)
    assert caught.value.status == 431
    with pytest.raises(HeadError) as caught:
        find_end(b"GET / HTTP/1.1\r\nX: " + b"y" * 1000, 1000)
    assert caught.value.status == 431
    assert find_end(b"GET / HTTP/1.1\r\n\r\nrest", 1000) == 18
    assert find_end(b"GET / HTTP/1.1\r\nX: y\r\n", 1000) == 0


def test_a_head_with_bare_line_feeds_is_refused_before_its_end() -> None:
    with pytest.raises(HeadError):
        find_end(b"GET / HTTP/1.1\nHost: a\n\n", 1000)


def test_hop_by_hop_fields_stay_here() -> None:
    head = read_request(
        _request(
            b"Connection: close, X-Mine\r\nX-Mine: 1\r\nX-Other: 2\r\nKeep-Alive: timeout=5\r\n"
            b"Proxy-Authorization: Basic eDp5\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\n"
            b"Trailer: X\r\nUpgrade: h2c\r\nHTTP2-Settings: AAM\r\nContent-Length: 3\r\n"
        ),
        MOST,
    )
    assert head.fields == [(b"X-Other", b"2")]
    assert not head.keep_alive
    assert not head.websocket
    assert write_request(head, b"/x", b"a.example") == (
        b"POST /x HTTP/1.1\r\nHost: a.example\r\nX-Other: 2\r\nContent-Length: 3\r\n\r\n"
    )


def test_blanks_around_values_go() -> None:
    head = read_request(_request(b"X-A: \t b c \t \r\nX-B:\r\nX-C:d\r\n"), MOST)
    assert head.fields == [(b"X-A", b"b c"), (b"X-B", b""), (b"X-C", b"d")]


@pytest.mark.parametrize(
    ("method", "status", "fields", "length"),
    [
        ("GET", 200, b"Content-Length: 7\r\n", 7),
        ("GET", 200, b"", UNTIL_CLOSE),
        ("GET", 200, b"Transfer-Encoding: chunked\r\n", CHUNKED),
        ("HEAD", 200, b"Content-Length: 7\r\n", 0),
        ("HEAD", 200, b"Transfer-Encoding: chunked\r\n", 0),
        ("GET", 204, b"", 0),
        ("GET", 304, b"Content-Length: 7\r\n", 0),
        ("GET", 100, b"", 0),
    ],
)
def test_where_a_response_ends(method: str, status: int, fields: bytes, length: int) -> None:
    head = b"HTTP/1.1 %d X\r\n" % status + fields + b"\r\n"
    assert read_response(head, method, MOST).length == length


def test_declared_length_is_kept_without_a_body() -> None:
    head = read_response(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", "HEAD", MOST)
    assert b"Content-Length: 7\r\n" in write_response(head, False, False)
    head = read_response(b"HTTP/1.1 204 No\r\nContent-Length: 7\r\n\r\n", "GET", MOST)
    assert b"Content-Length" not in write_response(head, False, False)


@pytest.mark.parametrize(
    "text",
    [
        "a.example@b.example",
        "a.example:80:80",
        "a.example:",
        "a.example:0",
        "a.example:65536",
        "a.example:٣",
        "a.example:+80",
        "a b",
        "",
        "[::1",
        "[::1]x",
        "[a.example]",
        "a.example/",
        "a\\b",
        "ä.example",
        "a%2eexample",
    ],
)
def test_what_is_no_authority(text: str) -> None:
    with pytest.raises(HeadError):
        read_authority(text, 80)


def test_authorities() -> None:
    assert read_authority("A.Example.", 80) == ("a.example", 80)
    assert read_authority("[2001:DB8::0:1]:8080", 80) == ("2001:db8::1", 8080)
    with pytest.raises(HeadError):
        read_authority("a.example", 0)


@pytest.mark.parametrize(
    ("target", "host"),
    [
        (b"/", b"b.example"),
        (b"/", b"a.example:81"),
        (b"http://b.example/", b"a.example"),
        (b"http://b.example/", b"b.example"),
        (b"http://a.example/", b"b.example"),
        (b"https://a.example/", b"a.example"),
        (b"http://a.example:8080/", b"a.example:8080"),
    ],
)
def test_a_request_for_another_server_is_refused(target: bytes, host: bytes) -> None:
    head = read_request(b"GET " + target + b" HTTP/1.1\r\nHost: " + host + b"\r\n\r\n", MOST)
    with pytest.raises(MismatchError):
        read_target(head, Origin("a.example", 80))


def test_absolute_form_is_for_the_proxy_and_for_the_same_server() -> None:
    head = read_request(b"GET http://A.example?q HTTP/1.1\r\nHost: a.EXAMPLE\r\n\r\n", MOST)
    for fixed in (None, Origin("a.example", 80)):
        found = read_target(head, fixed)
        assert found.origin == Origin("a.example", 80)
        assert found.path == b"/?q"
    with pytest.raises(HeadError):
        read_target(read_request(_request(b""), MOST), None)


# -- fuzzing

_lines = st.sampled_from(
    [b"GET / HTTP/1.1", b"POST /a?b=c HTTP/1.1", b"GET http://a.example/ HTTP/1.1", *LINES]
)
_names = st.sampled_from(
    [b"Host", b"Content-Length", b"Transfer-Encoding", b"Connection", b"Upgrade", b"X-A", b"Expect"]
)
_values = st.one_of(
    st.sampled_from(
        [b"chunked", b"5", b"0", b"close", b"Upgrade", b"websocket", b"a.example", b""]
    ),
    st.binary(max_size=12),
)
_separators = st.sampled_from([b": ", b":", b" :", b":\t", b": \t", b""])
_ends = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\r\n ", b"\r\r\n"])
_heads = st.builds(
    lambda line, fields: line + b"\r\n" + b"".join(b"".join(f) for f in fields) + b"\r\n",
    _lines,
    st.lists(st.tuples(_names, _separators, _values, _ends), max_size=6),
)


class _Seen:
    """llhttp's view of what we send on."""

    def __init__(self) -> None:
        self.fields: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.messages = 0
        self.ended = 0

    def on_message_begin(self) -> None:
        self.messages += 1

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.ended += 1


@settings(max_examples=1500, deadline=None)
@given(_heads | st.binary(max_size=200))
def test_what_is_sent_on_is_one_message_to_llhttp_too(raw: bytes) -> None:
    try:
        end = find_end(raw, 4096)
        if not end:
            return
        head = read_request(raw[:end], MOST)
    except HeadError:
        return
    if head.method == "CONNECT":
        return
    sent = write_request(head, b"/x", b"a.example")
    body = b"GET /smuggled HTTP/1.1\r\nHost: b.example\r\n\r\n"
    if head.length == CHUNKED:
        sent += write_chunk(body) + LAST
    elif head.length > 4096:
        return
    else:
        body = (body * 100)[: head.length]
        sent += body
    seen = _Seen()
    try:
        httptools.HttpRequestParser(seen).feed_data(sent)
    except httptools.HttpParserUpgrade:
        assert head.websocket
        return
    assert (seen.messages, seen.ended) == (1, 1)
    assert seen.body == (body if head.length else b"")
    assert [n.lower() for n, _ in seen.fields].count(b"host") == 1
    assert all(pair in seen.fields for pair in head.fields)


@settings(max_examples=500, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=50), max_size=8), st.integers(1, 7), st.binary())
def test_chunks_are_read_back_in_any_pieces(bodies: list[bytes], step: int, rest: bytes) -> None:
    raw = b"".join(map(write_chunk, bodies)) + LAST + rest
    reader = ChunkedReader()
    found = b""
    at = 0
    while not reader.done:
        found += b"".join(reader.feed(raw[at : at + step]))
        at += step
    assert found == b"".join(bodies)
    assert reader.rest + raw[at:] == rest


@settings(max_examples=1000, deadline=None)
@given(st.binary(max_size=80) | st.from_regex(rb"([0-9a-f]{1,2}\r?\n?[a-z]{0,9}\r?\n?){1,4}"))
def test_what_we_take_for_chunks_llhttp_takes_for_the_same(raw: bytes) -> None:
    reader = ChunkedReader()
    try:
        found = b"".join(reader.feed(raw))
    except HeadError:
        return
    if not reader.done:
        return
    seen = _Seen()
    parser = httptools.HttpRequestParser(seen)
    parser.feed_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    parser.feed_data(raw[: len(raw) - len(reader.rest)])
    assert seen.ended == 1
    assert seen.body == found


@pytest.mark.parametrize(
    "raw",
    [
        b"5\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhelloX\r\n0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b" 5\r\nhello\r\n0\r\n\r\n",
        b"5 \r\nhello\r\n0\r\n\r\n",
        b"+5\r\nhello\r\n0\r\n\r\n",
        b"-1\r\n\r\n0\r\n\r\n",
        b"ffffffffffffffffff\r\n",
        b"\r\nhello",
        b"5;\x00\r\nhello\r\n0\r\n\r\n",
        b"5;a\rb\r\nhello\r\n0\r\n\r\n",
        b"5" + b";a" * 4000,
        b"0\r\n" + b"X: y\r\n" * 2000,
    ],
)
def test_malformed_chunks_are_refused(raw: bytes) -> None:
    with pytest.raises(HeadError):
        ChunkedReader().feed(raw)


def test_trailers_and_extensions_are_dropped() -> None:
    reader = ChunkedReader()
    assert reader.feed(b"5;a=b\r\nhello\r\n0;c\r\nX-Smuggled: 1\r\n\r\nrest") == [b"hello"]
    assert reader.done
    assert reader.rest == b"rest"
