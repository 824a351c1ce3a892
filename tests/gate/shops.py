"""What clients ask for, over https on loopback: pages, a git repository, an index of Python
packages, a registry of npm's, and WebSockets. Each is there twice, below ``/open`` and ``/secret``.
"""

from __future__ import annotations

import base64
import hashlib
import http.server
import io
import json
import os
import ssl
import subprocess
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.server import ServerConnection, serve

from .clients import CONTENT

_BACKEND = "/usr/lib/git-core/git-http-backend"


def wheel() -> bytes:
    """A package of one module (the binary distribution format: PEP 427)."""
    files = {
        "parcel.py": f"CONTENT = '{CONTENT}'\n",
        "parcel-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: parcel\nVersion: 1.0\n",
        "parcel-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: by hand\n"
        "Root-Is-Purelib: true\nTag: py3-none-any\n",
    }
    records = ["parcel-1.0.dist-info/RECORD,,"]
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, text in files.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest())
            records.append(f"{name},sha256={digest.decode().rstrip('=')},{len(text)}")
            archive.writestr(name, text)
        archive.writestr("parcel-1.0.dist-info/RECORD", "\n".join(records) + "\n")
    return data.getvalue()


def tarball() -> bytes:
    """A package of npm's."""
    files = {
        "package/package.json": json.dumps({"name": "parcel", "version": "1.0.0"}),
        "package/index.js": f"module.exports = '{CONTENT}'\n",
    }
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return data.getvalue()


def repository(place: Path) -> None:
    """A bare repository with one commit and one tag."""
    source = place / "source"
    named = ["-c", "user.name=tests", "-c", "user.email=tests@example.com"]
    source.mkdir()
    (source / "README").write_text(f"{CONTENT}\n")
    for arguments in (
        ["init", "-q"],
        ["add", "README"],
        [*named, "commit", "-qm", "first"],
        ["tag", "v1"],
        ["clone", "-q", "--bare", ".", str(place / "parcel.git")],
    ):
        subprocess.run(["git", *arguments], cwd=source, check=True, capture_output=True)


class Server(http.server.ThreadingHTTPServer):
    """Serves :class:`Shop`."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.asked: list[str] = []
        self.wheel, self.tarball = wheel(), tarball()
        super().__init__(("127.0.0.1", 0), Shop)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that was cut is what some tests are about."""


class Shop(http.server.BaseHTTPRequestHandler):
    """One connection."""

    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append(f"{self.headers['Host'].partition(':')[0]} {self.path}")
        base, _, rest = self.path[1:].partition("/")
        path = rest.partition("?")[0]
        site = f"https://{self.headers['Host']}/{base}"
        if path == "page":
            self._send(f"{CONTENT} over {self.request_version}\n".encode())
        elif path.startswith("git/"):
            self._git(rest[3:], data)
        elif path == "simple/parcel/":
            name = "parcel-1.0-py3-none-any.whl"
            digest = hashlib.sha256(self.server.wheel).hexdigest()
            page = f"<!DOCTYPE html><a href='{site}/files/{name}#sha256={digest}'>{name}</a>"
            self._send(page.encode(), "text/html")
        elif path == "files/parcel-1.0-py3-none-any.whl":
            self._send(self.server.wheel)
        elif path == "npm/parcel":
            packed = {"tarball": f"{site}/npm/parcel/-/parcel-1.0.0.tgz"}
            digest = base64.b64encode(hashlib.sha512(self.server.tarball).digest()).decode()
            packed["integrity"] = f"sha512-{digest}"
            version = {"name": "parcel", "version": "1.0.0", "dist": packed}
            about = {"name": "parcel", "dist-tags": {"latest": "1.0.0"}}
            page = json.dumps({**about, "versions": {"1.0.0": version}})
            self._send(page.encode(), "application/json")
        elif path == "npm/parcel/-/parcel-1.0.0.tgz":
            self._send(self.server.tarball)
        else:
            self._send(b"nothing here\n", status=404)

    do_POST = do_GET

    def _git(self, path: str, data: bytes) -> None:
        """By git's own program, as CGI (RFC 3875)."""
        path, _, query = path.partition("?")
        variables = {
            "GIT_PROJECT_ROOT": str(self.server.place),
            "GIT_HTTP_EXPORT_ALL": "1",
            # The repository may be another user's than the tests'.
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type") or "",
            "CONTENT_LENGTH": str(len(data)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding") or "",
            "HTTP_GIT_PROTOCOL": self.headers.get("Git-Protocol") or "",
            "PATH": os.environ["PATH"],
        }
        done = subprocess.run([_BACKEND], input=data, env=variables, capture_output=True)
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        status = int(fields.pop("Status", "200").split()[0])
        self._send(body, fields["Content-Type"], status)

    def _send(self, body: bytes, kind: str = "text/plain", status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Not on the tests' output."""


def _context(folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    return context


@contextmanager
def shop(folder: Path, place: Path) -> Iterator[Server]:
    """The server of everything but WebSockets.

    :param folder: has the certificate and its key.
    :param place: a new directory for a repository.
    """
    repository(place)
    server = Server(place)
    server.socket = _context(folder).wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@contextmanager
def live(folder: Path) -> Iterator[int]:
    """The port of a WebSocket server that answers each message with the content."""

    def answer(connection: ServerConnection) -> None:
        for _ in connection:
            connection.send(CONTENT)

    with serve(answer, "127.0.0.1", 0, ssl=_context(folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.socket.getsockname()[1]
        server.shutdown()
        thread.join()
