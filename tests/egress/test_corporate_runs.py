"""`nemoclaw run` on a host whose only way out is a proxy, and with authorities of a company."""

from __future__ import annotations

import base64
import http.server
import os
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from .corporate import CorporateProxy
from .grounds import DIRECT, Gated, Pages

NAME = "intranet.test"
"""Of a server that this host's resolver does not know."""


@attrs.frozen
class Company:
    """The proxy, and a server whose authority no system knows."""

    proxy: CorporateProxy
    secure: int
    authority: Path


@pytest.fixture
def company(gated: Gated) -> Iterator[Company]:
    key, certificate = gated.desk.base / "key.pem", gated.desk.base / "corp.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=corp",
         "-addext", f"subjectAltName=DNS:{NAME}"],
        check=True, capture_output=True,
    )  # fmt: skip
    certificate.chmod(0o644)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    proxy = CorporateProxy(b"HTTP/1.1 200 OK\r\n\r\n", forward=True)
    yield Company(proxy, server.server_port, certificate)
    proxy.close()
    server.shutdown()
    server.server_close()
    thread.join()


def settle(gated: Gated, text: str) -> Path:
    """Write the user's settings."""
    folder = gated.desk.base / "inside/config/nemoclaw"
    folder.mkdir(mode=0o700, exist_ok=True)
    file = folder / "settings.toml"
    file.write_text(text)
    file.chmod(0o600)
    for each in (folder, file):
        os.chown(each, gated.desk.user.uid, gated.desk.user.gid)
    return file


def test_a_proxy_with_a_password_and_an_authority_of_the_company(
    gated: Gated, company: Company
) -> None:
    """Judged requests, and TLS that passes through: both need the company's authority."""
    url = f"https://{NAME}:{company.secure}"
    judged = gated.rule(
        NAME, ports=f"[{company.secure}]", http="[{ methods = ['GET'], path = '/a' }]"
    )
    passing = gated.rule(NAME, ports=f"[{company.secure}]", tls="'passthrough'")
    # Some rule has to look inside for programs to be shown authorities besides the system's.
    looking = gated.rule("judged.test", tls="'terminate'")
    proxy = f'proxy = "http://agent:hunter2@127.0.0.1:{company.proxy.port}"\n'
    settle(gated, f"[upstream]\n{proxy}ca_file = '{company.authority}'\n")
    done = gated.run(gated.policy(judged), f"curl -sS {url}/a; {DIRECT}curl -sS {url}/b; env")
    assert done.stdout.startswith("page /a\n"), (done.stdout, done.stderr)
    assert '"policy_denied"' in done.stdout
    assert "hunter2" not in done.stdout + done.stderr
    done = gated.run(gated.policy(passing + looking), f"{DIRECT}curl -sS {url}/b", "--name", "box")
    assert done.stdout == "page /b\n", done.stderr
    password = base64.b64encode(b"agent:hunter2")
    for head in company.proxy.heads:
        assert head.startswith(f"CONNECT {NAME}:{company.secure} ".encode())
        assert b"Proxy-Authorization: Basic " + password in head
    assert company.proxy.heads
    assert "hunter2" not in str(gated.events("box"))
    assert password.decode() not in str(gated.events("box"))
    # Neither without the authority, nor without the proxy.
    settle(gated, f"[upstream]\n{proxy}")
    assert "page" not in gated.run(gated.policy(judged), f"curl -sS {url}/a").stdout
    settle(gated, f"[upstream]\nca_file = '{company.authority}'\n")
    assert "page" not in gated.run(gated.policy(judged), f"curl -sS {url}/a").stdout


def test_a_host_without_a_hosts_file(gated: Gated, company: Company) -> None:
    """There is nothing that would have to be covered then."""
    url = f"https://{NAME}:{company.secure}"
    rule = gated.rule(NAME, ports=f"[{company.secure}]", tls="'terminate'")
    settle(
        gated,
        f"[upstream]\nproxy = 'http://127.0.0.1:{company.proxy.port}'\n"
        f"ca_file = '{company.authority}'\n",
    )
    etc = gated.desk.base / "etc"
    subprocess.run(["cp", "-a", "/etc", etc], check=True)
    (etc / "hosts").unlink()
    command = gated.command("run", "-p", gated.policy(rule), "--", "bash", "-c")
    at = command.index("setpriv")
    place = ["unshare", "-m", "sh", "-c", 'mount --bind $1 /etc && shift && exec "$@"', "sh"]
    script = f"ls /etc/hosts; {DIRECT}curl -sS {url}/x; getent ahosts localhost"
    done = subprocess.run(
        [*place, str(etc), *command[at:], script],
        cwd=gated.desk.folder("inside"),
        env=gated.desk.environment("inside"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "page /x\n" in done.stdout, done.stderr
    assert "127.0.0.1" in done.stdout
    assert "/etc/hosts" not in done.stdout


def test_a_proxy_that_wants_another_password_is_told_to_the_user_once(gated: Gated) -> None:
    """And to the agent without a word of the proxy."""
    refusing = CorporateProxy(b"HTTP/1.1 407 No\r\n\r\n")
    settle(gated, f"[upstream]\nproxy = 'http://me:hunter2@127.0.0.1:{refusing.port}'\n")
    url = f"http://{NAME}:81/x"
    done = gated.run(gated.policy(gated.rule(NAME, ports="[81]")), f"curl -sS {url} {url}")
    refusing.close()
    assert done.stderr.count("proxy_password") == 1, done.stderr
    assert done.stdout.count("upstream_unreachable") == 2
    assert str(refusing.port) not in done.stdout + done.stderr
    assert "hunter2" not in done.stdout + done.stderr


def test_settings_that_cannot_be_used_stop_a_start(gated: Gated) -> None:
    policy = gated.policy(gated.rule("api.test"))
    file = settle(gated, "[upstream]\nproxi = 'http://me:hunter2@p:1'\n")
    done = gated.run(policy, "echo started")
    assert (done.returncode, done.stdout) == (3, "")
    assert f"{file}:2 upstream.proxi: unknown key" in done.stderr
    assert "hunter2" not in done.stderr
    file.chmod(0o622)
    assert "others can write it" in gated.run(policy, "echo started").stderr
    # A sandbox without a gate has no use for them.
    closed = gated.desk.base / "closed.toml"
    closed.write_text("version = 1\n[policy.default]\nextends = ['default']\n")
    os.chown(closed, gated.desk.user.uid, gated.desk.user.gid)
    assert gated.run(str(closed), "echo started").stdout == "started\n"


def test_an_agent_can_neither_see_nor_change_them(gated: Gated) -> None:
    file = settle(gated, "[upstream]\nproxy = 'http://me:hunter2@127.0.0.1:9'\n")
    policy = gated.policy(gated.rule("api.test"))
    done = gated.run(policy, f"cat {file}; echo x > {file}; ls {file.parent}")
    assert "hunter2" not in done.stdout + done.stderr
    assert "settings.toml" not in done.stdout
    assert "hunter2" in file.read_text()
