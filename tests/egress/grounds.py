"""Servers on loopback, and sandboxes of `nemoclaw run` that reach them by name.

The names are in a hosts file that only nemoclaw sees, outside: a mount namespace of the test's has
it in place of /etc/hosts, and the servers' authority among the trusted ones.
"""

from __future__ import annotations

import http.server
import json
import os
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from ..desks import Desk

NAMES = ("api.test", "judged.test", "other.test")
_PLACE = (
    "mount --bind $1 /etc/hosts && mount --bind $2 /etc/ssl/certs/ca-certificates.crt && "
    'shift 2 && exec "$@"'
)


@attrs.frozen(kw_only=True)
class Seen:
    """One request as a server got it."""

    method: str
    target: str
    headers: dict[str, str]
    """By lower-case name."""
    body: bytes


class Server(http.server.ThreadingHTTPServer):
    """Serves :class:`Pages`, and keeps what it was asked."""

    def __init__(self, seen: list[Seen]) -> None:
        self.seen = seen
        super().__init__(("127.0.0.1", 0), Pages)


class Pages(http.server.BaseHTTPRequestHandler):
    """Says which path was asked for."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if isinstance(self.server, Server):
            headers = {name.lower(): value for name, value in self.headers.items()}
            self.server.seen.append(
                Seen(method=self.command, target=self.path, headers=headers, body=data)
            )
        body = f"page {self.path}\n".encode()
        if self.path == "/token":
            body = b'{"access_token": "fetched-by-nemoclaw", "expires_in": 60}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_PUT = do_GET

    def log_message(self, format: str, *arguments: Any) -> None:
        """Not on the tests' output."""


@attrs.frozen(kw_only=True)
class Outside:
    """The servers, and the files by which nemoclaw finds and trusts them."""

    plain: int
    secure: int
    hosts: Path
    authorities: Path
    seen: list[Seen]


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    if os.getuid() != 0:
        pytest.skip("names for the servers need a mount over /etc/hosts")
    folder = tmp_path_factory.mktemp("outside")
    folder.chmod(0o755)
    hosts, key, certificate = folder / "hosts", folder / "key.pem", folder / "certificate.pem"
    hosts.write_text(f"127.0.0.1 localhost {' '.join(NAMES)}\n")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=outside",
         "-addext", f"subjectAltName={','.join(f'DNS:{name}' for name in NAMES)}"],
        check=True, capture_output=True,
    )  # fmt: skip
    authorities = folder / "authorities.pem"
    authorities.write_text(certificate.read_text())
    for file in (hosts, authorities):
        file.chmod(0o644)
    seen: list[Seen] = []
    plain, secure = Server(seen), Server(seen)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    secure.socket = context.wrap_socket(secure.socket, server_side=True)
    threads = [threading.Thread(target=each.serve_forever) for each in (plain, secure)]
    for thread in threads:
        thread.start()
    yield Outside(
        plain=plain.server_port,
        secure=secure.server_port,
        hosts=hosts,
        authorities=authorities,
        seen=seen,
    )
    for server in (plain, secure):
        server.shutdown()
        server.server_close()
    for thread in threads:
        thread.join()


@attrs.frozen
class Gated:
    """A desk whose sandboxes reach servers outside, as far as the policy lets them."""

    desk: Desk
    outside: Outside

    def policy(self, rules: str, name: str = "policies.toml", **settings: str) -> str:
        """Write a policy beside the work directory; returns its path."""
        file = self.desk.base / name
        lines = "".join(f"{key} = {value}\n" for key, value in settings.items())
        file.write_text(
            "version = 1\n[policy.default]\nextends = ['default']\n"
            f"[policy.default.network]\nmode = 'proxy'\n{lines}{rules}"
        )
        os.chown(file, self.desk.user.uid, self.desk.user.gid)
        return str(file)

    def rule(self, host: str, **keys: str) -> str:
        """An ``[[allow]]`` table for both servers of a name."""
        ports = f"[{self.outside.plain}, {self.outside.secure}]"
        written = {"host": f"'{host}'", "ports": ports, "addresses": "['127.0.0.1/32']", **keys}
        lines = "".join(f"{key} = {value}\n" for key, value in written.items())
        return f"[[policy.default.network.allow]]\n{lines}"

    def command(self, *arguments: str) -> list[str]:
        """A command line of nemoclaw where it sees the servers."""
        user = self.desk.user
        become = ["setpriv", f"--reuid={user.uid}", f"--regid={user.gid}", "--clear-groups"]
        return [
            "unshare", "-m", "sh", "-c", _PLACE, "sh",
            str(self.outside.hosts), str(self.outside.authorities),
            *become, *user.nemoclaw, *arguments,
        ]  # fmt: skip

    def run(
        self, policy: str, script: str, *options: str, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell script inside, to its end.

        :param variables: in the environment of nemoclaw.
        """
        return subprocess.run(
            self.command("run", "-p", policy, *options, "--", "bash", "-c", script),
            cwd=self.desk.folder("inside"),
            env={**self.desk.environment("inside"), **variables},
            capture_output=True,
            text=True,
            timeout=60,
        )

    def events(self, name: str) -> list[dict[str, Any]]:
        """What a sandbox's log says."""
        log = self.desk.base / "inside/state/nemoclaw" / name / "events.jsonl"
        return [json.loads(line) for line in log.read_text().splitlines()]


@pytest.fixture
def gated(desk: Desk, outside: Outside) -> Gated:
    desk.needs("curl")
    return Gated(desk, outside)


DIRECT = "unset http_proxy https_proxy HTTP_PROXY HTTPS_PROXY; "
WAYS = pytest.mark.parametrize("way", ["", DIRECT], ids=["proxied", "direct"])
