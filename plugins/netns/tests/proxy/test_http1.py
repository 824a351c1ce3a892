"""Inspected HTTP/1.1, with a server that records what it gets."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from plugins.netns.tests.proxy.conftest import Running, Start


class Recorder:
    """Answers each request with the same octets; keeps the octets that it got."""

    def __init__(self, answer: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") -> None:
        self.answer = answer
        self.got = b""
        self.close = False

    def __call__(self, sock: socket.socket) -> None:
        while data := sock.recv(65536):
            self.got += data
            if self.got.endswith((b"\r\n\r\n", b"END")):
                sock.sendall(self.answer)
                if self.close:
                    return


@pytest.fixture
def recorder(gate: Running) -> Recorder:
    """Behind a.example:80, inspected, and the proxy."""
    recorder = Recorder()
    gate.egress.allow("a.example", 80, gate.upstream(recorder).port, inspect=True)
    return recorder


def _get(path: bytes = b"/x", extra: bytes = b"") -> bytes:
    return b"GET " + path + b" HTTP/1.1\r\nHost: a.example\r\n" + extra + b"\r\n"


def test_requests_are_written_anew(gate: Running, recorder: Recorder) -> None:
    with gate.dial("a.example", 80) as sock:
        sock.sendall(_get(b"/x?y=%20", b"x-a:  b \r\nProxy-Authorization: Basic eDp5\r\n"))
        assert sock.recv(999) == recorder.answer
        assert recorder.got == b"GET /x?y=%20 HTTP/1.1\r\nHost: a.example\r\nx-a: b\r\n\r\n"
    request = gate.egress.authorized[-1].http
    assert request is not None
    assert (request.method, request.path, request.query) == ("GET", "/x", "y=%20")
    assert dict(request.headers) == {"x-a": "b"}


def test_each_request_is_judged_and_the_connection_lives_on(
    gate: Running, recorder: Recorder
) -> None:
    gate.egress.rules["a.example", 80].request = lambda r: r.http.path != "/secret"
    with gate.dial("a.example", 80) as sock:
        for path, status in ((b"/x", 200), (b"/secret", 403), (b"/y", 200)):
            sock.sendall(_get(path))
            response = http.client.HTTPResponse(sock)
            response.begin()
            assert response.status == status
            body = response.read()
            if status == 403:
                denial = json.loads(body)
                assert denial["error"] == "policy_denied"
                assert denial["remedy"] == "add a rule"
                assert "policies.toml" not in body.decode()
    assert b"/secret" not in recorder.got
    assert gate.upstreams[0].accepted == 1


def test_pipelined_requests_are_answered_in_order(gate: Running, recorder: Recorder) -> None:
    gate.egress.rules["a.example", 80].request = lambda r: r.http.path != "/b"
    with gate.dial("a.example", 80) as sock:
        sock.sendall(_get(b"/a") + _get(b"/b") + _get(b"/c", b"Connection: close\r\n"))
        answer = gate.receive_all(sock)
    assert answer.count(b"200 OK") == 2
    assert answer.index(b"200 OK") < answer.index(b"403 Forbidden") < answer.rindex(b"200 OK")


@pytest.mark.parametrize(
    "request_",
    [
        _get(extra=b"Host: b.example\r\n"),
        b"GET / HTTP/1.1\r\nHost: b.example\r\n\r\n",
        b"GET http://b.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\nHost: a.example\n\n",
        b"CONNECT b.example:80 HTTP/1.1\r\nHost: b.example:80\r\n\r\n",
        b"\x16\x03\x01",
        b"SSH-2.0-x\r\n",
    ],
)
def test_what_is_malformed_or_for_another_ends_the_connection(
    gate: Running, recorder: Recorder, request_: bytes
) -> None:
    with gate.dial("a.example", 80) as sock:
        sock.sendall(request_ + _get(b"/smuggled"))
        answer = gate.receive_all(sock)
    assert answer.split(b" ")[1] in (b"400", b"403") if answer else request_[:1] == b"\x16"
    assert recorder.got == b""
    assert gate.egress.denials


def test_explicit_proxy_with_many_servers_on_one_connection(gate: Running) -> None:
    recorders = [Recorder(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % i) for i in range(3)]
    for i, recorder in enumerate(recorders):
        gate.egress.allow(f"s{i}.example", 8080, gate.upstream(recorder).port)
    with gate.connect() as sock:
        for i in (0, 1, 2, 1, 0):
            host = b"s%d.example:8080" % i
            sock.sendall(b"GET http://" + host + b"/ HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
            assert sock.recv(999).endswith(b"%d" % i)
    assert [u.accepted for u in gate.upstreams] == [1, 1, 1]


def test_denied_by_the_explicit_proxy(gate: Running) -> None:
    answer = gate.ask(b"GET http://no.example/ HTTP/1.1\r\nHost: no.example\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert json.loads(answer.split(b"\r\n\r\n", 1)[1])["rule"] == "no-rule"
    answer = gate.ask(b"CONNECT no.example:443 HTTP/1.1\r\nHost: no.example:443\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert json.loads(answer.split(b"\r\n\r\n", 1)[1])["host"] == "no.example"


def test_bodies_are_streamed_both_ways(gate: Running) -> None:
    """Each piece arrives before the next is sent: nothing is collected."""

    def echo(sock: socket.socket) -> None:
        while not (data := sock.recv(65536)).endswith(b"\r\n\r\n"):
            pass
        assert b"Transfer-Encoding: chunked" in data
        sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            data = sock.recv(65536)
            sock.sendall(data)
            if data.endswith(b"0\r\n\r\n"):
                return

    gate.egress.allow("a.example", 80, gate.upstream(echo).port, inspect=True)
    with gate.dial("a.example", 80) as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert sock.recv(999).endswith(b"\r\n\r\n")
        for word in (b"one", b"two", b"three"):
            sock.sendall(b"%x;extension\r\n%b\r\n" % (len(word), word))
            assert sock.recv(999) == b"%x\r\n%b\r\n" % (len(word), word)
        sock.sendall(b"0\r\nX-Trailer: 1\r\n\r\n")
        assert sock.recv(999) == b"0\r\n\r\n"


def test_large_bodies_arrive_whole(gate: Running) -> None:
    size = 8 << 20
    got = []

    def store(sock: socket.socket) -> None:
        file = sock.makefile("rb")
        while file.readline() != b"\r\n":
            pass
        got.append(file.read(size))
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        sock.sendall(got[0])

    gate.egress.allow("a.example", 80, gate.upstream(store).port, inspect=True)
    body = bytes(range(256)) * (size // 256)
    connection = http.client.HTTPConnection("127.0.0.1", gate.port, timeout=20)
    connection.request("POST", "http://a.example/", body, {"Host": "a.example"})
    assert connection.getresponse().read() == body
    assert got == [body]


def test_a_slow_reader_stops_the_server(gate: Running) -> None:
    sent = []

    def pour(sock: socket.socket) -> None:
        sock.recv(9999)
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        sock.settimeout(0.5)
        try:
            while True:
                sent.append(sock.send(bytes(65536)))
        except TimeoutError:
            sent.append(-1)
            sock.settimeout(5)
        sock.recv(1)

    gate.egress.allow("a.example", 80, gate.upstream(pour).port, inspect=True)
    with gate.dial("a.example", 80) as sock:
        sock.sendall(_get())
        assert gate.until(lambda: sent[-1:] == [-1])
        # The kernel's buffers hold 2 x 4 MiB or so; ours may hold less than one.
        assert sum(sent) < 24 << 20


def test_expect_100_continue(gate: Running) -> None:
    def serve(sock: socket.socket) -> None:
        assert b"Expect: 100-continue" in sock.recv(9999)
        sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert sock.recv(99) == b"hello"
        sock.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    upstream = gate.upstream(serve)
    gate.egress.allow("a.example", 80, upstream.port, inspect=True)
    with gate.dial("a.example", 80) as sock:
        sock.sendall(
            b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )
        assert sock.recv(99) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"hello")
        assert sock.recv(99) == b"HTTP/1.1 204 No Content\r\n\r\n"
    assert not upstream.errors


def test_head_and_not_modified_have_no_body(gate: Running, recorder: Recorder) -> None:
    recorder.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
    with gate.dial("a.example", 80) as sock:
        sock.sendall(b"HEAD / HTTP/1.1\r\nHost: a.example\r\n\r\n")
        assert sock.recv(999) == recorder.answer
        recorder.answer = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"
        sock.sendall(_get())
        assert sock.recv(999) == recorder.answer


def test_a_body_until_close_is_chunked_for_the_client(gate: Running, recorder: Recorder) -> None:
    recorder.answer, recorder.close = b"HTTP/1.0 200 OK\r\n\r\nhello", True
    with gate.dial("a.example", 80) as sock:
        for _ in range(2):
            sock.sendall(_get())
            response = http.client.HTTPResponse(sock)
            response.begin()
            assert response.getheader("Transfer-Encoding") == "chunked"
            assert response.read() == b"hello"


def test_an_http_1_0_client_gets_no_chunks(gate: Running, recorder: Recorder) -> None:
    recorder.answer = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    )
    with gate.dial("a.example", 80) as sock:
        sock.sendall(b"GET / HTTP/1.0\r\nHost: a.example\r\n\r\n")
        answer = gate.receive_all(sock)
    assert answer.endswith(b"\r\n\r\nhello")
    assert b"chunked" not in answer


def test_a_body_that_breaks_off_breaks_off_for_the_client(
    gate: Running, recorder: Recorder
) -> None:
    recorder.close = True
    for answer in (
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nZZ\r\n",
    ):
        recorder.answer = answer
        connection = http.client.HTTPConnection("127.0.0.1", gate.port, timeout=5)
        connection.request("GET", "http://a.example/", headers={"Host": "a.example"})
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            connection.getresponse().read()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\nab",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"220 smtp.example ESMTP\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 40,
        b"",
    ],
)
def test_a_malformed_response_is_a_bad_gateway(
    gate: Running, recorder: Recorder, answer: bytes
) -> None:
    recorder.answer, recorder.close = answer, True
    with gate.dial("a.example", 80) as sock:
        sock.sendall(_get(extra=b"Connection: close\r\n"))
        got = gate.receive_all(sock)
    while got.startswith(b"HTTP/1.1 100 "):
        got = got.partition(b"\r\n\r\n")[2]
    assert got.startswith(b"HTTP/1.1 502 ")


def test_a_response_that_nobody_asked_for_is_not_passed_on(
    gate: Running, recorder: Recorder
) -> None:
    second = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled"
    recorder.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + second
    with gate.dial("a.example", 80) as sock:
        sock.sendall(_get())
        assert sock.recv(999).endswith(b"\r\n\r\nok")
        recorder.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmine"
        sock.sendall(_get(b"/y"))
        assert sock.recv(999).endswith(b"\r\n\r\nmine")
    assert gate.upstreams[0].accepted == 2


def test_a_request_on_a_connection_that_the_server_closed_is_tried_again(
    gate: Running, recorder: Recorder
) -> None:
    recorder.close = True
    with gate.dial("a.example", 80) as sock:
        for _ in range(3):
            sock.sendall(_get())
            assert sock.recv(999) == recorder.answer
    assert gate.upstreams[0].accepted == 3


def test_upstream_failures_are_told_as_such(gate: Running, start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        gate.egress.allow("gone.example", 80, unused.getsockname()[1])
    gate.egress.allow("private.example", 80, 1)
    gate.egress.poisoned.add("private.example")
    for host, status, error in (
        (b"gone.example", b"502", "upstream_unreachable"),
        (b"private.example", b"403", "policy_denied"),
    ):
        for answer in (
            gate.ask(b"GET http://" + host + b"/ HTTP/1.1\r\nHost: " + host + b"\r\n\r\n"),
            gate.ask(b"CONNECT " + host + b":80 HTTP/1.1\r\nHost: " + host + b":80\r\n\r\n"),
        ):
            head, _, body = answer.partition(b"\r\n\r\n")
            assert head.split(b" ")[1] == status
            assert json.loads(body)["error"] == error
            assert b"policies.toml" not in body


def test_a_server_that_does_not_answer_is_a_gateway_timeout(start: Start) -> None:
    gate = start(idle=1, dial=1)
    silent = gate.upstream(lambda sock: time.sleep(10))
    gate.egress.allow("a.example", 80, silent.port)
    request = b"GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n"
    with gate.connect() as sock:
        sock.sendall(request)
        assert sock.recv(999).startswith(b"HTTP/1.1 504 ")
    gate.egress.dial_slow = 30
    for ask in (request, b"CONNECT a.example:80 HTTP/1.1\r\nHost: a.example:80\r\n\r\n"):
        with gate.connect() as sock:
            sock.sendall(ask)
            assert sock.recv(999).startswith(b"HTTP/1.1 504 ")
    assert gate.until(lambda: gate.service.connections == 0)


def test_websocket(gate: Running) -> None:
    def serve(sock: socket.socket) -> None:
        head = sock.recv(9999)
        assert b"Connection: Upgrade\r\nUpgrade: websocket\r\n" in head
        assert b"Sec-WebSocket-Key: x" in head
        sock.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: y\r\n\r\nfirst"
        )
        while data := sock.recv(99):
            sock.sendall(data.upper())
        sock.sendall(b"bye")

    upstream = gate.upstream(serve)
    gate.egress.allow("a.example", 80, upstream.port, inspect=True)
    with gate.dial("a.example", 80) as sock:
        sock.sendall(
            _get(
                extra=b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
                b"Sec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n"
            )
        )
        head = sock.recv(999)
        assert head.startswith(b"HTTP/1.1 101 ")
        if not head.endswith(b"first"):
            assert sock.recv(99) == b"first"
        sock.sendall(b"hello")
        assert sock.recv(99) == b"HELLO"
        sock.shutdown(socket.SHUT_WR)
        assert gate.receive_all(sock) == b"bye"
    assert not upstream.errors
    assert gate.until(lambda: gate.service.connections == 0)


def test_other_upgrades_are_dropped(gate: Running, recorder: Recorder) -> None:
    with gate.dial("a.example", 80) as sock:
        sock.sendall(_get(extra=b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"))
        assert sock.recv(999) == recorder.answer
    assert b"pgrade" not in recorder.got


def test_slow_heads_are_given_up(start: Start) -> None:
    gate = start(first_bytes=1)
    gate.egress.allow("a.example", 80, 1, inspect=True)

    def drip(sock: socket.socket) -> bytes:
        try:
            for octet in b"GET / HTTP/1.1\r\nHost: a.example\r\nX: " + b"y" * 100:
                sock.sendall(bytes((octet,)))
                time.sleep(0.05)
        except OSError:
            pass
        return gate.receive_all(sock)

    began = time.monotonic()
    with gate.dial("a.example", 80) as sock:
        assert drip(sock)[:12] in (b"HTTP/1.1 408", b"")
    with gate.connect() as sock:
        drip(sock)
    for silent in (gate.connect(), gate.dial("a.example", 80)):
        with silent:
            assert gate.receive_all(silent) == b""
    assert time.monotonic() - began < 20
    assert gate.until(lambda: gate.service.connections == 0)


def test_idle_connections_are_closed(start: Start) -> None:
    gate = start(keep_alive=1)
    recorder = Recorder()
    gate.egress.allow("a.example", 80, gate.upstream(recorder).port, inspect=True)
    with gate.dial("a.example", 80) as sock:
        sock.sendall(_get())
        assert gate.receive_all(sock) == recorder.answer
    assert gate.until(lambda: gate.service.connections == 0)


def test_large_heads_are_refused(gate: Running, recorder: Recorder) -> None:
    with gate.dial("a.example", 80) as sock:
        sock.sendall(_get(extra=b"X: " + b"y" * 70000 + b"\r\n"))
        assert gate.receive_all(sock).startswith(b"HTTP/1.1 431 ")
    with gate.dial("a.example", 80) as sock:
        sock.sendall(_get(extra=b"X: y\r\n" * 200))
        assert gate.receive_all(sock).startswith(b"HTTP/1.1 431 ")
    assert recorder.got == b""


def test_a_refused_upload_does_not_hang(gate: Running, recorder: Recorder) -> None:
    gate.egress.rules["a.example", 80].request = lambda r: False
    with gate.dial("a.example", 80) as sock:
        sock.sendall(b"PUT / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 100000000\r\n\r\n")

        def upload() -> None:
            try:
                for _ in range(1000):
                    sock.sendall(bytes(65536))
            except OSError:
                pass

        threading.Thread(target=upload, daemon=True).start()
        assert b" 403 " in sock.recv(999)
    assert recorder.got == b""


def test_a_malformed_upload_is_no_whole_request(gate: Running, recorder: Recorder) -> None:
    with gate.dial("a.example", 80) as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n")
        sock.sendall(b"3\r\nabc\r\n")
        recorder.answer = b""
        assert gate.until(lambda: b"abc" in recorder.got)
        sock.sendall(b"ZZZ\r\n0\r\n\r\n")
        assert gate.receive_all(sock).startswith(b"HTTP/1.1 400 ")
    assert not recorder.got.endswith(b"0\r\n\r\n")


def test_reload_cuts_the_request_that_is_forbidden_now(gate: Running) -> None:
    def stream(sock: socket.socket) -> None:
        sock.recv(9999)
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(1000):
            sock.sendall(b"tick")
            time.sleep(0.01)

    gate.egress.allow("a.example", 80, gate.upstream(stream).port, inspect=True)
    one, two = gate.dial("a.example", 80), gate.dial("a.example", 80)
    one.sendall(_get(b"/one"))
    two.sendall(_get(b"/two"))
    assert one.recv(9)
    assert two.recv(9)
    gate.egress.rules["a.example", 80].request = lambda r: r.http.path != "/one"
    gate.egress.generation += 1
    gate.wait(gate.service.reload())
    with one, two:
        gate.receive_all(one)
        for _ in range(20):
            assert two.recv(9999)


def test_a_policy_that_changes_while_a_request_is_judged_counts(
    gate: Running, recorder: Recorder
) -> None:
    gate.egress.slow = 0.3
    with gate.connect() as sock:
        sock.sendall(b"GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n")
        time.sleep(0.1)
        rule = gate.egress.rules.pop(("a.example", 80))
        assert rule
        gate.egress.generation += 1
        # The verdict in flight is made from the new rules here, so it is denied either way.
        assert b" 403 " in sock.recv(999)
    assert recorder.got == b""
