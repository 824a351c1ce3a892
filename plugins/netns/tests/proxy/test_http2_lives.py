"""How HTTP/2 connections and their streams begin and end: version, reload, GOAWAY, times."""

from __future__ import annotations

import json
import socket
import time
from typing import TYPE_CHECKING, Any

import h2.events as events
import pytest
from h2.settings import SettingCodes
from nemoclaw_plugin_netns.proxy.authority import Authority
from nemoclaw_plugin_netns.proxy.target import Origin

from .http2_peers import Asked, Client, Server, World, answer_at_the_end

if TYPE_CHECKING:
    from plugins.netns.tests.proxy.conftest import Start


pytestmark = pytest.mark.parametrize("start", ["uvloop"], indirect=True)


def _http1(sock: socket.socket) -> None:
    while sock.recv(65536):
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


# -- which version is spoken


def test_the_client_is_offered_what_the_server_takes(world: World, authority: Authority) -> None:
    with world.dial("h2", "http/1.1") as sock:
        assert sock.selected_alpn_protocol() == "h2"
    with world.dial("http/1.1") as sock:
        assert sock.selected_alpn_protocol() == "http/1.1"
    old = world.gate.upstream(_http1, authority.context("a.example"))
    world.egress.allow("a.example", 443, old.port, inspect=True)
    world.shared.protocols.forget(Origin("a.example", 443, True))
    dials = world.egress.dials
    for _ in range(3):
        with world.dial("h2", "http/1.1") as sock:
            assert sock.selected_alpn_protocol() == "http/1.1"
            sock.sendall(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
            assert sock.recv(999).endswith(b"ok")
    # Asked once for all three, then one connection for each.
    assert world.egress.dials == dials + 4
    with pytest.raises(ConnectionResetError):
        world.dial("h2")
    assert ("a.example", "alpn") in {denial[:2] for denial in world.egress.denials}


def test_no_request_is_turned_into_http1(world: World, authority: Authority) -> None:
    """What a field could smuggle in, were it to become a line: nobody would write it."""
    upstream = world.gate.upstream(_http1, authority.context("a.example"))
    world.egress.allow("a.example", 443, upstream.port, inspect=True)
    with world.dial("h2", "http/1.1") as sock:
        assert sock.selected_alpn_protocol() == "http/1.1"
        client = Client(sock)
        client.request(b"/x", b"POST", (b"x", b"y\r\ntransfer-encoding: chunked"))
        assert sock.recv(99).startswith(b"HTTP/1.1 400")
    assert world.egress.authorized[-1].http is None  # not even judged


def test_nothing_is_dialled_before_it_is_needed(world: World) -> None:
    world.client().get()
    assert world.egress.dials == 1  # the connection that was asked is the one that is used
    client = world.client()
    client.sock.settimeout(5)
    world.forbid("/x")
    assert client.get(b"/x").status == 403
    assert world.egress.dials == 1
    assert client.get(b"/y").status == 200
    assert world.egress.dials == 2


def test_a_server_that_cannot_be_reached_is_told_in_the_clients_version(
    world: World, authority: Authority
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        world.egress.rules["a.example", 443].address = closed.getsockname()[1]
    with world.dial("h2", "http/1.1") as sock:
        assert sock.selected_alpn_protocol() == "http/1.1"
        sock.sendall(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
        assert sock.recv(999).startswith(b"HTTP/1.1 502")
    client = Client(world.dial("h2"))
    assert client.get().status == 502
    grpc = client.until(client.request(b"/s/M", b"POST", (b"content-type", b"application/grpc")))
    assert grpc.fields[b"grpc-status"] == b"14"
    world.egress.poisoned.add("a.example")
    answer = client.get()
    assert (answer.status, json.loads(answer.body)["rule"]) == (403, "address")


def test_a_server_that_gives_http2_up(world: World, authority: Authority) -> None:
    world.client().get()
    old = world.gate.upstream(_http1, authority.context("a.example"))
    world.egress.allow("a.example", 443, old.port, inspect=True)
    client = world.client()
    answer = client.get()
    assert (answer.status, json.loads(answer.body)["error"]) == (502, "upstream_protocol")
    client.receive_all()
    assert client.goodbye == 0
    with world.dial("h2", "http/1.1") as sock:
        assert sock.selected_alpn_protocol() == "http/1.1"


def test_too_many_clients_are_offered_http1(start: Start, authority: Authority) -> None:
    world = World(start(http2_sessions=1), authority)
    client = world.client()
    assert client.get().status == 200
    with world.dial("h2", "http/1.1") as sock:
        assert sock.selected_alpn_protocol() == "http/1.1"
    client.sock.close()
    assert world.gate.until(lambda: world.shared.http2_sessions == 0)
    assert world.client().get().status == 200


# -- a new policy


def _wait(server: Server, conn: Any, asked: Asked, event: Any) -> None:
    """A response that begins, and goes on with each ping that is a connection's first word."""
    if isinstance(event, events.RequestReceived):
        conn.send_headers(asked.stream, [(b":status", b"200")])
        conn.send_data(asked.stream, b"begun ")
    elif isinstance(event, events.StreamEnded):
        conn.send_data(asked.stream, b"ended", end_stream=True)


def test_a_reload_ends_the_streams_that_it_forbids(world: World) -> None:
    world.server.act = _wait
    client = world.client()
    streams = [client.request(path, b"POST", end=False) for path in (b"/a", b"/b", b"/c")]
    while not all(client.answers[stream].body for stream in streams):
        assert client.receive()
    world.forbid("/b")
    world.egress.generation += 1
    world.gate.wait(world.gate.service.reload())
    assert client.until(streams[1]).reset == 8
    assert world.gate.until(lambda: world.server.asked[1].reset == 8)
    for stream in (streams[0], streams[2]):
        client.h2.end_stream(stream)
        client.send()
        assert client.until(stream).body == b"begun ended"
    assert client.get(b"/b").status == 403
    world.egress.rules.clear()
    world.egress.generation += 1
    world.gate.wait(world.gate.service.reload())
    client.receive_all()
    assert world.gate.until(lambda: len(world.shared.table) == 0)


def test_a_request_that_is_being_judged_is_judged_by_the_new_policy(world: World) -> None:
    client = world.client()
    assert client.get().status == 200
    world.egress.slow = 0.2
    stream = client.request(b"/b")
    assert world.gate.until(lambda: len(world.egress.authorized) == 3)
    world.forbid("/b")
    world.egress.generation += 1
    world.gate.wait(world.gate.service.reload())
    assert client.until(stream).status == 403
    assert len(world.server.asked) == 1


# -- a server that leaves


def test_goodbye_lets_open_streams_end(world: World) -> None:
    """As nginx says after a thousand requests."""
    after: list[Any] = []

    def leave(server: Server, conn: Any, asked: Asked, event: Any) -> None:
        if asked.connection == 1 and asked.stream == 3:
            if isinstance(event, events.RequestReceived):  # the first one is the last one
                conn._data_to_send += b"\0\0\x08\7\0\0\0\0\0" + b"\0\0\0\1" + bytes(4)
                after.append(asked)
            return
        if after and isinstance(event, events.DataReceived):
            conn.send_headers(asked.stream, [(b":status", b"200")])
            conn.send_data(asked.stream, b"late", end_stream=True)
            return
        if asked.stream != 1 or asked.connection != 1:
            answer_at_the_end(server, conn, asked, event)

    world.server.act = leave
    client = world.client()
    first = client.request(b"/first", b"POST", end=False)
    assert world.gate.until(lambda: len(world.server.asked) == 1)
    # What the server has not looked at is asked of another connection.
    assert client.until(client.request(b"/second")).body == b"page /second"
    assert [asked.connection for asked in world.server.asked] == [1, 1, 2]
    client.h2.send_data(first, b"x", end_stream=True)
    client.send()
    assert client.until(first).body == b"late"
    assert client.get(b"/third").body == b"page /third"
    assert world.server.connections == 2
    # A body that is gone cannot be sent again: the client is told that it may.
    assert client.goodbye is None


def test_a_server_that_closes_in_the_middle(world: World) -> None:
    def close(server: Server, conn: Any, asked: Asked, event: Any) -> None:
        if asked.fields[b":path"] == b"/begun":
            conn.send_headers(asked.stream, [(b":status", b"200")])
            conn.send_data(asked.stream, b"half")
        else:
            raise RuntimeError("gone")

    world.server.act = close
    client = world.client()
    begun = client.request(b"/begun", b"POST", end=False)
    while client.answers[begun].body != b"half":
        assert client.receive()
    answer = client.get(b"/x")
    assert (answer.status, json.loads(answer.body)["error"]) == (502, "upstream_closed")
    assert client.until(begun).reset == 2
    world.server.act = answer_at_the_end
    assert client.get(b"/y").status == 200


def test_a_server_that_takes_few_streams_gets_few(world: World) -> None:
    most = 0

    def count(server: Server, conn: Any, asked: Asked, event: Any) -> None:
        nonlocal most
        most = max(most, sum(not each.ended for each in server.asked))
        if isinstance(event, events.RequestReceived):
            most = max(most, conn.open_inbound_streams)
        answer_at_the_end(server, conn, asked, event)

    world.server.act = count
    world.server.settings = {SettingCodes.MAX_CONCURRENT_STREAMS: 2}
    client = world.client()
    assert client.get().status == 200
    streams = [client.request(b"/%d" % n) for n in range(20)]
    assert [client.until(stream).status for stream in streams] == [200] * 20
    assert most <= 2


# -- times


def test_an_idle_connection_ends_with_goodbye(start: Start, authority: Authority) -> None:
    world = World(start(keep_alive=1, idle=1), authority)
    idle, waiting = world.client(), world.client()
    assert idle.get().status == 200
    began = time.monotonic()
    stream = waiting.request(b"/x", b"POST", end=False)
    idle.receive_all()
    assert idle.goodbye == 0
    assert waiting.until(stream).status == 504
    assert time.monotonic() - began < 5
    waiting.sock.close()
    assert world.gate.until(lambda: len(world.shared.table) == 0)
    assert world.gate.until(lambda: world.server.goodbyes >= 1)


def test_everything_is_let_go_of(world: World) -> None:
    client = world.client()
    client.get()
    client.request(b"/x", b"POST", end=False)
    assert world.gate.until(lambda: len(world.server.asked) == 2)
    client.sock.close()
    assert world.gate.until(lambda: world.server.asked[1].reset == 8 or world.server.goodbyes == 1)
    assert world.gate.until(lambda: len(world.shared.table) == 0)
    assert world.gate.until(lambda: len(world.shared._tasks) == 0)
    assert world.shared.http2_sessions == 0
