"""What HTTP/2 lets a client say and the gate does not take: ambiguous requests, and floods."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Callable
from typing import Any

import h2.events as events
import pytest
from hpack import Encoder
from nemoclaw_plugin_netns.proxy import http2_connection
from nemoclaw_plugin_netns.proxy.channel import Channel
from nemoclaw_plugin_netns.proxy.head import Fields, HeadError
from nemoclaw_plugin_netns.proxy.http2_fields import read_request, read_response
from nemoclaw_plugin_netns.proxy.http2_guard import FrameGuard, Violation
from nemoclaw_plugin_netns.proxy.limits import Limits
from nemoclaw_plugin_netns.proxy.table import Table
from nemoclaw_plugin_netns.proxy.target import MismatchError, Origin

from .http2_peers import Asked, World

ORIGIN = Origin("a.example", 443, True)
HEAD: dict[bytes, bytes] = {
    b":method": b"GET",
    b":scheme": b"https",
    b":authority": b"a.example",
    b":path": b"/x",
}


def head(*more: tuple[bytes, bytes], **pseudo: bytes | None) -> Fields:
    """A request's header block, with some pseudo-header fields changed or left out."""
    named = {**HEAD, **{b":" + name.encode(): value for name, value in pseudo.items()}}
    return [(name, value) for name, value in named.items() if value is not None] + list(more)


MALFORMED: dict[str, Fields] = {
    "no method": head(method=None),
    "no path": head(path=None),
    "empty path": head(path=b""),
    "a path that is a URL": head(path=b"http://other.example/"),
    "a path with a space": head(path=b"/x HTTP/1.1"),
    "a path with a line": head(path=b"/x\r\nHost: other.example"),
    "a fragment": head(path=b"/x#y"),
    "asterisk for GET": head(path=b"*"),
    "no scheme": head(scheme=None),
    "another scheme": head(scheme=b"http"),
    "no authority": head(authority=None),
    "user in the authority": head(authority=b"a.example@other.example"),
    "a method with a line": head(method=b"GET / HTTP/1.1\r\nx: "),
    "a lower-case method": head(method=b"get"),
    "CONNECT": [(b":method", b"CONNECT"), (b":authority", b"a.example")],
    "extended CONNECT": head(method=b"CONNECT", protocol=b"websocket"),
    "a status": head(status=b"200"),
    "a pseudo field twice": [(b":path", b"/y"), *head()],
    "a pseudo field late": [*head(path=None), (b"x", b"y"), (b":path", b"/x")],
    "an unknown pseudo field": head(x=b"y"),
    "an upper-case name": head((b"X-A", b"b")),
    "a name with a space": head((b"x a", b"b")),
    "a name with a colon": head((b"x:a", b"b")),
    "an empty name": head((b"", b"b")),
    "a value with CR LF": head((b"x", b"a\r\ntransfer-encoding: chunked")),
    "a value with LF": head((b"x", b"a\nb")),
    "a value with NUL": head((b"x", b"a\0b")),
    "a value with space around": head((b"x", b" a")),
    "transfer-encoding": head((b"transfer-encoding", b"chunked")),
    "connection": head((b"connection", b"close")),
    "keep-alive": head((b"keep-alive", b"1")),
    "proxy-connection": head((b"proxy-connection", b"close")),
    "upgrade": head((b"upgrade", b"websocket")),
    "te": head((b"te", b"gzip")),
    "two lengths": head((b"content-length", b"1"), (b"content-length", b"1")),
    "a signed length": head((b"content-length", b"+1")),
    "two hosts": head((b"host", b"a.example"), (b"host", b"a.example")),
    "too many fields": head(*((b"x", b"y") for _ in range(128))),
}


@pytest.mark.parametrize("fields", MALFORMED.values(), ids=MALFORMED)
def test_a_request_that_could_be_read_in_two_ways_is_refused(fields: Fields) -> None:
    with pytest.raises(HeadError) as caught:
        read_request(fields, ORIGIN, 128)
    assert not isinstance(caught.value, MismatchError)


@pytest.mark.parametrize(
    "fields",
    [
        head(authority=b"other.example"),
        head(authority=b"a.example:444"),
        head((b"host", b"other.example")),
        head((b"host", b"other.example"), authority=None),
    ],
)
def test_a_request_for_another_server_is_none_for_this_one(fields: Fields) -> None:
    with pytest.raises(MismatchError):
        read_request(fields, ORIGIN, 128)


def test_authorities_have_several_spellings() -> None:
    for spelling in (b"a.example", b"A.EXAMPLE", b"a.example:443", b"a.example."):
        request = read_request(head(authority=spelling), ORIGIN, 128)
        assert request.target == b"/x"
    assert read_request(head((b"host", b"a.example"), authority=None), ORIGIN, 128).fields == []


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [(b":status", b"99")],
        [(b":status", b"200"), (b":path", b"/")],
        [(b":status", b"200"), (b"connection", b"close")],
        [(b":status", b"200"), (b"transfer-encoding", b"chunked")],
        [(b":status", b"200"), (b"x", b"a\r\nb: c")],
    ],
)
def test_a_malformed_response_is_refused(fields: Fields) -> None:
    with pytest.raises(HeadError):
        read_response(fields, 128)


def test_a_refused_request_leaves_the_others_alone(world: World) -> None:
    client = world.client()
    for fields, status, rule in (
        (head(path=b"/x#y"), 400, "malformed"),
        (head((b"transfer-encoding", b"chunked")), 400, "malformed"),
        (head(authority=b"other.example"), 421, "host-mismatch"),
    ):
        answer = client.until(client.headers(fields))
        assert answer.status == status
        assert "reason" in json.loads(answer.body)
        assert world.egress.denials[-1][:2] == ("a.example", rule)
        assert client.get().status == 200
    assert len(world.server.asked) == 3


def test_a_malformed_response_goes_no_further(world: World) -> None:
    def answer(server: Any, conn: Any, asked: Asked, event: Any) -> None:
        if isinstance(event, events.StreamEnded):
            fields = [(b":status", b"200"), (b"x", b"a\r\nset-cookie: b")]
            conn.send_headers(asked.stream, fields, end_stream=True)

    world.server.act = answer
    client = world.client()
    answered = client.get()
    assert answered.status == 502
    assert json.loads(answered.body)["error"] == "upstream_malformed"
    assert client.goodbye is None


# -- floods: each ends the connection, with GOAWAY and an event


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack("!I", len(payload))[1:] + struct.pack("!BBI", kind, flags, stream) + payload


def _blocks(count: int) -> bytes:
    """Requests that are begun and given up at once (CVE-2023-44487)."""
    encoder = Encoder()
    return b"".join(
        frame(1, 5, n * 2 + 1, encoder.encode(head())) + frame(3, 0, n * 2 + 1, bytes(4))
        for n in range(count)
    )


def _bomb() -> bytes:
    """One entry of the table, named ten thousand times (CVE-2016-6581)."""
    encoder = Encoder()
    block = encoder.encode([*head(), (b"x", b"y" * 4000)])
    return frame(1, 5, 1, block + b"\xbe" * 10000)


FLOODS: dict[str, tuple[Callable[[], bytes], int]] = {
    "pings": (lambda: frame(6, 0, 0, bytes(8)) * 2000, 11),
    "settings": (lambda: frame(4, 0, 0, struct.pack("!HI", 4, 65535)) * 200, 11),
    "many settings in one": (lambda: frame(4, 0, 0, struct.pack("!HI", 99, 1) * 2000), 11),
    "priorities": (lambda: frame(2, 0, 1, bytes(4) + b"\1") * 2000, 11),
    "window updates": (lambda: frame(8, 0, 0, struct.pack("!I", 1)) * 2000, 11),
    "unknown frames": (lambda: frame(0xBB, 0, 0, b"x") * 2000, 11),
    "empty data": (lambda: frame(1, 4, 1, Encoder().encode(head())) + frame(0, 0, 1) * 2000, 11),
    "rapid reset": (lambda: _blocks(500), 11),
    "continuations": (lambda: frame(1, 1, 1, b"\x82") + frame(9, 0, 1, b"\x84") * 2000, 11),
    "a large block": (lambda: frame(1, 1, 1) + frame(9, 0, 1, bytes(16384)) * 5, 11),
    "compression bomb": (_bomb, 11),
    "a large frame": (lambda: frame(0, 0, 1, bytes(16385)), 6),
    "an interrupted block": (lambda: frame(1, 1, 1, b"\x82") + frame(6, 0, 0, bytes(8)), 1),
    "a stray continuation": (lambda: frame(9, 4, 1, b"\x82"), 1),
    "a push": (lambda: frame(5, 4, 1, bytes(4) + b"\x82"), 1),
    "a window that overflows": (lambda: frame(8, 0, 0, b"\x7f\xff\xff\xff") * 2, 3),
    "too many streams": (
        lambda: b"".join(frame(1, 4, n * 2 + 1, Encoder().encode(head())) for n in range(200)),
        1,
    ),
}


@pytest.mark.parametrize("start", ["uvloop"], indirect=True)
@pytest.mark.parametrize("name", FLOODS)
def test_floods_end_the_connection(world: World, name: str) -> None:
    make, code = FLOODS[name]
    data = make()
    client = world.client()
    try:
        client.sock.sendall(data)
    except OSError:
        pass  # it was cut while we were sending
    client.receive_all()
    assert client.goodbye in (code, None)
    assert world.gate.until(lambda: len(world.shared.table) == 0)
    assert ("a.example", "malformed") in {denial[:2] for denial in world.egress.denials}
    # Nobody else is bothered.
    assert world.client().get().status == 200


@pytest.mark.parametrize("start", ["uvloop"], indirect=True)
def test_what_real_traffic_needs_is_no_flood(world: World) -> None:
    """A client that pings and opens windows with every request, for as long as it likes."""
    client = world.client()
    for _ in range(250):
        for _ in range(4):
            client.h2.ping(bytes(8))
        client.h2.increment_flow_control_window(10)
        stream = client.request()
        client.until(stream)
    assert client.goodbye is None


def test_a_guard_reads_pieces_as_it_reads_the_whole() -> None:
    """Frames that are not for the state machine are taken out, however they are cut."""
    goodbye = frame(7, 0, 0, struct.pack("!II", 5, 2) + b"debug")
    kept = frame(1, 4, 1, b"\x82") + frame(0, 1, 1, b"body")
    data = (
        frame(2, 0, 1, bytes(5))
        + kept
        + goodbye
        + frame(0xBB, 0, 3, b"?")
        + frame(6, 0, 0, bytes(8))
    )
    for size in (1, 2, 5, 9, 10, 1000):
        guard = FrameGuard(server=False, header_bytes=1000)
        out = b"".join(
            piece
            for at in range(0, len(data), size)
            for piece in guard.feed(data[at : at + size], 0)
        )
        assert out == kept + frame(6, 0, 0, bytes(8))
        assert guard.goodbye == (5, 2)


def test_budgets_grow_back() -> None:
    guard = FrameGuard(server=False, header_bytes=1000)
    ping = frame(6, 0, 0, bytes(8))
    guard.feed(ping * 1000, 1)
    guard.feed(ping * 100, 2)
    with pytest.raises(Violation):
        guard.feed(ping, 2)


class Full(Channel):
    """Takes nothing any more."""

    was_reset = False

    @property
    def congested(self) -> bool:
        return True

    def write(self, data: bytes) -> None:
        raise AssertionError("nothing may be written")

    def finish(self) -> None:
        raise AssertionError("it would wait for what is not taken")

    end_writing = finish

    def reset(self) -> None:
        self.was_reset = True

    def _pause_reading(self) -> None: ...

    def _resume_reading(self) -> None: ...


def test_what_a_peer_does_not_take_is_not_kept_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http2_connection, "_UNSENT", 10_000)
    loop = asyncio.new_event_loop()
    channel = Full(loop)
    connection = http2_connection.Connection(
        channel, loop, Table(loop), Limits(),
        server=True, stream_window=65535, handlers={}, goodbye=lambda: None,
    )  # fmt: skip
    sent = 0
    while not connection.dead:
        connection.h2.ping(bytes(8))
        connection.flush()
        sent += 17
        assert sent < 20_000
    assert channel.was_reset
    assert sent > 9_000
    loop.close()
