"""SOCKS: what is asked for, what is refused, and in which words."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nemoclaw_plugin_netns.proxy.socks import (
    CONNECTION_REFUSED,
    SUCCEEDED,
    SocksRequest,
    SocksServer,
    reply,
)

GREETING = b"\5\1\0"
NAME = b"\5\1\0\3\x0fapi.example.org\x01\xbb"
FAILED, FORBIDDEN, NO_COMMAND, NO_ADDRESS = (
    b"\5" + bytes([code]) + b"\0\1" + bytes(6) for code in (1, 2, 7, 8)
)


def feed(data: bytes, size: int = 0) -> tuple[SocksServer, bytes]:
    """Everything at once, or in pieces of a size, as long as the server wants more."""
    server = SocksServer()
    sent = b""
    for at in range(0, len(data), size or len(data) or 1):
        if server.state != "reading":
            break
        sent += server.feed(data[at : at + size] if size else data)
    return server, sent


REQUESTS: dict[bytes, SocksRequest] = {
    NAME: SocksRequest("api.example.org", 443),
    b"\5\1\0\1\xc6\x12\0\1\0\x50": SocksRequest("198.18.0.1", 80),
    b"\5\1\0\4" + bytes(15) + b"\1\0\x50": SocksRequest("::1", 80),
    b"\5\1\0\4" + bytes(10) + b"\xff\xff\x7f\0\0\1\0\x50": SocksRequest("::ffff:7f00:1", 80),
    b"\5\1\0\3\x0a2130706433\0\x50": SocksRequest("2130706433", 80),
    b"\5\1\0\3\x05[::1]\0\x50": SocksRequest("[::1]", 80),
    b"\5\1\0\3\xff" + b"a" * 255 + b"\0\x50": SocksRequest("a" * 255, 80),
}


@pytest.mark.parametrize("size", [0, 1, 3])
@pytest.mark.parametrize("greeting", [GREETING, b"\5\3\2\1\0", b"\5\xff" + bytes(range(255))])
@pytest.mark.parametrize("data", REQUESTS)
def test_connect_is_understood(data: bytes, greeting: bytes, size: int) -> None:
    server, sent = feed(greeting + data, size)
    assert (server.state, server.request, sent) == ("requested", REQUESTS[data], b"\5\0")
    assert server.rest == b""


def test_mapped_addresses_stay_what_they_are() -> None:
    """Python writes the last 32 bits in either spelling; the meaning is what counts."""
    server, _ = feed(GREETING + b"\5\1\0\4" + bytes(10) + b"\xff\xff\x7f\0\0\1\0\x50")
    assert server.request is not None
    packed = socket.inet_pton(socket.AF_INET6, server.request.host)
    assert packed == bytes(10) + b"\xff\xff\x7f\0\0\1"


def test_what_is_sent_ahead_is_kept_for_the_other_end() -> None:
    server, _ = feed(GREETING + NAME + b"\x16\3\1")
    assert server.rest == b"\x16\3\1"


REFUSED: dict[str, tuple[bytes, bytes]] = {
    "another protocol": (b"GET / HTTP/1.1\r\n", b""),
    "no way without a password": (b"\5\2\1\2", b"\5\xff"),
    "no way at all": (b"\5\0", b"\5\xff"),
    "BIND": (GREETING + b"\5\2" + NAME[2:], b"\5\0" + NO_COMMAND),
    "UDP ASSOCIATE": (GREETING + b"\5\3" + NAME[2:], b"\5\0" + NO_COMMAND),
    "Tor's RESOLVE": (GREETING + b"\5\xf0" + NAME[2:], b"\5\0" + NO_COMMAND),
    "another version in the request": (GREETING + b"\4" + NAME[1:], b"\5\0" + FAILED),
    "a reserved octet": (GREETING + b"\5\1\1" + NAME[3:], b"\5\0" + FAILED),
    "an unknown address": (GREETING + b"\5\1\0\2" + bytes(6), b"\5\0" + NO_ADDRESS),
    "an empty name": (GREETING + b"\5\1\0\3\0\0\x50", b"\5\0" + FAILED),
    "a zero octet": (GREETING + b"\5\1\0\3\x03a\0b\0\x50", b"\5\0" + FAILED),
    "a line break": (GREETING + b"\5\1\0\3\x03a\nb\0\x50", b"\5\0" + FAILED),
    "a user in the name": (GREETING + b"\5\1\0\3\x03a@b\0\x50", b"\5\0" + FAILED),
    "a name that is not ASCII": (GREETING + b"\5\1\0\3\x02\xc3\xa9\0\x50", b"\5\0" + FAILED),
    "port 0": (GREETING + NAME[:-2] + b"\0\0", b"\5\0" + FORBIDDEN),
    "SOCKS4": (b"\4\1\0\x50\xc6\x12\0\1user\0", b"\0\x5b" + bytes(6)),
    "SOCKS4a": (b"\4\1\0\x50\0\0\0\1\0api.example.org\0", b"\0\x5b" + bytes(6)),
    "SOCKS4 without end": (b"\4\1\0\x50\xc6\x12\0\1" + b"u" * 600, b"\0\x5b" + bytes(6)),
}


@pytest.mark.parametrize("size", [0, 1])
@pytest.mark.parametrize("name", REFUSED)
def test_everything_else_is_refused_in_its_own_words(name: str, size: int) -> None:
    data, answer = REFUSED[name]
    server, sent = feed(data, size)
    assert (server.state, sent) == ("refused", answer)
    assert server.reason


def test_a_refusal_says_where_it_should_have_gone_if_that_is_known() -> None:
    assert feed(REFUSED["SOCKS4a"][0])[0].request == SocksRequest("api.example.org", 80)
    assert feed(REFUSED["SOCKS4"][0])[0].request == SocksRequest("198.18.0.1", 80)
    assert feed(REFUSED["BIND"][0])[0].request == SocksRequest("api.example.org", 443)


def test_a_server_that_is_done_takes_no_more() -> None:
    server, _ = feed(GREETING + NAME)
    with pytest.raises(ValueError, match="after the end"):
        server.feed(b"x")


def test_replies_are_as_the_rfc_has_them() -> None:
    assert reply(SUCCEEDED) == b"\5\0\0\1" + bytes(6)
    assert reply(CONNECTION_REFUSED) == b"\5\5\0\1" + bytes(6)
    assert reply(SUCCEEDED, "::1", 80) == b"\5\0\0\4" + bytes(15) + b"\1\0\x50"


@pytest.mark.parametrize("scheme", ["socks5h", "socks5", "socks4", "socks4a"])
def test_curl_speaks_it(scheme: str) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl")
    servers: list[SocksServer] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)

        def accept() -> None:
            client, _ = listener.accept()
            with client:
                client.settimeout(10)
                server = SocksServer()
                while server.state == "reading":
                    client.sendall(server.feed(client.recv(7)))
                servers.append(server)
                if server.state == "requested":
                    client.sendall(reply(SUCCEEDED))
                    client.recv(4096)
                    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")

        thread = threading.Thread(target=accept)
        thread.start()
        host = "api.example.org" if scheme in ("socks5h", "socks4a") else "198.18.0.1"
        done = subprocess.run(
            ["curl", "-s", "-m", "10", "-x", f"{scheme}://127.0.0.1:{listener.getsockname()[1]}",
             "--noproxy", "", f"http://{host}:8080/"],
            capture_output=True, text=True, timeout=30,
        )  # fmt: skip
        thread.join()
    assert servers[0].request == SocksRequest(host, 8080)
    if scheme.startswith("socks5"):
        assert done.stdout == "hi"
    else:
        assert done.returncode != 0
        assert done.returncode != 28  # no time-out: it was told


@given(st.binary(max_size=800), st.sampled_from([b"", b"\5\1\0", b"\5\1\0\5\1\0\3", b"\4\1"]))
def test_any_bytes_end_in_a_state(data: bytes, head: bytes) -> None:
    whole, sent = feed(head + data)
    pieces, sent_in_pieces = feed(head + data, 1)
    assert (whole.state, whole.request, whole.reason) == (
        pieces.state,
        pieces.request,
        pieces.reason,
    )
    assert sent == sent_in_pieces
    assert len(sent) <= 2 + 10
