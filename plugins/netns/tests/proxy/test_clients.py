"""Real clients through terminated TLS: they trust the sandbox's authority and notice nothing."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import ssl
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from nemoclaw_plugin_netns.proxy.authority import Authority

if TYPE_CHECKING:
    from plugins.netns.tests.proxy.conftest import Running


def _serve(sock: socket.socket) -> None:
    """Says what it was asked, on a connection that is kept."""
    file = sock.makefile("rb")
    while line := file.readline():
        length = 0
        fields = []
        while (field := file.readline()) not in (b"\r\n", b""):
            fields.append(field.decode().strip())
            if field.lower().startswith(b"content-length:"):
                length = int(field.split(b":")[1])
        body = json.dumps([line.decode().strip(), fields, file.read(length).decode()]).encode()
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


@pytest.fixture
def inspected(gate: Running, authority: Authority, tmp_path: Path) -> Running:
    """https://a.example/, inspected, where /secret is forbidden."""
    server = gate.upstream(_serve, authority.context("a.example"))
    gate.egress.allow(
        "a.example", 443, server.port, inspect=True, request=lambda r: r.http.path != "/secret"
    )
    (tmp_path / "ca.pem").write_bytes(gate.service.ca_certificate)
    return gate


def _curl(gate: Running, tmp_path: Path, *arguments: str) -> str:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed")
    done = subprocess.run(
        [curl, "-sS", "-m", "10", "--cacert", str(tmp_path / "ca.pem"), *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={},
    )
    return done.stdout


@pytest.mark.parametrize("scheme", ["http", "socks5h"])
def test_curl(inspected: Running, tmp_path: Path, scheme: str) -> None:
    proxy = ("-x", f"{scheme}://127.0.0.1:{inspected.port}")
    line, fields, body = json.loads(
        _curl(inspected, tmp_path, *proxy, "-d", "x" * 2000, "https://a.example/x?y=1")
    )
    assert line == "POST /x?y=1 HTTP/1.1"
    assert "Host: a.example" in fields
    assert body == "x" * 2000
    denial = json.loads(_curl(inspected, tmp_path, *proxy, "https://a.example/secret"))
    assert denial["error"] == "policy_denied"


def test_curl_without_a_proxy(inspected: Running, tmp_path: Path) -> None:
    # Any local port may be curl's: all connections are taken for ones to this server.
    inspected.transparent_to = _Always(("a.example", 443))
    line, _, _ = json.loads(
        _curl(
            inspected,
            tmp_path,
            "--connect-to",
            f"a.example:443:127.0.0.1:{inspected.tcp_port}",
            "https://a.example/",
        )
    )
    assert line == "GET / HTTP/1.1"


class _Always(dict[int, tuple[str, int]]):
    def __init__(self, value: tuple[str, int]) -> None:
        super().__init__()
        self._value = value

    def __getitem__(self, key: int) -> tuple[str, int]:
        return self._value


def test_http_client_keeps_its_connection(inspected: Running, tmp_path: Path) -> None:
    trust = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    connection = http.client.HTTPSConnection("127.0.0.1", inspected.port, timeout=10, context=trust)
    connection.set_tunnel("a.example", 443)
    for path, status in (("/a", 200), ("/secret", 403), ("/b", 200)):
        connection.request("GET", path)
        response = connection.getresponse()
        assert response.status == status
        response.read()
    assert inspected.upstreams[0].accepted == 1
    connection.close()


def test_openssl_sees_a_certificate_for_exactly_the_name(
    inspected: Running, tmp_path: Path
) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    done = subprocess.run(
        [
            *(openssl, "s_client", "-proxy", f"127.0.0.1:{inspected.port}"),
            *("-connect", "a.example:443", "-servername", "a.example", "-ign_eof"),
            *("-verify_hostname", "a.example", "-verify_return_error"),
            *("-alpn", "h2,http/1.1", "-CAfile", str(tmp_path / "ca.pem")),
        ],
        input="GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n",
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert "Verify return code: 0 (ok)" in done.stdout
    assert "ALPN protocol: http/1.1" in done.stdout
    assert "HTTP/1.1 200 OK" in done.stdout


def test_fronting_inside_of_tls_is_refused(inspected: Running, tmp_path: Path) -> None:
    trust = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    raw = inspected.dial("a.example", 443)
    with trust.wrap_socket(raw, server_hostname="a.example") as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: b.example\r\n\r\n")
        assert sock.recv(999).startswith(b"HTTP/1.1 403 ")
    assert [rule for _, rule, _ in inspected.egress.denials] == ["host-mismatch"]
    assert inspected.egress.dials == 0


def test_a_server_with_a_false_certificate_is_not_believed(
    gate: Running, authority: Authority, tmp_path: Path
) -> None:
    (tmp_path / "ca.pem").write_bytes(gate.service.ca_certificate)
    other = gate.upstream(_serve, authority.context("b.example"))
    unknown = gate.upstream(_serve, Authority("unknown").context("c.example"))
    gate.egress.allow("a.example", 443, other.port, inspect=True)
    gate.egress.allow("c.example", 443, unknown.port, tls="terminate")
    for host in ("a.example", "c.example"):
        answer = json.loads(
            _curl(gate, tmp_path, "-x", f"http://127.0.0.1:{gate.port}", f"https://{host}/")
        )
        assert answer["error"] == "upstream_certificate"


def test_a_client_that_does_not_trust_the_authority_is_told_about(inspected: Running) -> None:
    raw = inspected.dial("a.example", 443)
    with pytest.raises(ssl.SSLCertVerificationError):
        ssl.create_default_context().wrap_socket(raw, server_hostname="a.example")
    assert inspected.until(
        lambda: [rule for _, rule, _ in inspected.egress.denials] == ["tls-handshake"]
    )
    assert inspected.until(lambda: inspected.service.connections == 0)


def test_the_authority() -> None:
    authority = Authority("x", leaves=2)
    certificate = x509.load_pem_x509_certificate(authority.ca_certificate)
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    first = authority.context("a.example")
    assert authority.context("a.example") is first
    authority.context("b.example")
    authority.context("c.example")
    assert authority.context("a.example") is not first
    for name in ("192.0.2.1", "2001:db8::1", "a" * 60 + ".example." + "b" * 60):
        authority.context(name)
    assert Authority("x").ca_certificate != authority.ca_certificate
