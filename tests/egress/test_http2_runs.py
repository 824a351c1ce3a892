"""HTTP/2 clients of several makes inside: curl, Node, httpx and gRPC, each request judged."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import attrs
import grpc
import pytest

from ..callers import PYTHON
from .grounds import DIRECT, WAYS, Gated, Outside

_SERVER = """
const http2 = require('http2'), fs = require('fs'), [key, cert] = process.argv.slice(1)
function page(request, response) {
  let size = 0
  request.on('data', (data) => { size += data.length }).on('end', () =>
    response.end(`page ${request.url} over ${request.httpVersion} with ${size}\\n`))
}
const secure = http2.createSecureServer(
  { key: fs.readFileSync(key), cert: fs.readFileSync(cert), allowHTTP1: true }, page)
const plain = http2.createServer(page)
secure.listen(0, '127.0.0.1', () => plain.listen(0, '127.0.0.1', () =>
  console.log(JSON.stringify([plain.address().port, secure.address().port]))))
"""
_RULES = "[{ methods = ['GET', 'POST'], path = '/open/**' }]"


@pytest.fixture(scope="module")
def pages(outside: Outside) -> Iterator[tuple[int, int]]:
    """Ports of Node's HTTP/2 server: plaintext, TLS."""
    if shutil.which("node") is None:
        pytest.skip("node is missing: apt-get install nodejs")
    folder = outside.hosts.parent
    running = subprocess.Popen(
        ["node", "-e", _SERVER, str(folder / "key.pem"), str(folder / "certificate.pem")],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert running.stdout is not None
    plain, secure = json.loads(running.stdout.readline())
    yield plain, secure
    running.terminate()
    running.wait()
    running.stdout.close()


def _judged(gated: Gated, *ports: int, requests: str = _RULES) -> str:
    return gated.policy(gated.rule("judged.test", ports=str(list(ports)), http=requests))


@WAYS
def test_curl(gated: Gated, pages: tuple[int, int], way: str) -> None:
    plain, secure = pages
    policy = _judged(gated, *pages)
    site = f"https://judged.test:{secure}"
    script = (
        f"{way}curl -sS --http2 -w '%{{http_version}}\\n' "
        f"{site}/open/a {site}/secret {site}/open/b; "
        f"head -c 300000 /dev/zero | curl -sS --http2 --data-binary @- {site}/open/up; "
    )
    if way:  # without a proxy that wants URLs: what begins with HTTP/2 is taken for that
        site = f"http://judged.test:{plain}"
        script += "".join(
            f"curl -sS --http2-prior-knowledge {site}{path}; " for path in ("/open/c", "/secret")
        )
    done = gated.run(policy, script, "--name", "box")
    assert done.stdout.count("\n") >= 7, done.stderr
    first, one, denial, two, third, three, uploaded, *rest = done.stdout.splitlines()
    assert [first, third] == [f"page /open/{name} over 2.0 with 0" for name in "ab"], done.stderr
    assert [one, two, three] == ["2"] * 3
    assert json.loads(denial)["error"] == "policy_denied"
    assert uploaded == "page /open/up over 2.0 with 300000"
    if way:
        assert rest[0] == "page /open/c over 2.0 with 0"
        assert len(rest) == 2, done.stderr
        assert json.loads(rest[1])["error"] == "policy_denied"
    judged = [
        (event["http_request"]["url"]["path"], event["metadata"]["event_code"])
        for event in gated.events("box")
        if "http_request" in event
    ]
    assert judged[:3] == [
        ("/open/a", "request-allowed"),
        ("/secret", "request-denied"),
        ("/open/b", "request-allowed"),
    ]


_NODE = """
const http2 = require('http2'), fs = require('fs')
const session = http2.connect(process.argv[2], { ca: fs.readFileSync(process.env.SSL_CERT_FILE) })
const ask = (path) => new Promise((done, failed) => {
  const stream = session.request({ ':path': path })
  let status, body = ''
  stream.on('response', (head) => { status = head[':status'] }).on('error', failed)
  stream.setEncoding('utf8').on('data', (data) => { body += data })
  stream.on('end', () => done([status, body])).end()
})
session.on('error', (error) => { console.log(error.message); process.exit(1) })
Promise.all(['/open/a', '/secret', '/open/b'].map(ask)).then((all) => {
  console.log(JSON.stringify(all)); session.close()
})
"""
_HTTPX = """
import httpx, json, ssl, sys
with httpx.Client(http2=True, verify=ssl.create_default_context()) as client:
    got = [client.get(sys.argv[1] + path) for path in ("/open/a", "/secret", "/open/b")]
print(json.dumps([[each.status_code, each.text] for each in got]))
print({each.http_version for each in got})
"""


def _lend(gated: Gated, *packages: str) -> None:
    """Put packages of the tests' interpreter into the work directory, for the system's."""
    there = subprocess.run(
        [PYTHON, "-c", "import sys; print(sys.version_info[:2])"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    if there != str(tuple(sys.version_info[:2])):
        pytest.skip(f"{PYTHON} is another version of Python than that of the tests")
    for name in packages:
        spec = importlib.import_module(name)
        source = Path(str(spec.__file__))
        target = gated.desk.folder("inside") / (name if source.stem == "__init__" else source.name)
        if source.stem == "__init__":
            shutil.copytree(source.parent, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)


def test_node_and_httpx(gated: Gated, pages: tuple[int, int]) -> None:
    _lend(
        gated, "httpx", "httpcore", "h11", "h2", "hpack", "hyperframe", "anyio", "certifi", "idna",
        "typing_extensions",
    )  # fmt: skip
    policy = _judged(gated, *pages)
    site = f"https://judged.test:{pages[1]}"
    gated.desk.write("client.js", _NODE)
    gated.desk.write("client.py", _HTTPX)
    script = f"python3 client.py {site}; {DIRECT} node client.js {site}; python3 client.py {site}"
    done = gated.run(policy, script)
    lines = done.stdout.splitlines()
    assert len(lines) == 5, done.stderr
    assert {lines[1], lines[4]} == {"{'HTTP/2'}"}
    for line in (lines[0], lines[2], lines[3]):
        first, second, third = json.loads(line)
        assert [first, third] == [[200, f"page /open/{name} over 2.0 with 0\n"] for name in "ab"]
        assert second[0] == 403
        assert json.loads(second[1])["error"] == "policy_denied"


# -- gRPC


@attrs.frozen
class Calls(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Echoes, under any name: a call whose name ends with Stream answers each message."""

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        if details.method.endswith("Stream"):
            return grpc.stream_stream_rpc_method_handler(self._each)
        return grpc.unary_unary_rpc_method_handler(self._one)

    def _one(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        context.set_trailing_metadata((("x-trailer", "there"),))
        return b"echo " + request

    def _each(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        for request in requests:
            yield b"echo " + request


@pytest.fixture(scope="module")
def calls(outside: Outside) -> Iterator[int]:
    """The port of a gRPC server with TLS."""
    folder = outside.hosts.parent
    pair = ((folder / "key.pem").read_bytes(), (folder / "certificate.pem").read_bytes())
    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=(Calls(),))
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    server.start()
    yield port
    server.stop(None)


_GRPC = """
import grpc, os, queue, sys
roots = open(os.environ["SSL_CERT_FILE"], "rb").read()
channel = grpc.secure_channel(sys.argv[1], grpc.ssl_channel_credentials(roots))
answer, call = channel.unary_unary("/open.Service/One").with_call(b"x" * 200000, timeout=20)
print(len(answer), dict(call.trailing_metadata())["x-trailer"])
words = queue.Queue()
words.put(b"first")
answers = channel.stream_stream("/open.Service/Stream")(iter(words.get, None), timeout=20)
print(next(answers).decode())  # before the second is sent
words.put(b"second")
print(next(answers).decode())
words.put(None)
print(list(answers), answers.code())
for name, call in (("One", channel.unary_unary), ("Stream", channel.unary_stream)):
    try:
        print(list(call("/secret.Service/" + name)(b"x", timeout=20)))
    except grpc.RpcError as error:
        print(error.code(), error.details())
"""


@WAYS
def test_grpc(gated: Gated, calls: int, way: str) -> None:
    _lend(gated, "grpc", "typing_extensions")
    policy = _judged(gated, calls, requests="[{ methods = ['POST'], path = '/open.Service/*' }]")
    gated.desk.write("client.py", _GRPC)
    done = gated.run(policy, f"{way}python3 client.py judged.test:{calls}", "--name", "box")
    lines = done.stdout.splitlines()
    assert lines[:4] == [
        "200005 there",
        "echo first",
        "echo second",
        "[] StatusCode.OK",
    ], done.stderr
    for line in lines[4:]:
        assert line.startswith("StatusCode.PERMISSION_DENIED policy_denied: "), line
        assert "what would allow it" in line
        assert os.fspath(gated.desk.base) not in line
    assert len(lines) == 6
    denied = [
        event["http_request"]["url"]["path"]
        for event in gated.events("box")
        if event["metadata"]["event_code"] == "request-denied"
    ]
    assert denied == ["/secret.Service/One", "/secret.Service/Stream"]
