"""Real clients inside, whose queries, calls, operations and messages are judged."""

from __future__ import annotations

import json
import shutil
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import websockets
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import Server, ServerConnection, serve

from .grounds import WAYS, Gated

HTTP = """[
  { methods = ['GET'], path = '/search', query = { q = '*', 'page?' = '*' } },
  { methods = ['POST'], path = '/mcp', rpc = [
    { method = 'initialize' },
    { method = 'tools/call', tool = 'read_*', arguments = { path = '/srv/**' } },
  ] },
  { methods = ['POST'], path = '/graphql', graphql = [
    { operation = 'query', fields = ['viewer'] },
  ] },
]""".replace("\n", "")
LIVE = """[
  { methods = ['GET'], path = '/live', rpc = [
    { method = 'initialize' },
    { method = 'tools/call', tool = 'read_*' },
  ] },
  { methods = ['GET'], path = '/free', websocket = true },
]""".replace("\n", "")


def call(tool: str, **arguments: str) -> str:
    params = {"name": tool, "arguments": arguments}
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})


def post(url: str, body: str, extra: str = "") -> str:
    """A line of shell that prints the status, and the rule that denies."""
    return (
        f"curl -sS {extra} -o out -w '%{{http_code}} ' -H 'Content-Type: application/json' "
        f"--data-binary '{body}' {url} && python3 -c "
        '\'import json; print(json.load(open("out")).get("rule"))\' 2>/dev/null || echo page\n'
    )


@WAYS
def test_what_is_in_a_request_decides(gated: Gated, way: str) -> None:
    gated.outside.seen.clear()
    policy = gated.policy(gated.rule("judged.test", http=HTTP))
    site = f"https://judged.test:{gated.outside.secure}"
    good, other = call("read_file", path="/srv/a"), call("delete_file", path="/srv/secret")
    lines = [
        post(f"{site}/mcp", good),
        post(f"{site}/mcp", good, "-H 'Transfer-Encoding: chunked' -H 'Expect: 100-continue'"),
        post(f"{site}/mcp", other),
        post(f"{site}/mcp", f"[{good}, {other}]"),
        post(f"{site}/mcp", call("read_file", path="/srv/../etc/passwd")),
        post(f"{site}/mcp", good, "-H 'Content-Encoding: gzip'"),
        post(f"{site}/graphql", '{"query": "query { me: viewer { login } }"}'),
        post(f"{site}/graphql", '{"query": "{ ...F } fragment F on Query { secret }"}'),
        post(f"{site}/graphql", '{"extensions": {"persistedQuery": {"sha256Hash": "0"}}}'),
        post(f"'{site}/search?q=a&page=2'", "", "-G"),
        post(f"'{site}/search?q=a&admin=1'", "", "-G"),
    ]
    done = gated.run(policy, way + "".join(lines), "--name", "box")
    assert done.stdout.splitlines() == [
        "200 page", "200 page", "403 rpc", "403 rpc", "403 rpc", "403 malformed-body",
        "200 page", "403 graphql", "403 malformed-body", "200 page", "403 query",
    ], done.stderr  # fmt: skip
    assert [each.body.decode() for each in gated.outside.seen[:2]] == [good, good]
    assert len(gated.outside.seen) == 4
    events = [e for e in gated.events("box") if e["class_uid"] == 4002]
    denied = [e for e in events if e["metadata"]["event_code"] == "request-denied"]
    assert (len(events), len(denied)) == (11, 7)
    assert "delete_file" in denied[0]["message"]
    assert 'tool = "delete_file"' in denied[0]["unmapped"]["remedy"]
    assert "/srv/secret" not in json.dumps(events)


@pytest.fixture
def live(gated: Gated) -> Iterator[tuple[Server, list[object]]]:
    """A WebSocket server behind judged.test; what it was told, and how each connection ended."""
    said: list[object] = []

    def echo(connection: ServerConnection) -> None:
        said.append(connection.response.headers.get("Sec-WebSocket-Extensions"))  # type: ignore
        try:
            for message in connection:
                said.append(message)
                connection.send(message)
        except ConnectionClosed:
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    folder = gated.outside.authorities.parent
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    with serve(echo, "127.0.0.1", 0, ssl=context) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server, said
        server.shutdown()
        thread.join()


CLIENT = """
import sys
from websockets.sync.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
for url, messages in {attempts!r}:
    try:
        with connect(url) as socket:
            for message in messages:
                socket.send(message)
                print(len(socket.recv()))
    except ConnectionClosed as error:
        print(error.rcvd.code, error.rcvd.reason)
    except InvalidStatus as error:
        print(error.response.status_code)
"""


@WAYS
def test_messages_on_a_websocket_are_judged(
    gated: Gated, live: tuple[Server, list[object]], way: str
) -> None:
    server, said = live
    port = server.socket.getsockname()[1]
    rule = gated.rule("judged.test", http=LIVE).replace(
        f"[{gated.outside.plain}, {gated.outside.secure}]", f"[{port}]"
    )
    work = gated.desk.folder("inside")
    shutil.copytree(Path(websockets.__file__).parent, work / "websockets")
    site = f"wss://judged.test:{port}"
    good, long = call("read_file", path="/x"), call("read_file", path="x" * 200_000)
    bad = call("delete_file", path="/x")
    attempts = [
        (f"{site}/live", [good, long]),
        (f"{site}/live", [good, bad, good]),
        (f"{site}/live", [b"octets"]),
        (f"{site}/free", [b"octets", "text"]),
        (f"{site}/other", []),
    ]
    (work / "client.py").write_text(CLIENT.format(attempts=attempts))
    done = gated.run(gated.policy(rule), f"{way}python3 client.py", "--name", "box")
    out = done.stdout.splitlines()
    assert out[:3] == [str(len(good)), str(len(long)), str(len(good))], done.stderr
    assert out[3].startswith("1008 rpc: tools/call delete_file")
    assert out[4].startswith("1003 ")
    assert out[5:] == ["6", "4", "403"]
    assert said[:3] == [None, good, long]  # nothing is compressed that is to be read
    assert said[3:6] == [None, good, None]
    assert said[6] is not None  # what nobody reads may be
    assert said[7:] == [b"octets", "text"]
    denied = [e for e in gated.events("box") if e["status_id"] == 2 and e["class_uid"] == 4002]
    assert [e["unmapped"]["rule"] for e in denied] == ["rpc", "malformed", "path"]
