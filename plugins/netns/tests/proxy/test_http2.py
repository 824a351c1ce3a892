"""Inspected HTTP/2: requests and responses, with a server that records what it gets."""

from __future__ import annotations

import json
import time
from typing import Any

import attrs
import h2.events as events
import pytest
from nemoclaw_hookspecs.egress import EgressRequest, EgressVerdict, OutgoingRequest

from .http2_peers import Asked, Client, World

GRPC = (b"content-type", b"application/grpc+proto")


def test_requests_are_written_anew(world: World) -> None:
    client = world.client()
    answer = client.get(
        b"/x?y=%20", (b"x-a", b"b"), (b"te", b"trailers"), (b"proxy-authorization", b"Basic eDp5"),
        (b"cookie", b"a=1"), (b"cookie", b"b=2"), (b"host", b"A.example:443"),
    )  # fmt: skip
    assert (answer.status, answer.body) == (200, b"page /x?y=%20")
    assert answer.fields[b"server"] == b"test"
    assert world.server.asked[0].head == [
        (b":method", b"GET"),
        (b":scheme", b"https"),
        (b":authority", b"a.example"),
        (b":path", b"/x?y=%20"),
        (b"x-a", b"b"),
        (b"te", b"trailers"),
        (b"cookie", b"a=1; b=2"),
    ]
    request = world.egress.authorized[-1].http
    assert request is not None
    assert (request.method, request.path, request.query) == ("GET", "/x", "y=%20")
    assert dict(request.headers) == {"x-a": "b", "te": "trailers", "cookie": "a=1; b=2"}


def test_each_request_is_judged_and_they_share_a_connection(world: World) -> None:
    world.forbid("/secret")
    client = world.client()
    paths = [b"/secret" if n % 5 == 4 else b"/%d" % n for n in range(100)]
    streams = {client.request(path): path for path in paths}
    for stream, path in streams.items():
        answer = client.until(stream)
        if path == b"/secret":
            denial = json.loads(answer.body)
            assert answer.status == 403
            assert (denial["error"], denial["remedy"]) == ("policy_denied", "add a rule")
            assert b"policies.toml" not in answer.body
        else:
            assert (answer.status, answer.body) == (200, b"page " + path)
    assert sorted(asked.fields[b":path"] for asked in world.server.asked) == sorted(
        path for path in paths if path != b"/secret"
    )
    assert world.server.connections == 1


def test_grpc_is_denied_in_its_own_way(world: World) -> None:
    world.forbid("/s.S/Secret")
    client = world.client()
    answer = client.until(client.request(b"/s.S/Secret", b"POST", GRPC, body=b"\0\0\0\0\0"))
    assert (answer.status, answer.body, answer.ended) == (200, b"", True)
    assert answer.fields[b"grpc-status"] == b"7"
    message = answer.fields[b"grpc-message"]
    assert b"no rule names it" in message
    assert b"add a rule" in message
    assert b"policies.toml" not in message
    assert world.server.asked == []


def test_a_denial_comes_before_the_bodys_end(world: World) -> None:
    world.forbid("/secret")
    client = world.client()
    stream = client.request(b"/secret", b"POST", body=b"x" * 1000, end=False)
    assert client.until(stream).status == 403
    while client.answers[stream].reset is None:
        assert client.receive()
    assert client.answers[stream].reset == 0  # NO_ERROR: it need not go on
    assert client.get().status == 200


def _stream_back(server: Any, conn: Any, asked: Asked, event: Any) -> None:
    """Each piece comes back at once; then trailers."""
    if isinstance(event, events.RequestReceived):
        conn.send_headers(asked.stream, [(b":status", b"103"), (b"link", b"</a>")])
        conn.send_headers(asked.stream, [(b":status", b"200"), GRPC])
    elif isinstance(event, events.DataReceived):
        conn.send_data(asked.stream, event.data)
    elif isinstance(event, events.StreamEnded):
        trailers = [(b"grpc-status", b"0"), (b"x-t", b"1"), (b"transfer-encoding", b"chunked")]
        conn.send_headers(asked.stream, trailers, end_stream=True)


def test_both_directions_stream_and_trailers_follow(world: World) -> None:
    world.server.act = _stream_back
    client = world.client()
    stream = client.request(b"/s.S/Chat", b"POST", GRPC, (b"te", b"trailers"), end=False)
    answer = client.answers[stream]
    for piece in (b"one", b"two"):
        client.h2.send_data(stream, piece)
        client.send()
        while not answer.body.endswith(piece):
            assert client.receive()
    client.h2.send_headers(stream, [(b"x-http-method-override", b"DELETE")], end_stream=True)
    client.send()
    assert client.until(stream).body == b"onetwo"
    assert answer.interim == [103]
    assert answer.trailers == {b"grpc-status": b"0", b"x-t": b"1"}
    # What stands behind a request's body is not judged, so nobody gets it.
    assert world.server.asked[0].trailers == []
    assert world.server.asked[0].ended


def test_large_bodies_both_ways(world: World) -> None:
    waiting: dict[int, bytes] = {}

    def echo(server: Any, conn: Any, asked: Asked, event: Any) -> None:
        if isinstance(event, events.StreamEnded):
            conn.send_headers(asked.stream, [(b":status", b"200")])
            waiting[asked.stream] = asked.body
        for stream, body in tuple(waiting.items()):
            while body:
                piece = body[: min(16384, conn.local_flow_control_window(stream))]
                if not piece:
                    break
                body = body[len(piece) :]
                conn.send_data(stream, piece, end_stream=not body)
            waiting[stream] = body
            if not body:
                del waiting[stream]

    world.server.act = echo
    client = world.client()
    sent = bytes(range(256)) * 2048
    left = {client.request(b"/x", b"POST", end=False): sent for _ in range(2)}
    while left:
        for stream, data in tuple(left.items()):
            piece = data[: min(16384, client.h2.local_flow_control_window(stream))]
            if piece:
                client.h2.send_data(stream, piece, end_stream=len(piece) == len(data))
                left[stream] = data[len(piece) :]
            if not left[stream]:
                del left[stream]
        client.send()
        if left and all(not client.h2.local_flow_control_window(s) for s in left):
            assert client.receive()
    for stream in client.answers:
        assert client.until(stream).body == sent
    assert [asked.body == sent for asked in world.server.asked] == [True] * 2


@pytest.mark.parametrize("start", ["uvloop"], indirect=True)
def test_a_large_download_may_have_more_on_its_way(world: World) -> None:
    left = 1 << 21

    def pour(server: Any, conn: Any, asked: Asked, event: Any) -> None:
        nonlocal left
        if isinstance(event, events.StreamEnded):
            conn.send_headers(asked.stream, [(b":status", b"200")])
        while (
            asked.ended and left and (count := min(left, 16384, conn.local_flow_control_window(1)))
        ):
            left -= count
            conn.send_data(1, bytes(count), end_stream=not left)

    world.server.act = pour
    client = world.client()
    assert len(client.get().body) == 1 << 21
    assert world.shared.http2_bulk == 15
    client.sock.close()
    assert world.gate.until(lambda: world.shared.http2_bulk == 16)


def test_what_a_client_does_not_take_is_not_fetched(world: World) -> None:
    sent = 0

    def pour(server: Any, conn: Any, asked: Asked, event: Any) -> None:
        nonlocal sent
        if isinstance(event, events.RequestReceived):
            conn.send_headers(asked.stream, [(b":status", b"200")])
        while asked.stream in conn.streams and conn.local_flow_control_window(asked.stream):
            count = min(16384, conn.local_flow_control_window(asked.stream))
            conn.send_data(asked.stream, bytes(count))
            sent += count

    world.server.act = pour
    client = world.client()
    client.acknowledge = False
    client.request()
    while client.receive():
        if client.idle(0.3):
            break
    # The client's window, and what one stream may have waiting in the gate.
    assert 65535 <= sent <= 65535 + (1 << 18) + 16384
    client.sock.close()
    assert world.gate.until(lambda: world.server.asked[0].reset == 8 or not world.shared.table)


def test_what_a_server_does_not_take_is_not_accepted(world: World) -> None:
    world.server.acknowledge = False
    client = world.client()
    stream = client.request(b"/x", b"POST", end=False)
    sent = 0
    while True:
        count = min(16384, client.h2.local_flow_control_window(stream))
        if count:
            client.h2.send_data(stream, bytes(count))
            sent += count
            client.send()
        elif client.idle(0.3) or not client.receive():
            break
    assert 65535 <= sent <= 2 * 65535
    assert client.get().status == 200  # the others are not held up


@pytest.mark.parametrize("code", [8, 5])
def test_who_gives_up_is_passed_on(world: World, code: int) -> None:
    def refuse(server: Any, conn: Any, asked: Asked, event: Any) -> None:
        if asked.fields[b":path"] == b"/refused" and isinstance(event, events.RequestReceived):
            conn.reset_stream(asked.stream, code)

    world.server.act = refuse
    client = world.client()
    assert client.until(client.request(b"/refused")).reset == code
    stream = client.request(b"/x")
    assert world.gate.until(lambda: len(world.server.asked) == 2)
    client.h2.reset_stream(stream, code)
    client.send()
    assert world.gate.until(lambda: world.server.asked[1].reset == 8)
    client.sock.close()
    assert world.gate.until(lambda: len(world.shared.table) == 0)


def test_a_response_to_head_has_no_body(world: World) -> None:
    def head(server: Any, conn: Any, asked: Asked, event: Any) -> None:
        if isinstance(event, events.StreamEnded):
            fields = [(b":status", b"200"), (b"content-length", b"1000")]
            conn.send_headers(asked.stream, fields, end_stream=True)

    world.server.act = head
    client = world.client()
    answer = client.until(client.request(b"/x", b"HEAD"))
    assert (answer.status, answer.fields[b"content-length"], answer.body) == (200, b"1000", b"")
    world.forbid("/y")
    answer = client.until(client.request(b"/y", b"HEAD"))
    assert (answer.status, answer.body) == (403, b"")


def test_what_was_judged_is_what_is_sent(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = world.egress.judge

    def canonical(request: EgressRequest) -> EgressVerdict:
        verdict = judge(request)
        return attrs.evolve(verdict, path="/b", credential="key") if request.http else verdict

    async def add(verdict: EgressVerdict, request: OutgoingRequest) -> OutgoingRequest:
        return attrs.evolve(request, fields=(*request.fields, (b"X-Key", b"secret")))

    monkeypatch.setattr(world.egress, "judge", canonical)
    monkeypatch.setattr(world.egress, "add_credential", add)
    client = world.client()
    for _ in range(2):
        assert client.get(b"/a/../b?q").status == 200
        assert world.server.asked[-1].fields[b":path"] == b"/b?q"
        assert world.server.asked[-1].fields[b"x-key"] == b"secret"


# -- rules that look at bodies


@pytest.fixture
def bodies(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """Only a request whose body has 100,000 octets at most, and says please."""
    judge = world.egress.judge

    def by_body(request: EgressRequest) -> EgressVerdict:
        verdict = judge(request)
        if request.http is None or b"please" in (request.http.body or b""):
            return verdict
        needed = 100_000 if request.http.body is None else 0
        return attrs.evolve(verdict, action="deny", reason="say please", needs_body=needed)

    monkeypatch.setattr(world.egress, "judge", by_body)
    monkeypatch.setattr(type(world.egress), "wants_bodies", True)
    return world


def test_a_body_is_judged_before_anything_is_sent(bodies: World) -> None:
    client = bodies.client()
    big = b"please" + bytes(90_000)
    for body, status in ((b"please", 200), (b"now", 403), (b"", 403)):
        stream = client.request(b"/x", b"POST", body=body)
        assert client.until(stream).status == status
    stream = client.request(b"/x", b"POST", (b"expect", b"100-continue"), end=False)
    left = big
    while left:
        piece = left[: min(16384, client.h2.local_flow_control_window(stream))]
        if not piece:
            assert client.receive()
            continue
        left = left[len(piece) :]
        client.h2.send_data(stream, piece, end_stream=not left)
        client.send()
    answer = client.until(stream)
    assert (answer.status, answer.interim) == (200, [100])
    assert [asked.body for asked in bodies.server.asked] == [b"please", big]
    assert bodies.server.asked[1].fields[b"content-length"] == b"90006"


def test_bodies_that_are_looked_into_are_not_kept_without_end(
    bodies: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = bodies.client()
    shared = bodies.shared
    monkeypatch.setattr(shared, "limits", attrs.evolve(shared.limits, held_bytes=250_000))
    waiting = [client.request(b"/x", b"POST", body=b"please", end=False) for _ in range(2)]
    assert bodies.gate.until(lambda: shared.held == 200_000)
    answer = client.until(client.request(b"/x", b"POST", body=b"please", end=False))
    assert answer.status == 503
    small = (b"content-length", b"6")
    assert client.until(client.request(b"/x", b"POST", small, body=b"please")).status == 200
    for stream in waiting:
        client.h2.end_stream(stream)
        client.send()
        assert client.until(stream).status == 200
    assert bodies.gate.until(lambda: shared.held == 0)
    client.request(b"/x", b"POST", body=b"please", end=False)
    assert bodies.gate.until(lambda: shared.held == 100_000)
    client.sock.close()
    assert bodies.gate.until(lambda: shared.held == 0)


def test_a_body_that_is_too_large_to_judge_is_denied(bodies: World) -> None:
    client = bodies.client()
    stream = client.request(b"/x", b"POST", (b"content-length", b"100001"), end=False)
    assert client.until(stream).status == 403
    stream = client.request(b"/x", b"POST", body=b"please", end=False)
    answer = client.answers[stream]
    while not answer.ended:
        count = min(16384, client.h2.local_flow_control_window(stream))
        if count:
            client.h2.send_data(stream, bytes(count))
            client.send()
        else:
            assert client.receive()
    assert answer.status == 403
    assert bodies.server.asked == []


@pytest.mark.parametrize("start", ["uvloop"], indirect=True)
def test_a_body_that_does_not_come_is_not_waited_for(
    bodies: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = bodies.client()
    monkeypatch.setattr(bodies.shared, "limits", attrs.evolve(bodies.shared.limits, first_bytes=1))
    began = time.monotonic()
    stream = client.request(b"/x", b"POST", body=b"ple", end=False)
    grpc = client.request(b"/x", b"POST", GRPC, body=b"ple", end=False)
    assert client.until(stream).status == 408
    assert client.until(grpc).fields[b"grpc-status"] == b"4"
    assert time.monotonic() - began < 4
    assert bodies.server.asked == []


def test_prior_knowledge_over_plaintext(world: World) -> None:
    plain = world.gate.upstream(world.server)
    world.egress.allow("a.example", 80, plain.port, inspect=True)
    world.egress.rules["a.example", 80].request = lambda r: r.http.path != "/secret"
    client = Client(world.gate.dial("a.example", 80), tls=False)
    assert client.get(b"/x").body == b"page /x"
    assert client.get(b"/secret").status == 403
    assert [asked.fields[b":scheme"] for asked in world.server.asked] == [b"http"]
    # POST begins with the same letter, and is HTTP/1.
    with world.gate.dial("a.example", 80) as sock:
        sock.sendall(b"P")
        time.sleep(0.02)
        sock.sendall(b"OST /secret HTTP/1.1\r\nHost: a.example\r\n\r\n")
        assert sock.recv(99).startswith(b"HTTP/1.1 403")
    # The explicit proxy knows no server to speak HTTP/2 with.
    assert world.gate.ask(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("way", ["denied", "refused by the server", "given up by the client"])
def test_windows_are_given_back(world: World, way: str) -> None:
    """Octets of streams that came to nothing: a connection would be full of them before long."""

    def act(server: Any, conn: Any, asked: Asked, event: Any) -> None:
        if isinstance(event, events.RequestReceived):
            if way == "refused by the server":
                conn.reset_stream(asked.stream, 8)
                return
            conn.send_headers(asked.stream, [(b":status", b"200")])
            while count := min(16384, conn.local_flow_control_window(asked.stream)):
                conn.send_data(asked.stream, bytes(count))

    if way == "denied":
        world.forbid("/x")
    world.server.act = act
    client = world.client()
    client.acknowledge = False
    for _ in range(30):
        stream = client.request(b"/x", b"POST", end=False)
        for _ in range(3):
            if client.h2.streams[stream].open:
                assert client.h2.local_flow_control_window(stream) >= 16384
                client.h2.send_data(stream, bytes(16384))
                client.send()
        if way == "given up by the client":
            while client.answers[stream].status != 200:
                assert client.receive()
            client.h2.reset_stream(stream, 8)
            client.send()
        else:
            client.until(stream)
        while not client.idle(0.0):
            assert client.receive()
        missing = 65535 - client.h2.inbound_flow_control_window
        if missing > 30000:
            client.h2.increment_flow_control_window(missing)
            client.send()
    assert client.goodbye is None
    assert client.h2.outbound_flow_control_window > 1 << 19  # the larger half is free
    if way == "given up by the client":  # and on the other side there is room for another one
        stream = client.request()
        while not client.answers[stream].body:
            assert client.receive()
