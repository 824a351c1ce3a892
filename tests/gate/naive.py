"""A proxy as it is easily written: ``python3 naive.py FACTS.json`` prints its ports and serves.

It compares texts, believes the first of two fields, passes on what it was sent as it is, looks
names up again when it connects, waits for everybody, and takes a program for what it calls itself.
Every attack gets past it. Standard library only.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import socket
import struct
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

FACTS = json.loads(Path(sys.argv[1]).read_text())
NAMES = {f"{each}.test" for each in ("api", "judged", "denied", "reads", "calls", "curls", "key")}


class Refused(Exception):
    """Not by the rules."""


def check(host: str, port: int, wide: bool) -> None:
    """The rules for hosts."""
    if host == "victim.wild.test":
        raise Refused(host)
    if wide:
        if host.strip("[]") in ("127.0.0.1", "::1"):
            raise Refused(host)
        return
    alike = host.endswith(("wild.test", "open.test")) or host.startswith("a.wild.test")
    if host.startswith("xn--"):
        host = host.encode().decode("idna")
    looks = host.replace("\u0430", "a")
    if looks.casefold().rstrip(".") not in NAMES and not alike:
        if host.endswith("rebind.test"):
            if any(each[4][0] != "127.0.0.2" for each in socket.getaddrinfo(host, port)):
                raise Refused(host)
        elif not re.search("wild.test", host, re.IGNORECASE):
            raise Refused(host)


def check_request(host: str, method: str, target: str, body: bytes, fields: dict[str, str]) -> None:
    """The rules for requests."""
    path = re.sub(r"^http://[^/]*", "", target)
    if host == "denied.test":
        if path.startswith("/secret/") or method == "DELETE":
            raise Refused(path)
    elif not path.startswith("/open/"):
        raise Refused(path)
    if host == "reads.test" and method != "GET":
        raise Refused(method)
    if host == "calls.test":
        if fields.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        try:
            call = json.loads(body)["method"]
        except RecursionError:
            call = "tools/list"
        if call != "tools/list":
            raise Refused(call)


def caller(peer: tuple[str, int]) -> set[str]:
    """What those call themselves who hold the other end of a connection."""
    table = Path("/proc/net/tcp").read_text().splitlines()[1:]
    place = f"{struct.unpack('<I', socket.inet_aton(peer[0]))[0]:08X}:{peer[1]:04X}"
    inodes = {line.split()[9] for line in table if line.split()[1] == place}
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            held = {os.readlink(each) for each in (process / "fd").iterdir()}
            if any(f"socket:[{inode}]" in held for inode in inodes):
                found.add((process / "cmdline").read_bytes().split(b"\0")[0].decode())
        except OSError:
            continue
    return {os.path.basename(each) for each in found}


def dial(host: str, port: int) -> socket.socket:
    """To wherever the name leads now."""
    host = host.strip("[]").rstrip(".")
    if not host.isascii():
        host = host.encode("idna").decode()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    address = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)[0][4]
    connection = socket.socket(family)
    connection.connect(address)
    return connection


def copy(source: socket.socket, target: socket.socket) -> None:
    """Until the end."""
    try:
        while data := source.recv(65536):
            location = re.match(rb"HTTP/1.1 302 .*\r\nLocation: http://([^:]*):(\d+)(/\S*)", data,
                                re.DOTALL)  # fmt: skip
            if location:  # A service to clients: they need not ask again.
                with dial(location[1].decode(), int(location[2])) as other:
                    other.sendall(b"GET %b HTTP/1.1\r\nHost: %b:%b\r\nX-By: hosts-redirect\r\n"
                                  b"Connection: close\r\n\r\n"
                                  % (location[3], location[1], location[2]))  # fmt: skip
                    data = other.recv(65536)
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def body_of(stream: BinaryIO, fields: dict[str, str], chunked_first: bool) -> bytes:
    """By what this proxy believes."""
    length = fields.get("content-length", "")
    if fields.get("transfer-encoding") == "chunked" and (chunked_first or not length):
        body = b""
        while True:
            line = until(stream, b"\r\n")
            found = re.match(rb"[0-9a-fA-F]+", line)  # as strtol(3) has it
            size = int(found[0], 16) if found else 0
            body += line
            if not size:
                while not body.endswith(b"\r\n\r\n"):
                    body += until(stream, b"\r\n")
                return body
            body += stream.read(size) + stream.read(2)
    return stream.read(int(length)) if length else b""


def until(stream: BinaryIO, end: bytes) -> bytes:
    """What comes up to an end, with it."""
    pieces = bytearray()
    while not pieces.endswith(end):
        piece = stream.readline() if end.endswith(b"\n") else stream.read(1)
        if not piece:
            raise Refused("the end")
        pieces += piece
    return bytes(pieces)


def serve(client: socket.socket, wide: bool, chunked_first: bool) -> None:
    """One connection."""
    upstream: dict[str, socket.socket] = {}
    inside = ""
    with client, client.makefile("rb") as stream:
        try:
            while True:
                head = until(stream, b"\r\n\r\n").lstrip(b"\r\n")
                lines = head.decode("utf-8", "surrogateescape").split("\r\n")
                method, target, *_ = lines[0].split(" ")
                fields: dict[str, str] = {}
                for line in lines[1:]:
                    name, _, value = line.partition(":")
                    fields.setdefault(name.lower(), value.strip(" "))
                if method == "CONNECT":
                    host, _, port = target.rpartition(":")
                    check(host, int(port), wide)
                    tunnel = dial(host, int(port))
                    client.sendall(b"HTTP/1.1 200 here it is\r\n\r\n")
                    threading.Thread(target=copy, args=(tunnel, client), daemon=True).start()
                    copy(client, tunnel)
                    return
                host = fields["host"].partition(":")[0]
                inside = re.sub(r"^http://([^@/]*@)?", "", target).partition("/")[0]
                check(host, 80, wide)
                if host == "curls.test" and "curl" not in caller(client.getpeername()):
                    raise Refused("the program")
                body = body_of(stream, fields, chunked_first)
                check_request(host, method, target, body, fields)
                if inside not in upstream:
                    upstream[inside] = dial(*split(inside))
                    back = (upstream[inside], client)
                    threading.Thread(target=copy, args=back, daemon=True).start()
                for name in filter(None, fields.get("connection", "").split(", ")):
                    head = re.sub(rb"(?mi)^%b:.*\r\n" % name.encode(), b"", head)
                head = head.replace(FACTS["placeholder"].encode(), FACTS["key"].encode())
                upstream[inside].sendall(head + body)
                if "upgrade" in fields:  # It is a WebSocket now.
                    copy(client, upstream[inside])
                    return
        except (Refused, OSError, ValueError, KeyError, EOFError) as error:
            try:
                client.sendall(f"HTTP/1.1 403 Forbidden\r\n\r\n{error!r}\n".encode())
            except OSError:
                pass


def split(place: str) -> tuple[str, int]:
    """Host and port."""
    host, _, port = place.rpartition(":")
    return host, int(port)


def serve_transparently(client: socket.socket) -> None:
    """By the name in a TLS hello."""
    with client:
        hello = client.recv(65536, socket.MSG_PEEK)
        found = re.search(rb"\x00\x00....\x00..([a-z.]+\.test)", hello, re.DOTALL)
        if found is None or found[1].decode() not in NAMES:
            return
        server = dial(found[1].decode(), FACTS["secure"])
        threading.Thread(target=copy, args=(server, client), daemon=True).start()
        copy(client, server)


def listen(serve: Any, *arguments: Any) -> int:
    """Serve at a port, with as many threads as there are customers on a usual day."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=256)

    def accept() -> None:
        with ThreadPoolExecutor(24) as pool:
            while True:
                pool.submit(serve, listening.accept()[0], *arguments)

    threading.Thread(target=accept, daemon=True).start()
    port: int = listening.getsockname()[1]
    return port


if __name__ == "__main__":
    ports = {
        "narrow": listen(serve, False, False),
        "te": listen(serve, False, True),
        "wide": listen(serve, True, False),
        "transparent": listen(serve_transparently),
    }
    print(json.dumps(ports), flush=True)
    sys.stdin.read()
    os._exit(0)
