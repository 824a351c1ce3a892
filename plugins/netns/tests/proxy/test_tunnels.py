"""Connections whose bytes pass through, and the names in their TLS hellos."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING

import pytest
from nemoclaw_plugin_netns.proxy.authority import Authority

if TYPE_CHECKING:
    from plugins.netns.tests.proxy.conftest import Running, Start


def _echo(sock: socket.socket) -> None:
    while data := sock.recv(65536):
        sock.sendall(data)
    sock.sendall(b"bye")


def _hello(name: str | None) -> bytes:
    """A ClientHello as OpenSSL sends it."""
    context = ssl.create_default_context()
    context.check_hostname = False
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def _connected(gate: Running, how: str, host: str, port: int) -> socket.socket:
    """A connection to a host by one of the ways that there are."""
    if how == "transparent":
        return gate.dial(host, port)
    sock = gate.connect()
    if how == "connect":
        sock.sendall(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        assert sock.recv(999) == b"HTTP/1.1 200 Connection established\r\n\r\n"
    else:
        sock.sendall(b"\x05\x01\x00")
        assert sock.recv(2) == b"\x05\x00"
        name = host.encode()
        sock.sendall(b"\x05\x01\x00\x03" + bytes((len(name),)) + name + port.to_bytes(2, "big"))
        assert sock.recv(99)[:2] == b"\x05\x00"
    return sock


WAYS = ("transparent", "connect", "socks")


@pytest.mark.parametrize("how", WAYS)
def test_bytes_pass_and_half_closed_connections_live(gate: Running, how: str) -> None:
    gate.egress.allow("a.example", 22, gate.upstream(_echo).port)
    with _connected(gate, how, "a.example", 22) as sock:
        sock.sendall(b"hello")
        assert sock.recv(99) == b"hello"
        sock.shutdown(socket.SHUT_WR)
        assert gate.receive_all(sock) == b"bye"
    assert gate.until(lambda: gate.service.connections == 0)


def test_the_server_may_speak_first_and_end_first(gate: Running) -> None:
    got = []

    def serve(sock: socket.socket) -> None:
        sock.sendall(b"220 hello\r\n")
        sock.shutdown(socket.SHUT_WR)
        while data := sock.recv(99):
            got.append(data)

    gate.egress.allow("a.example", 25, gate.upstream(serve).port)
    with gate.dial("a.example", 25) as sock:
        assert gate.receive_all(sock) == b"220 hello\r\n"
        sock.sendall(b"QUIT")
        assert gate.until(lambda: got == [b"QUIT"])
    assert gate.until(lambda: gate.service.connections == 0)


def test_a_reset_reaches_the_other_side(gate: Running) -> None:
    seen: list[str] = []

    def serve(sock: socket.socket) -> None:
        sock.sendall(b"x")
        try:
            sock.recv(99)
            seen.append("end")
        except ConnectionResetError:
            seen.append("reset")

    gate.egress.allow("a.example", 22, gate.upstream(serve).port)
    sock = gate.dial("a.example", 22)
    assert sock.recv(1) == b"x"
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()
    assert gate.until(lambda: seen == ["reset"])


def test_a_slow_reader_stops_the_sender(gate: Running) -> None:
    sent = []

    def pour(sock: socket.socket) -> None:
        sock.recv(1)
        sock.settimeout(0.5)
        try:
            while True:
                sent.append(sock.send(bytes(65536)))
        except TimeoutError:
            sent.append(-1)

    gate.egress.allow("a.example", 22, gate.upstream(pour).port)
    with gate.dial("a.example", 22) as sock:
        sock.sendall(b"x")
        assert gate.until(lambda: sent[-1:] == [-1])
        total = sum(sent) + 1
        assert total < 24 << 20
        time.sleep(0.1)
        found = 0
        while found < total and (data := sock.recv(1 << 20)):
            found += len(data)
        assert found == total


def test_large_streams_arrive_whole_both_ways_at_once(gate: Running) -> None:
    size = 16 << 20
    gate.egress.allow("a.example", 22, gate.upstream(_echo).port)
    data = bytes(range(256)) * (size // 256)
    with gate.dial("a.example", 22) as sock:

        def send() -> None:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)

        threading.Thread(target=send, daemon=True).start()
        assert gate.receive_all(sock) == data + b"bye"


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("port", [443, 8443])
def test_tls_passes_when_its_name_is_that_of_the_connection(
    gate: Running, authority: Authority, how: str, port: int
) -> None:
    server = gate.upstream(_echo, authority.context("a.example"))
    gate.egress.allow("a.example", port, server.port)
    trust = ssl.create_default_context(cadata=authority.ca_certificate.decode())
    raw = _connected(gate, how, "a.example", port)
    with trust.wrap_socket(raw, server_hostname="a.example") as sock:
        sock.sendall(b"hello")
        assert sock.recv(99) == b"hello"


def test_a_hello_in_pieces(gate: Running, authority: Authority) -> None:
    got = []

    def serve(sock: socket.socket) -> None:
        while data := sock.recv(9999):
            got.append(data)

    gate.egress.allow("a.example", 443, gate.upstream(serve).port)
    hello = _hello("a.example")
    with gate.dial("a.example", 443) as sock:
        for at in range(0, len(hello), 50):
            sock.sendall(hello[at : at + 50])
            time.sleep(0.01)
        assert gate.until(lambda: b"".join(got) == hello)


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("inspect", [False, True])
@pytest.mark.parametrize(
    ("first", "rule"),
    [
        (_hello("b.example"), "sni-mismatch"),
        (_hello("a.example.evil.example"), "sni-mismatch"),
        (_hello(None), "sni-missing"),
        (b"\x16\x03\x01\x00\x00", "tls-hello"),
        (b"\x16\x03\x01\x00\x05\x02aaaa", "tls-hello"),
    ],
    ids=["other", "longer", "none", "empty", "no hello"],
)
def test_other_names_in_the_hello_are_refused(
    gate: Running, how: str, first: bytes, rule: str, inspect: bool
) -> None:
    got = []

    def serve(sock: socket.socket) -> None:
        while data := sock.recv(9999):
            got.append(data)

    gate.egress.allow("a.example", 443, gate.upstream(serve).port, inspect=inspect)
    with _connected(gate, how, "a.example", 443) as sock:
        sock.sendall(first)
        assert gate.receive_all(sock) == b""
    assert gate.egress.denials == [("a.example", rule, gate.egress.denials[0][2])]
    assert got == []
    assert gate.until(lambda: gate.service.connections == 0)


def test_port_443_carries_tls_only(gate: Running) -> None:
    gate.egress.allow("a.example", 443, gate.upstream(_echo).port)
    with gate.dial("a.example", 443) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: b.example\r\n\r\n")
        assert gate.receive_all(sock) == b""
    assert [rule for _, rule, _ in gate.egress.denials] == ["not-tls"]


WARNING = b"\x15\x03\x03\x00\x02\x01\x70"
"""unrecognized_name, as OpenSSL's server may say before it answers."""


@pytest.mark.parametrize("warnings", [0, 1, 20])
def test_a_second_hello_for_another_server_is_refused(gate: Running, warnings: int) -> None:
    """After a HelloRetryRequest some servers look at the second hello's name alone."""
    retry = (
        WARNING * warnings
        + b"\x16\x03\x03\x00\x38\x02\x00\x00\x34\x03\x03"
        + bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
    )
    retry += b"\x00\x13\x01\x00\x00\x0c\x00\x2b\x00\x02\x03\x04\x00\x33\x00\x02\x00\x17"
    got: list[bytes] = []

    def serve(sock: socket.socket) -> None:
        got.append(sock.recv(9999))
        sock.sendall(retry)
        while data := sock.recv(9999):
            got.append(data)

    gate.egress.allow("a.example", 443, gate.upstream(serve).port)
    first = _hello("a.example")
    for second, passes in ((_hello("b.example"), False), (_hello("a.example"), True)):
        got.clear()
        with gate.dial("a.example", 443) as sock:
            sock.sendall(first + second)  # sent ahead: it must not slip through with the first
            if passes:
                assert gate.until(lambda: len(b"".join(got)) == len(first) * 2)
                assert b"".join(got) == first + second
                assert sock.recv(999) == retry
            else:
                gate.receive_all(sock)
                assert b"".join(got) == first
    assert [rule for _, rule, _ in gate.egress.denials] == ["sni-mismatch"]


@pytest.mark.parametrize(
    "answer",
    [
        b"220 ready\r\n",
        b"\x14\x03\x03\x00\x01\x01",
        b"\x16\x03\x03\x00\x04\x00\x00\x00\x00",
        WARNING * 200,
    ],
    ids=["text", "change of cipher", "HelloRequest", "warnings without end"],
)
def test_a_server_that_answers_no_hello_hears_no_second_one(gate: Running, answer: bytes) -> None:
    """Whatever could hide a HelloRetryRequest."""
    got: list[bytes] = []

    def serve(sock: socket.socket) -> None:
        got.append(sock.recv(9999))
        sock.sendall(answer)
        while data := sock.recv(9999):
            got.append(data)

    gate.egress.allow("a.example", 443, gate.upstream(serve).port)
    first = _hello("a.example")
    with gate.dial("a.example", 443) as sock:
        sock.sendall(first + _hello("b.example"))
        gate.receive_all(sock)
    assert b"".join(got) == first
    assert [rule for _, rule, _ in gate.egress.denials] == ["tls-hello"]


BEHIND_A_WARNING = WARNING + _hello("b.example")
OLD_HELLO = bytes.fromhex("802e010301001500000010") + bytes(37)


@pytest.mark.parametrize("port", [443, 8443])
@pytest.mark.parametrize(
    ("first", "rule"),
    [
        (BEHIND_A_WARNING, "tls-hello"),
        (b"\x14\x03\x03\x00\x01\x01" + _hello("b.example"), "tls-hello"),
        (b"\x17\x03\x03\x00\x01\x01" + _hello("b.example"), "tls-hello"),
        (OLD_HELLO, "tls-hello"),
        (_hello("b.example"), "sni-mismatch"),
        (_hello(None), "sni-missing"),
    ],
    ids=["warning", "change of cipher", "early data", "SSL 2.0", "other name", "no name"],
)
def test_whatever_a_client_does_its_first_words_are_a_hello_for_that_server(
    gate: Running, first: bytes, rule: str, port: int
) -> None:
    got: list[bytes] = []

    def serve(sock: socket.socket) -> None:
        while data := sock.recv(9999):
            got.append(data)

    gate.egress.allow("a.example", port, gate.upstream(serve).port)
    for size in (1, 6, 10000):
        gate.egress.denials.clear()
        with gate.dial("a.example", port) as sock:
            try:
                for at in range(0, min(len(first), 600), size):
                    sock.sendall(first[at : at + size])
                sock.sendall(first[600:])
            except OSError:
                pass  # refused before it had said all
            assert gate.receive_all(sock) == b""
        assert gate.until(lambda: [each[1] for each in gate.egress.denials] == [rule])
    assert got == []


@pytest.mark.parametrize("first", [b"\x15\x00", b"\x80", b"\x80\x2e\x02\x03\x01"])
def test_other_protocols_pass_on_other_ports(gate: Running, first: bytes) -> None:
    gate.egress.allow("a.example", 9000, gate.upstream(_echo).port)
    with gate.dial("a.example", 9000) as sock:
        sock.sendall(first)
        if first == b"\x80":  # it could become a hello, and does not
            sock.shutdown(socket.SHUT_WR)
        assert sock.recv(99).startswith(first)


def test_encrypted_hellos_do_not_pass(gate: Running) -> None:
    hello = bytearray(_hello("a.example"))
    ech = b"\xfe\x0d\x00\x04\x01abc"
    at = 9 + 2 + 32  # record and message headers, version, random
    at += 1 + hello[at]
    at += 2 + int.from_bytes(hello[at : at + 2], "big")
    at += 1 + hello[at]
    hello[at : at + 2] = (int.from_bytes(hello[at : at + 2], "big") + len(ech)).to_bytes(2, "big")
    hello += ech
    hello[3:5] = (len(hello) - 5).to_bytes(2, "big")
    hello[6:9] = (len(hello) - 9).to_bytes(3, "big")
    gate.egress.allow("a.example", 443, gate.upstream(_echo).port)
    with gate.dial("a.example", 443) as sock:
        sock.sendall(hello)
        assert gate.receive_all(sock) == b""
    assert [rule for _, rule, _ in gate.egress.denials] == ["ech"]


def test_a_literal_address_needs_no_name_but_no_other(gate: Running) -> None:
    got: list[bytes] = []
    gate.egress.allow("192.0.2.7", 443, gate.upstream(lambda s: got.append(s.recv(9999))).port)
    with gate.dial("192.0.2.7", 443) as sock:
        sock.sendall(_hello("b.example"))
        assert gate.receive_all(sock) == b""
    assert [rule for _, rule, _ in gate.egress.denials] == ["sni-mismatch"]
    hello = _hello(None)
    with gate.dial("192.0.2.7", 443) as sock:
        sock.sendall(hello)
        assert gate.receive_all(sock) == b""
    assert got == [hello]


@pytest.mark.parametrize("how", WAYS)
def test_denied(gate: Running, how: str) -> None:
    if how == "transparent":
        with gate.dial("no.example", 443) as sock:
            assert gate.receive_all(sock) == b""
    else:
        with pytest.raises(AssertionError):  # the proxy does not say that it is connected
            _connected(gate, how, "no.example", 443)
    assert gate.egress.dials == 0


@pytest.mark.parametrize("pieces", [1, 7, 10000])
def test_a_client_that_knows_no_proxy_and_speaks_http_can_read_why(
    gate: Running, pieces: int
) -> None:
    request = b"POST /x HTTP/1.1\r\nHost: no.example\r\nContent-Length: 5\r\n\r\nhello"
    with gate.dial("no.example", 80) as sock:
        for at in range(0, len(request), pieces):
            sock.sendall(request[at : at + pieces])
        head, _, body = gate.receive_all(sock).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 403 ")
    assert json.loads(body)["rule"] == "no-rule"
    with gate.dial("no.example", 80) as sock:
        sock.sendall(b"HEAD / HTTP/1.0\r\n\r\n")
        assert gate.receive_all(sock).endswith(b"\r\n\r\n")


def test_so_can_one_whose_server_is_not_there(gate: Running) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        gate.egress.allow("a.example", 80, closed.getsockname()[1])
    with gate.dial("a.example", 80) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
        assert b"upstream_unreachable" in gate.receive_all(sock)


def test_a_client_that_speaks_tls_gets_an_alert(gate: Running) -> None:
    context = ssl.create_default_context()
    with gate.dial("no.example", 8443) as sock, pytest.raises(ssl.SSLError, match=r"ACCESS_DENIED"):
        context.wrap_socket(sock, server_hostname="no.example")


@pytest.mark.parametrize(
    ("first", "least"),
    [
        (b"", 0.1),  # waits for the server to speak
        (b"SSH-2.0-x\r\n", 0),
        (b"EHLO x\r\n", 0),
        (b"GET / HTTP/2.0\r\n\r\n", 0),
        (b"GET /" + b"x" * 5000, 0),
        (b"\x16\x00", 0),
        (b"GET / HTTP/1.1", 0.1),  # and never ends its line
    ],
)
def test_nobody_else_is_kept_waiting(gate: Running, first: bytes, least: float) -> None:
    with gate.dial("no.example", 25) as sock:
        began = time.monotonic()
        try:
            sock.sendall(first)
        except OSError:
            pass  # refused before it had said all
        assert gate.receive_all(sock) == b""
        assert least * 0.9 <= time.monotonic() - began < least + 1
    assert gate.until(lambda: gate.service.connections == 0)


@pytest.mark.parametrize(
    "first",
    [
        b"CONNECT a.example:22 HTTP/1.1\r\nHost: b.example:22\r\n\r\n",
        b"CONNECT a.example HTTP/1.1\r\nHost: a.example\r\n\r\n",
        b"CONNECT user@a.example:22 HTTP/1.1\r\nHost: a.example:22\r\n\r\n",
        b"CONNECT a.example:22 HTTP/1.1\r\nHost: a.example:22\r\nContent-Length: 3\r\n\r\nabc",
        b"CONNECT a.example:22 HTTP/1.1\nHost: a.example:22\n\n",
        b"CONNECT http://a.example:22/ HTTP/1.1\r\nHost: a.example:22\r\n\r\n",
        b"CONNECT a.example:22\r\n\r\n",
        b"CONNECT " + b"a" * 70000,
        b"\x16\x03\x01",
        b"\x04\x01\x00\x16\x00\x00\x00\x01\x00a.example\x00",
        b"\x05\x01\x02",
        b"\x05\x01\x00\x05\x02\x00\x03\x09a.example\x00\x16",
        b"\x00" * 100,
    ],
)
def test_what_a_proxy_does_not_understand_reaches_nobody(gate: Running, first: bytes) -> None:
    gate.egress.allow("a.example", 22, gate.upstream(_echo).port)
    with gate.connect() as sock:
        sock.sendall(first)
        answer = gate.receive_all(sock)
    assert b" 200 " not in answer
    assert gate.egress.dials == 0
    assert len(gate.egress.denials) == 1
    assert gate.until(lambda: gate.service.connections == 0)


def test_a_connection_to_the_gates_own_port_is_no_loop(gate: Running) -> None:
    gate.egress.allow("127.0.0.1", gate.tcp_port, gate.tcp_port)
    with gate.dial("127.0.0.1", gate.tcp_port) as sock:
        assert gate.receive_all(sock) == b""
    assert [rule for _, rule, _ in gate.egress.denials] == ["proxy-loop"]


def test_reload_cuts_one_of_two(gate: Running) -> None:
    upstream = gate.upstream(_echo)
    gate.egress.allow("a.example", 22, upstream.port)
    gate.egress.allow("b.example", 22, upstream.port)
    with (
        _connected(gate, "connect", "a.example", 22) as one,
        _connected(gate, "transparent", "b.example", 22) as two,
    ):
        for sock in (one, two):
            sock.sendall(b"hello")
            assert sock.recv(99) == b"hello"
        del gate.egress.rules["a.example", 22]
        gate.egress.generation += 1
        gate.wait(gate.service.reload())
        with pytest.raises(ConnectionResetError):
            one.recv(99)
        two.sendall(b"still")
        assert two.recv(99) == b"still"
        assert gate.service.connections == 1


def test_reload_cuts_a_tunnel_that_must_be_looked_into_now(gate: Running) -> None:
    gate.egress.allow("a.example", 8080, gate.upstream(_echo).port)
    with gate.dial("a.example", 8080) as sock:
        sock.sendall(b"hello")
        assert sock.recv(99) == b"hello"
        gate.egress.rules["a.example", 8080].inspect = True
        gate.wait(gate.service.reload())
        with pytest.raises(ConnectionResetError):
            sock.recv(99)


@pytest.mark.parametrize("when", ["slow", "dial_slow"])
def test_reload_counts_for_connections_that_are_being_made(gate: Running, when: str) -> None:
    setattr(gate.egress, when, 0.4)
    gate.egress.allow("a.example", 22, gate.upstream(_echo).port)
    with gate.dial("a.example", 22) as sock:
        time.sleep(0.1)
        gate.egress.generation += 1
        del gate.egress.rules["a.example", 22]
        gate.wait(gate.service.reload())
        assert gate.receive_all(sock) == b""
    assert gate.until(lambda: gate.service.connections == 0)


def test_reload_of_many_connections_is_quick(gate: Running) -> None:
    upstream = gate.upstream(_echo)
    gate.egress.allow("a.example", 22, upstream.port)
    gate.egress.allow("b.example", 22, upstream.port)
    socks = [gate.dial("ab"[i % 2] + ".example", 22) for i in range(200)]
    assert gate.until(lambda: upstream.accepted == 200)
    for sock in socks:
        sock.sendall(b"x")
        assert sock.recv(9) == b"x"
    del gate.egress.rules["a.example", 22]
    began = time.monotonic()
    gate.wait(gate.service.reload())
    assert time.monotonic() - began < 0.5
    for i, sock in enumerate(socks):
        if i % 2:
            sock.sendall(b"y")
            assert sock.recv(9) == b"y"
        else:
            with pytest.raises(ConnectionResetError):
                sock.recv(9)
        sock.close()


def test_idle_tunnels_end(start: Start) -> None:
    gate = start(idle=1)
    gate.egress.allow("a.example", 22, gate.upstream(_echo).port)
    with gate.dial("a.example", 22) as sock:
        for _ in range(4):
            time.sleep(0.5)
            sock.sendall(b"x")
            assert sock.recv(9) == b"x"
        with pytest.raises(ConnectionResetError):
            sock.recv(9)


def test_a_client_that_sends_no_hello_is_given_up(start: Start) -> None:
    gate = start(first_bytes=1)
    gate.egress.allow("a.example", 443, gate.upstream(_echo).port)
    for how in WAYS:
        for sent in (b"", b"\x16", _hello("a.example")[:100]):
            with _connected(gate, how, "a.example", 443) as sock:
                sock.sendall(sent)
                assert gate.receive_all(sock) == b""
    assert gate.until(lambda: gate.service.connections == 0)


def test_connections_are_limited(start: Start) -> None:
    gate = start(connections=3)
    gate.egress.allow("a.example", 22, gate.upstream(_echo).port)
    socks = [gate.dial("a.example", 22) for _ in range(3)]
    for sock in socks:
        sock.sendall(b"x")
        assert sock.recv(9) == b"x"
    try:
        with gate.connect() as sock:
            assert gate.receive_all(sock) == b""
    except ConnectionResetError:  # that early
        pass
    for sock in socks:
        sock.close()
    assert gate.until(lambda: gate.service.connections == 0)
    with gate.dial("a.example", 22) as sock:
        sock.sendall(b"x")
        assert sock.recv(9) == b"x"


def test_close_cuts_everything(start: Start) -> None:
    gate = start()
    gate.egress.allow("a.example", 22, gate.upstream(_echo).port)
    with gate.dial("a.example", 22) as sock, gate.connect() as other:
        sock.sendall(b"x")
        assert sock.recv(9) == b"x"
        gate.wait(gate.service.close())
        assert gate.receive_all(sock) == b""
        assert gate.receive_all(other) == b""
