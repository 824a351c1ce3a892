"""Much, or very slowly."""

from __future__ import annotations

import gzip
import json
import socket

from .registry import Stage, Stopped, attack, listen

MEGABYTE = 1 << 20


@attack("load", evidence="done", stopped="an honest client is served", alone=True)
def slowloris(stage: Stage) -> str:
    """Hold many connections with half a head each, until nobody else is served."""
    place = f"judged.test:{stage.plain}"
    head = stage.head(f"http://{place}/open/x", place)
    held = []
    try:
        for _ in range(64):
            connection = stage.dial()
            connection.sendall(head[:20])
            held.append(connection)
        with stage.dial() as honest:
            honest.settimeout(stage.patience)
            honest.sendall(head)
            said = listen(honest)
        if said.startswith("HTTP/1.1 2"):
            raise Stopped("an honest client is served")
        return "an honest client is not served"
    finally:
        for connection in held:
            connection.close()


def _pour(connection: socket.socket, data: bytes) -> str:
    try:
        connection.sendall(data)
    except OSError:
        pass  # It is the answer that tells.
    said = listen(connection)
    if not said.startswith("HTTP/1.1 2"):
        raise Stopped(said[:600])
    return said


@attack("load", stopped=" 431 ")
def header_bomb(stage: Stage) -> str:
    """A field of two megabytes."""
    place = f"judged.test:{stage.plain}"
    with stage.dial() as connection:
        bomb = f"X-Bomb: {'b' * 2 * MEGABYTE}"
        return _pour(connection, stage.head(f"http://{place}/open/x", place, bomb))


@attack("load", stopped=" 431 ")
def many_headers(stage: Stage) -> str:
    """A hundred thousand fields."""
    place = f"judged.test:{stage.plain}"
    with stage.dial() as connection:
        bomb = [f"X-{number}: bomb" for number in range(100_000)]
        return _pour(connection, stage.head(f"http://{place}/open/x", place, *bomb))


def _call(stage: Stage, body: bytes, *fields: str) -> str:
    place = f"calls.test:{stage.plain}"
    lines = ("Content-Type: application/json", f"Content-Length: {len(body)}", *fields)
    head = stage.head(f"http://{place}/open/calls", place, *lines, method="POST")
    with stage.dial() as connection:
        return _pour(connection, head + body)


@attack("load")
def compression_bomb(stage: Stage) -> str:
    """A body of 64 MiB in 64 KiB, where bodies are judged."""
    call = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).encode()
    body = gzip.compress(call + b" " * (64 * MEGABYTE), 9)
    return _call(stage, body, "Content-Encoding: gzip")


@attack("load")
def nested_bomb(stage: Stage) -> str:
    """A body of JSON that is nested 100,000 deep."""
    body = b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":'
    return _call(stage, body + b"[" * 100_000 + b"]" * 100_000 + b"}")


@attack("load")
def call_twice(stage: Stage) -> str:
    """A body that says its method twice: the proxy reads the last, the server the first."""
    return _call(stage, b'{"jsonrpc":"2.0","id":1,"method":"tools/call","method":"tools/list"}')
