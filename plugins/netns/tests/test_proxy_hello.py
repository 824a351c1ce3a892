"""ClientHellos: of real programs, in every fragmentation, and of those who want to be misread."""

from __future__ import annotations

import shutil
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nemoclaw_plugin_netns.proxy.hello import (
    ClientHello,
    HelloError,
    HelloReader,
    NotTls,
    is_old_hello,
    is_retry,
    read_hello,
)


def real(
    host: str | None = "api.example.org",
    alpn: tuple[str, ...] = ("h2", "http/1.1"),
    curve: str = "",
) -> bytes:
    """What OpenSSL sends first."""
    context = ssl.create_default_context()
    context.check_hostname = False
    if curve:
        context.set_ecdh_curve(curve)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    outgoing = ssl.MemoryBIO()
    connection = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=host)
    with pytest.raises(ssl.SSLWantReadError):
        connection.do_handshake()
    return outgoing.read()


def vector(width: int, data: bytes) -> bytes:
    return len(data).to_bytes(width, "big") + data


def extension(kind: int, data: bytes) -> bytes:
    return struct.pack("!H", kind) + vector(2, data)


def name_list(*names: bytes, kind: int = 0) -> bytes:
    return vector(2, b"".join(bytes([kind]) + vector(2, name) for name in names))


SNI = extension(0, name_list(b"api.example.org"))


def body(
    extensions: bytes | None = SNI,
    *,
    version: bytes = b"\3\3",
    session: bytes = b"",
    suites: bytes = b"\x13\x01",
    compression: bytes = b"\0",
    tail: bytes = b"",
) -> bytes:
    data = version + bytes(32) + vector(1, session) + vector(2, suites) + vector(1, compression)
    return data + (b"" if extensions is None else vector(2, extensions)) + tail


def message(data: bytes, kind: int = 1) -> bytes:
    return bytes([kind]) + vector(3, data)


def records(data: bytes, size: int = 16384, kind: int = 22) -> bytes:
    return b"".join(
        bytes([kind, 3, 1]) + vector(2, data[at : at + size]) for at in range(0, len(data), size)
    )


def hello(extensions: bytes | None = SNI) -> bytes:
    return records(message(body(extensions)))


def test_openssls_hello_is_read() -> None:
    assert read_hello(real()) == ClientHello("api.example.org", ("h2", "http/1.1"), False)
    assert read_hello(real(None, ())) == ClientHello(None, (), False)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
def test_a_hello_in_many_records_is_read(size: int) -> None:
    data = records(real()[5:], size)
    assert read_hello(data) == ClientHello("api.example.org", ("h2", "http/1.1"), False)


@pytest.mark.parametrize("size", [1, 7, 64])
def test_a_hello_in_many_pieces_is_read(size: int) -> None:
    data = records(real()[5:], 50)
    reader = HelloReader()
    found = [reader.feed(data[at : at + size]) for at in range(0, len(data), size)]
    assert found[:-1] == [None] * (len(found) - 1)
    assert found[-1] == ClientHello("api.example.org", ("h2", "http/1.1"), False)


def test_every_beginning_of_a_hello_needs_more() -> None:
    data = real()
    for end in range(len(data)):
        assert read_hello(data[:end]) is None


def test_what_follows_the_hello_is_left_alone() -> None:
    assert read_hello(hello() + b"\x17\x03\x03\0\x05early") == ClientHello("api.example.org")


def test_case_means_nothing() -> None:
    assert read_hello(hello(extension(0, name_list(b"API.Example.ORG")))) == ClientHello(
        "api.example.org"
    )


def test_a_hello_without_extensions_names_nobody() -> None:
    assert read_hello(hello(None)) == ClientHello(None)
    assert read_hello(hello(b"")) == ClientHello(None)


def test_grease_is_tolerated() -> None:
    """RFC 8701: reserved suites, extensions (two different ones) and protocols."""
    grease = (
        extension(0x0A0A, b"") + SNI + extension(16, vector(2, vector(1, b"\x2a\x2a")))
        + extension(0xFAFA, b"\0")
    )  # fmt: skip
    data = records(message(body(grease, suites=b"\x1a\x1a\x13\x01")))
    assert read_hello(data) == ClientHello("api.example.org", ("**",), False)


@pytest.mark.parametrize("kind", [0xFE0D, 0xFE0A, 0xFFCE])
@pytest.mark.parametrize("value", [b"\0\0\1\0\1\x07" + vector(2, bytes(32)) + vector(2, bytes(144)),
                                   b"\1", b""], ids=["outer", "inner", "empty"])  # fmt: skip
def test_ech_is_seen_real_or_not(kind: int, value: bytes) -> None:
    found = read_hello(hello(SNI + extension(kind, value)))
    assert found == ClientHello("api.example.org", (), True)


@pytest.mark.parametrize(
    "data",
    [b"GET / HTTP/1.1\r\n", b"SSH-2.0-OpenSSH\r\n", b"\x80\x2e\x01\x03\x01", b"\x05\x01\0", b"\0",
     b"\x15\x01", b"\x17\xff\xff"],
)  # fmt: skip
def test_other_protocols_are_told_from_tls(data: bytes) -> None:
    with pytest.raises(NotTls):
        read_hello(data)


MALFORMED: dict[str, bytes] = {
    "an alert before the hello": b"\x15\3\1\0\2\1\0" + hello(),
    "a change of cipher before the hello": b"\x14\3\1\0\1\1" + hello(),
    "data before the hello": b"\x17\3\3\0\1x" + hello(),
    "an alert inside the hello": records(message(body())[:20])
    + b"\x15\3\1\0\2\1\0"
    + records(message(body())[20:]),
    "a record of version 4": b"\x16\4\1" + hello()[3:],
    "a later record of another version": records(message(body())[:20]) + b"\x16\2\1\0\1x",
    "an unknown record inside": records(message(body())[:20]) + b"\x42\3\1\0\1x",
    "an empty record": b"\x16\3\1\0\0" + hello(),
    "an empty record inside": records(message(body())[:20]) + b"\x16\3\1\0\0",
    "a record that is too long": b"\x16\3\1\x40\1",
    "another message": records(message(b"", kind=0)),
    "a ServerHello": records(message(body(), kind=2)),
    "something behind it in the record": records(message(body()) + b"\x0b"),
    "two hellos in a record": records(message(body()) * 2),
    "a message that is too long": records(b"\1\xff\xff\xff"),
    "a message that is cut": records(b"\1\0\0\5\3\3abc"),
    "an empty message": records(message(b"")),
    "version 2": records(message(body(version=b"\2\0"))),
    "a session of 33 octets": records(message(body(session=bytes(33)))),
    "no suites": records(message(body(suites=b""))),
    "half a suite": records(message(body(suites=b"\x13\1\x13"))),
    "no compression": records(message(body(compression=b""))),
    "compression only": records(message(body(compression=b"\1"))),
    "something behind the extensions": records(message(body(tail=b"\0"))),
    "an extension that is cut": hello(b"\0\0\0\x20abc"),
    "half an extension": hello(b"\0\0\0"),
    "two server names": hello(extension(0, name_list(b"api.example.org", b"evil.example"))),
    "two lists of names": hello(SNI + extension(0, name_list(b"evil.example"))),
    "two ALPN": hello(extension(16, vector(2, vector(1, b"h2"))) * 2),
    "an empty list of names": hello(extension(0, name_list())),
    "an empty extension for names": hello(extension(0, b"")),
    "an empty name": hello(extension(0, name_list(b""))),
    "a name of 256 octets": hello(extension(0, name_list(b"a" * 256))),
    "a name of another kind": hello(extension(0, name_list(b"api.example.org", kind=1))),
    "a name behind the list": hello(extension(0, name_list(b"a") + b"\0")),
    "a name that is cut": hello(extension(0, b"\0\6\0\0\xffabc")),
    "a name with a zero octet": hello(extension(0, name_list(b"api.example.org\0.evil.example"))),
    "a name with a space": hello(extension(0, name_list(b"api.example.org "))),
    "a name with a final dot": hello(extension(0, name_list(b"api.example.org."))),
    "a name with two dots": hello(extension(0, name_list(b"api..example.org"))),
    "a name that is not ASCII": hello(extension(0, name_list("é.org".encode()))),
    "a name with a port": hello(extension(0, name_list(b"api.example.org:443"))),
    "an IPv6 address as name": hello(extension(0, name_list(b"::1"))),
    "an empty protocol": hello(extension(16, vector(2, b"\0\0"))),
    "no protocols": hello(extension(16, vector(2, b""))),
    "a protocol that is cut": hello(extension(16, vector(2, b"\x09h2"))),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_not_exactly_a_hello_is_refused(name: str) -> None:
    with pytest.raises(HelloError):
        read_hello(MALFORMED[name])


@pytest.mark.parametrize("name", MALFORMED)
def test_it_is_refused_just_so_octet_by_octet(name: str) -> None:
    def feed() -> None:
        reader = HelloReader()
        for octet in MALFORMED[name]:
            reader.feed(bytes([octet]))

    with pytest.raises(HelloError):
        feed()


def test_a_hello_has_a_longest() -> None:
    padding = extension(21, bytes(60000))
    assert read_hello(hello(SNI + padding)) == ClientHello("api.example.org")
    with pytest.raises(HelloError):
        HelloReader(limit=1000).feed(hello(SNI + padding))
    with pytest.raises(HelloError):  # the headers of its records count
        HelloReader(limit=1000).feed(records(message(body(SNI + extension(21, bytes(300)))), 1))


SERVER_HELLO = b"\x16\3\3\0\x5a\2\0\0\x56\3\3"
RETRY = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")


def test_a_retry_is_known_by_its_random() -> None:
    data = SERVER_HELLO + RETRY
    for end in range(len(data)):
        assert is_retry(data[:end]) is None
    assert is_retry(data) is True
    assert is_retry(data + b"more") is True
    assert is_retry(b"\x15\3\3\0\2\1\x70" * 9 + data) is True
    assert is_retry(b"\x15\3\3\0\2\1") is None
    assert is_retry(b"\x15\3\3\0\2\2\x28" + data) is False  # it has broken off
    assert is_retry(SERVER_HELLO + bytes(32)) is False
    assert is_retry(SERVER_HELLO + RETRY[:31] + b"\0") is False
    for odd in (
        b"\x16\3\3\0\x05\2\0\0\x56\3\x16\3\3\0\x05",  # in pieces
        b"\x16\3\3\0\x5a\1\0\0\x56\3\3" + RETRY,  # not a server's
        b"\x16\3\3\0\x60\0\0\0\0\2\0\0\x56\3\3" + RETRY,  # behind a HelloRequest
        b"\x14\3\3\0\1\1" + data,
        b"\x15\3\3\0\3\1\0\0" + data,
        b"HTTP/1.1 400",
    ):
        with pytest.raises(HelloError):
            is_retry(odd)


def test_a_hello_of_ssl_2_is_known() -> None:
    hello = b"\x80\x2e\1\3\1\0\x15"
    assert [is_old_hello(hello[:end]) for end in range(6)] == [False, None, None, None, None, True]
    assert is_old_hello(b"\x80\x2e\1\0\2") is True
    for other in (b"GET /", b"\x80\x2e\2\3\1", b"\x80\x2e\1\4\1", b"\xff\xfb\1"):
        assert is_old_hello(other) is False
    with pytest.raises(NotTls):
        read_hello(hello)


def test_a_real_server_heeds_the_name_in_the_second_hello_and_we_notice(tmp_path: Path) -> None:
    """The attack: a first hello with the name that is allowed, and keys that the server dislikes.

    OpenSSL's server asks again, and takes the name from the answer.
    """
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=test"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.set_ecdh_curve("secp384r1")
    names: list[str | None] = []
    context.sni_callback = lambda _, name, __: names.append(name)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(incoming, outgoing, server_side=True)
    second = real("evil.example", curve="secp384r1")
    answers = []
    for data in (real("api.example.org"), second):
        incoming.write(data)
        with pytest.raises(ssl.SSLWantReadError):
            server.do_handshake()
        answers.append(outgoing.read())
    assert names == ["api.example.org", "evil.example"]
    assert [is_retry(answer) for answer in answers] == [True, False]
    found = HelloReader(second=True).feed(b"\x14\3\3\0\1\1" + second)
    assert found is not None
    assert found.sni == "evil.example"


def test_the_second_hello_is_found_behind_early_data_and_a_change_of_cipher() -> None:
    early = b"\x17\3\3\x40\0" + bytes(16384)
    data = early * 10 + b"\x14\3\3\0\1\1" + hello(extension(0, name_list(b"evil.example")))
    reader = HelloReader(second=True)
    found = [reader.feed(data[at : at + 1000]) for at in range(0, len(data), 1000)]
    assert found[-1] == ClientHello("evil.example")
    for bad in (b"\x15\3\3\0\2\1\0", b"GET /", b"\x14\3\3\0\2\1\1", b"\x14\2"):
        with pytest.raises(HelloError):
            HelloReader(second=True).feed(bad)
    with pytest.raises(HelloError):
        HelloReader(second=True).feed(records(message(body())[:9]) + b"\x14\3\3\0\1\1")


COMMANDS: dict[str, Callable[[int], list[str]]] = {
    "curl": lambda port: ["curl", "-sk", "-m", "3", "--noproxy", "*", "--resolve",
                          f"api.example.org:{port}:127.0.0.1", f"https://api.example.org:{port}/"],
    "openssl": lambda port: ["openssl", "s_client", "-connect", f"127.0.0.1:{port}",
                             "-servername", "api.example.org", "-alpn", "h2"],
    "node": lambda port: ["node", "-e", "require('tls').connect({host: '127.0.0.1', port: "
                          f"{port}, servername: 'api.example.org'}}).on('error', () => {{}})"],
}  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_hellos_of_programs(name: str) -> None:
    """None of them brings an Encrypted Client Hello of its own accord."""
    if shutil.which(name) is None:
        pytest.skip(f"no {name}")
    found: list[ClientHello | None] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)

        def accept() -> None:
            client, _ = listener.accept()
            with client:
                client.settimeout(10)
                reader = HelloReader()
                while reader.hello is None:
                    reader.feed(client.recv(100))
                found.append(reader.hello)

        thread = threading.Thread(target=accept)
        thread.start()
        subprocess.run(
            COMMANDS[name](listener.getsockname()[1]),
            capture_output=True, stdin=subprocess.DEVNULL, timeout=30,
        )  # fmt: skip
        thread.join()
    (hello_,) = found
    assert hello_ is not None
    assert (hello_.sni, hello_.ech) == ("api.example.org", False)


@given(st.binary(max_size=400), st.booleans(), st.booleans())
def test_any_bytes_are_read_or_refused(data: bytes, framed: bool, second: bool) -> None:
    if framed:
        data = records(message(body(data[:200]))) + data[200:]
    try:
        HelloReader(second=second).feed(data)
    except (HelloError, NotTls):
        pass


@given(st.integers(0, 600), st.integers(0, 255), st.integers(1, 200))
def test_pieces_are_read_as_the_whole(at: int, octet: int, size: int) -> None:
    data = bytearray(REAL)
    data[at % len(data)] = octet

    def outcome(pieces: list[bytes]) -> object:
        reader = HelloReader()
        try:
            for piece in pieces:
                reader.feed(piece)
        except (HelloError, NotTls) as error:
            return type(error), str(error)
        return reader.hello

    whole = outcome([bytes(data)])
    assert outcome([bytes(data[i : i + size]) for i in range(0, len(data), size)]) == whole


REAL = real()
