"""Requests whose bodies are judged, and WebSockets whose messages are."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs
import pytest
from nemoclaw_hookspecs.egress import EgressRequest, EgressVerdict
from nemoclaw_hookspecs.errors import EgressDenied
from nemoclaw_plugin_netns.proxy.websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Header,
    Message,
    MessageReader,
    masked,
    read_header,
    write_close,
    write_frame,
)

if TYPE_CHECKING:
    from plugins.netns.tests.proxy.conftest import Running, Start

LIMIT = 100_000


def look(gate: Running, allowed: Callable[[bytes], bool]) -> None:
    """Let the policy look into bodies and messages."""
    judge = gate.egress.judge

    def looking(request: EgressRequest) -> EgressVerdict:
        verdict = judge(request)
        http = request.http
        if http is None or verdict.action != "allow":
            return verdict
        if http.websocket and http.message is None:
            return attrs.evolve(verdict, watch=True)
        seen = http.message if http.websocket else http.body
        if seen is None:
            return attrs.evolve(verdict, action="deny", rule="body", needs_body=LIMIT)
        if allowed(seen):
            return verdict
        return attrs.evolve(verdict, action="deny", rule="rpc", reason="not that")

    gate.egress.wants_bodies = True
    gate.egress.judge = looking  # type: ignore[method-assign]


class Server:
    """Answers each request, and keeps heads and bodies apart."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    def __call__(self, sock: socket.socket) -> None:
        file = sock.makefile("rb")
        while line := file.readline():
            length = 0
            while line.strip():
                name, _, value = line.partition(b":")
                assert name.lower() not in (b"transfer-encoding", b"expect")
                length = int(value) if name.lower() == b"content-length" else length
                line = file.readline()
            self.bodies.append(file.read(length))
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


@pytest.fixture
def server(gate: Running) -> Server:
    """Behind a.example:80. Bodies that hold ``bad`` are denied."""
    server = Server()
    gate.egress.allow("a.example", 80, gate.upstream(server).port, inspect=True)
    look(gate, lambda seen: b"bad" not in seen)
    return server


def held(gate: Running) -> int:
    """Octets that are kept to be looked into."""
    assert gate.service._gate is not None
    return gate.service._gate.held


def post(body: bytes, extra: bytes = b"", *, chunked: bool = False) -> bytes:
    if chunked:
        framing = b"Transfer-Encoding: chunked\r\n"
        body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"
    else:
        framing = b"Content-Length: %d\r\n" % len(body)
    return b"POST /x HTTP/1.1\r\nHost: a.example\r\n" + framing + extra + b"\r\n" + body


def answers(sock: socket.socket, count: int) -> list[tuple[int, bytes]]:
    """Status and body of responses."""
    file, found = sock.makefile("rb"), []
    for _ in range(count):
        status, length = int(file.readline().split()[1]), 0
        while (line := file.readline()).strip():
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        found.append((status, file.read(length)))
    return found


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_is_judged_and_what_was_judged_is_sent(
    gate: Running, server: Server, chunked: bool
) -> None:
    big = b"y" * (LIMIT - 7)  # more than a channel keeps for one who only looks
    with gate.dial("a.example", 80) as sock:
        for body in (b"good", b"bad", b"", big):
            sock.sendall(post(body, chunked=chunked))
            ((status, _),) = answers(sock, 1)
            assert status == (403 if body == b"bad" else 200)
    assert server.bodies == [b"good", b"", big]
    seen = [each.http.body for each in gate.egress.authorized if each.http is not None]
    assert seen == [b"good", b"bad", b"", big]


def test_requests_in_a_row_keep_their_bodies(gate: Running, server: Server) -> None:
    with gate.dial("a.example", 80) as sock:
        sock.sendall(post(b"one") + post(b"bad") + post(b"two", chunked=True) + post(b"three"))
        found = answers(sock, 4)
    assert [status for status, _ in found] == [200, 403, 200, 200]
    assert json.loads(found[1][1])["rule"] == "rpc"
    assert server.bodies == [b"one", b"two", b"three"]


def test_a_body_is_asked_for_where_the_client_waits_for_that(gate: Running, server: Server) -> None:
    with gate.dial("a.example", 80) as sock:
        sock.sendall(post(b"", b"Expect: 100-continue\r\n").replace(b"h: 0", b"h: 4"))
        assert sock.recv(999) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"good")
        assert answers(sock, 1)[0][0] == 200
    assert server.bodies == [b"good"]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_to_look_at_is_denied(
    gate: Running, server: Server, chunked: bool
) -> None:
    with gate.dial("a.example", 80) as sock:
        sock.sendall(post(b"z" * (LIMIT + 1), chunked=chunked)[:-1])
        ((status, body),) = answers(sock, 1)
        assert (status, json.loads(body)["rule"]) == (403, "body")
        assert not gate.receive_all(sock)  # its end has not come
    assert not server.bodies


def test_a_body_that_ends_too_early_is_judged_by_nobody(gate: Running, server: Server) -> None:
    with gate.dial("a.example", 80) as sock:
        sock.sendall(post(b"good")[:-1])
        sock.shutdown(socket.SHUT_WR)
        assert not gate.receive_all(sock)
    assert all(each.http is None for each in gate.egress.authorized)


def test_a_refusal_after_a_body_was_read_leaves_the_next_request_alone(
    gate: Running, server: Server
) -> None:
    async def none(verdict: EgressVerdict, request: object) -> None:
        raise EgressDenied("there is no such secret")

    authorize = gate.egress.authorize

    async def with_credential(request: EgressRequest) -> EgressVerdict:
        return attrs.evolve(await authorize(request), credential="c")

    gate.egress.add_credential = none  # type: ignore[method-assign,assignment]
    gate.egress.authorize = with_credential  # type: ignore[method-assign]
    with gate.dial("a.example", 80) as sock:
        sock.sendall(post(b"one") + post(b"two"))
        assert [status for status, _ in answers(sock, 2)] == [403, 403]
    assert [each.http.body for each in gate.egress.authorized if each.http] == [b"one", b"two"]


def test_a_server_that_fails_after_a_body_was_sent_leaves_the_next_request_alone(
    gate: Running,
) -> None:
    server = Server()

    def fail_once(sock: socket.socket) -> None:
        if upstream.accepted == 1:
            sock.recv(9999)
        else:
            server(sock)

    upstream = gate.upstream(fail_once)
    gate.egress.allow("a.example", 80, upstream.port, inspect=True)
    with gate.dial("a.example", 80) as sock:
        sock.sendall(post(b"one") + post(b"two"))
        assert [status for status, _ in answers(sock, 2)] == [502, 200]
    assert server.bodies == [b"two"]


def test_a_slow_body_is_given_up_and_the_client_told(start: Start) -> None:
    gate = start(first_bytes=1)
    gate.egress.allow("a.example", 80, 1, inspect=True)
    look(gate, lambda seen: True)
    socks = [gate.dial("a.example", 80) for _ in range(2)]
    for sock, whole in zip(socks, (post(b"good"), post(b"good", chunked=True)), strict=True):
        sock.sendall(whole[:-2])
    for sock in socks:
        ((status, body),) = answers(sock, 1)
        assert (status, json.loads(body)["error"]) == (408, "malformed_request")
        sock.sendall(b"d" * 5000)  # no reset for one who is still sending
        assert not gate.receive_all(sock)
        sock.close()
    assert [rule for _, rule, _ in gate.egress.denials] == ["malformed", "malformed"]


def test_bodies_and_messages_that_are_kept_are_bounded_over_all(start: Start) -> None:
    gate = start(held_bytes=1000)
    gate.egress.allow("a.example", 80, gate.upstream(Server()).port, inspect=True)
    look(gate, lambda seen: True)
    with gate.dial("a.example", 80) as first, gate.dial("a.example", 80) as second:
        first.sendall(post(b"x" * 900)[:-1])
        assert gate.until(lambda: held(gate) == 900)
        second.sendall(post(b"y" * 200))
        assert answers(second, 1)[0][0] == 503
        first.sendall(b"x")
        assert answers(first, 1)[0][0] == 200
        first.sendall(post(b"z" * 900))
        assert answers(first, 1)[0][0] == 200
    assert gate.until(lambda: held(gate) == 0)
    echo = Echo()
    gate.egress.allow("a.example", 80, gate.upstream(echo).port, inspect=True)
    client = opened(gate)
    client.say(text(b"x" * 900))
    assert client.read() == (TEXT, b"X" * 900)
    client.say(text(b"x" * 3000)[:1500])
    assert client.read()[1].startswith(b"\3\xf5")
    client.sock.close()
    assert gate.until(lambda: held(gate) == 0)


# ---- WebSocket


class Echo:
    """A WebSocket server that says in capitals what it was told, and counts."""

    def __init__(self) -> None:
        self.head = b""
        self.got: list[Message] = []
        self.after = b""

    def __call__(self, sock: socket.socket) -> None:
        self.head = b""
        while b"\r\n\r\n" not in self.head:
            self.head += sock.recv(9999)
        sock.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: y\r\n" + self.after + b"\r\n"
        )
        reader = MessageReader(1 << 20)
        while not reader.closed and (data := sock.recv(65536)):
            for message in reader.feed(data):
                self.got.append(message)
                opcode = PONG if message.opcode == PING else message.opcode
                sock.sendall(write_frame(opcode, message.data.upper(), mask=False))


@attrs.define
class Client:
    """What is inside: it has opened a WebSocket."""

    sock: socket.socket
    data: bytes = b""

    def read(self) -> tuple[int, bytes]:
        """The next frame; code and reason of a close frame."""
        while True:
            header = read_header(self.data)
            if isinstance(header, Header) and len(self.data) >= header.size + header.length:
                end = header.size + header.length
                body, self.data = self.data[header.size : end], self.data[end:]
                assert not header.masked
                return header.opcode, body
            piece = self.sock.recv(65536)
            if not piece:
                return -1, self.data
            self.data += piece

    def say(self, *frames: bytes) -> None:
        self.sock.sendall(b"".join(frames))


def opened(gate: Running, extra: bytes = b"") -> Client:
    sock = gate.dial("a.example", 80)
    sock.sendall(
        b"GET /live HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n" + extra + b"\r\n"
    )
    data = b""
    while b"\r\n\r\n" not in data:
        data += sock.recv(999)
    assert data.startswith(b"HTTP/1.1 101 ")
    return Client(sock, data.partition(b"\r\n\r\n")[2])


@pytest.fixture
def echo(gate: Running) -> Echo:
    echo = Echo()
    gate.egress.allow("a.example", 80, gate.upstream(echo).port, inspect=True)
    look(gate, lambda seen: b"bad" not in seen)
    return echo


def text(data: bytes) -> bytes:
    return write_frame(TEXT, data, mask=True)


def piece(opcode: int, data: bytes, *, final: bool) -> bytes:
    whole = bytearray(write_frame(opcode, data, mask=True))
    whole[0] = opcode | (128 if final else 0)
    return bytes(whole)


def test_each_message_is_judged_and_written_anew(gate: Running, echo: Echo) -> None:
    client = opened(gate, b"Sec-WebSocket-Extensions: permessage-deflate\r\n")
    assert b"extensions" not in echo.head.lower()
    client.say(text(b"one"), piece(TEXT, b"t", final=False), write_frame(PING, b"p", mask=True),
               piece(CONTINUATION, b"wo", final=True))  # fmt: skip
    assert [client.read() for _ in range(3)] == [(TEXT, b"ONE"), (PONG, b"P"), (TEXT, b"TWO")]
    big = "é".encode() * 200_000
    client.say(text(big))
    assert client.read() == (TEXT, big.upper())
    client.say(write_close(1000, "", mask=True))
    assert client.read() == (CLOSE, b"\3\xe8")
    assert client.read() == (-1, b"")
    said = [each.data for each in echo.got if each.opcode == TEXT]
    assert said == [b"one", b"two", big]  # whole, however they came
    asked = [each.http for each in gate.egress.authorized if each.http is not None]
    assert [each.message for each in asked] == [None, *said]
    assert all(each.websocket and each.path == "/live" for each in asked)
    assert gate.until(lambda: gate.service.connections == 0)
    client.sock.close()


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (text(b"bad"), 1008),
        (piece(TEXT, b"b", final=False) + piece(CONTINUATION, b"ad", final=True), 1008),
        (write_frame(BINARY, b"good", mask=True), 1003),
        (write_frame(TEXT, b"good", mask=False), 1002),
        (text(b"\xff"), 1007),
        (text(b"x" * ((1 << 20) + 1))[:20], 1009),
    ],
    ids=["denied", "denied in pieces", "binary", "unmasked", "not UTF-8", "too large"],
)
def test_a_message_that_may_not_be_sent_ends_it(
    gate: Running, echo: Echo, said: bytes, code: int
) -> None:
    client = opened(gate)
    client.say(text(b"good"))
    assert client.read() == (TEXT, b"GOOD")
    client.say(text(b"better"), said, text(b"late"))
    opcode, reason = client.read()
    if (opcode, reason) == (TEXT, b"BETTER"):  # the server may have been in time to say that
        opcode, reason = client.read()
    assert (opcode, int.from_bytes(reason[:2], "big")) == (CLOSE, code)
    assert client.read()[0] == -1
    client.sock.close()
    assert gate.until(lambda: gate.service.connections == 0)
    # The server reads in a thread of its own.
    assert gate.until(lambda: sum(each.opcode == TEXT for each in echo.got) == 2)
    assert [each.data for each in echo.got if each.opcode == TEXT] == [b"good", b"better"]
    if code == 1008:
        assert reason[2:] == b"rpc: not that"
        assert not gate.egress.denials  # the core has written the event
    else:
        assert [rule for _, rule, _ in gate.egress.denials] == ["malformed"]


def test_a_server_that_agrees_on_what_nobody_asked_for_is_refused(
    gate: Running, echo: Echo
) -> None:
    echo.after = b"Sec-WebSocket-Extensions: permessage-deflate\r\n"
    with pytest.raises(AssertionError):
        opened(gate)


@pytest.mark.parametrize("size", [100, 40_000, 300_000])
def test_a_refusal_never_stands_inside_of_a_servers_frame(gate: Running, size: int) -> None:
    """While a frame of the server's is on its way, there is no place for a close frame."""

    whole = write_frame(TEXT, b"s" * size, mask=False)

    def stuck(sock: socket.socket) -> None:
        sock.recv(9999)
        sock.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
            + whole[:-5]
        )
        while sock.recv(999):
            pass

    gate.egress.allow("a.example", 80, gate.upstream(stuck).port, inspect=True)
    look(gate, lambda seen: False)
    client = opened(gate)
    if size > 32768:
        while len(client.data) < len(whole) - 5:
            client.data += client.sock.recv(65536)
    client.say(text(b"x"))
    rest = client.data + gate.receive_all(client.sock)
    client.sock.close()
    if size > 32768:
        assert rest == whole[:-5]
    else:
        assert rest[:2] == b"\x88\x0f"
        assert rest[2:] == b"\x03\xf0rpc: not that"


def test_a_reload_that_looks_into_messages_cuts_what_was_not_looked_into(gate: Running) -> None:
    echo = Echo()
    gate.egress.allow("a.example", 80, gate.upstream(echo).port, inspect=True)
    before = opened(gate)
    before.say(text(b"bad"))
    assert before.read() == (TEXT, b"BAD")
    look(gate, lambda seen: b"bad" not in seen)
    after = opened(gate)
    gate.egress.generation += 1
    gate.wait(gate.service.reload())
    after.say(text(b"good"))
    assert after.read() == (TEXT, b"GOOD")
    before.sock.settimeout(5)
    with pytest.raises(ConnectionResetError):
        before.sock.recv(1)
    before.sock.close()
    after.sock.close()


@pytest.mark.parametrize(
    "head",
    [
        b"POST /live HTTP/1.1\r\nHost: a.example\r\nContent-Length: 2\r\n",
        b"GET /live HTTP/1.1\r\nHost: a.example\r\nContent-Length: 2\r\n",
    ],
)
def test_a_websocket_is_asked_for_by_get_without_a_body(
    gate: Running, echo: Echo, head: bytes
) -> None:
    answer = gate.ask(
        head.replace(b" /live", b" http://a.example/live")
        + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\nhi"
    )
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert not echo.head


def test_a_server_that_ends_ends_it_for_the_client_too(gate: Running) -> None:
    def bye(sock: socket.socket) -> None:
        sock.recv(9999)
        sock.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
            + write_frame(TEXT, b"bye", mask=False)
            + write_close(1001, "", mask=False)
        )

    gate.egress.allow("a.example", 80, gate.upstream(bye).port, inspect=True)
    look(gate, lambda seen: True)
    client = opened(gate)
    assert [client.read() for _ in range(3)] == [(TEXT, b"bye"), (CLOSE, b"\3\xe9"), (-1, b"")]
    client.sock.close()
    assert gate.until(lambda: gate.service.connections == 0)


def test_masks_differ(gate: Running, echo: Echo) -> None:
    """A server's proxies must not see octets that a client has chosen (RFC 6455 section 10.3)."""
    frames = {write_frame(TEXT, b"GET / HTTP/1.1", mask=True) for _ in range(8)}
    assert len(frames) == 8
    assert all(masked(each[6:], each[2:6]) == b"GET / HTTP/1.1" for each in frames)
    began = time.monotonic()
    data = b"x" * (1 << 20)
    masked(data, b"abcd")
    assert time.monotonic() - began < 1
