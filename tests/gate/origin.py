"""Servers that read requests as generously as servers somewhere do, and keep what they were asked.

Hosts by the target, or else the last ``Host`` field; lines end with LF; folded lines are joined;
paths are decoded twice, also from overlong UTF-8, and case is ignored. Two servers differ in what
they believe of a body: Transfer-Encoding in any dress, or Content-Length.
"""

from __future__ import annotations

import errno
import re
import socket
import ssl
import struct
import threading
import urllib.parse
import zlib
from collections import Counter
from contextlib import suppress
from typing import BinaryIO

import attrs

MEGABYTE = 1 << 20


@attrs.frozen(kw_only=True)
class Asked:
    """One request, as a server has understood it."""

    method: str
    by: str
    """What it says in X-By."""
    address: str
    """The server's own address that it came to."""
    host: str
    path: str
    head: bytes
    fields: int
    body: bytes

    @property
    def call(self) -> str:
        """The method of JSON-RPC, of those that are there the first."""
        found = re.search(rb'"method":"([^"]*)"', self.body)
        return found[1].decode() if found else ""

    @property
    def inflated(self) -> int:
        """Octets of the body when it is no longer compressed."""
        if not self.body.startswith(b"\x1f\x8b"):
            return len(self.body)
        return len(zlib.decompressobj(31).decompress(self.body, 64 * MEGABYTE))


def understood(target: str) -> str:
    """The path that a target leads to, on the most generous of servers."""
    path = re.sub(r"^[a-z]+://[^/]*", "", target).partition("?")[0]
    for _ in range(2):
        path = urllib.parse.unquote(path, "latin-1")
        path = re.sub("[\xc0\xc1]([\x80-\xbf])", _overlong, path)
    segments: list[str] = []
    for each in path.replace("\\", "/").lower().split("/"):
        name = each.partition(";")[0]
        if name == "..":
            del segments[-1:]
        elif name not in ("", "."):
            segments.append(name)
    return "/" + "/".join(segments)


def _overlong(found: re.Match[str]) -> str:
    return chr((ord(found[0][0]) & 1) << 6 | ord(found[1]) & 63)


def _listen_everywhere(addresses: list[str]) -> list[socket.socket]:
    """At one port of all: one that is free at the first may be somebody else's at another."""
    for attempt in range(50):
        found: list[socket.socket] = []
        port = 0
        try:
            for each in addresses:
                family = socket.AF_INET6 if ":" in each else socket.AF_INET
                found.append(socket.create_server((each, port), family=family))
                port = found[0].getsockname()[1]
        except OSError as error:
            for listening in found:
                listening.close()
            if error.errno != errno.EADDRINUSE or attempt == 49:
                raise
        else:
            return found
    raise AssertionError("not reached")


class Origin:
    """One server, at one port of several addresses."""

    def __init__(
        self, addresses: list[str], asked: list[Asked], *, by_length: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:  # fmt: skip
        self.asked = asked
        self.away = ""
        self._by_length, self._tls = by_length, tls
        self._listening = _listen_everywhere(addresses)
        self.port: int = self._listening[0].getsockname()[1]
        for listening in self._listening:
            threading.Thread(target=self._accept, args=(listening,), daemon=True).start()

    def close(self) -> None:
        """Accept no more."""
        for each in self._listening:
            each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self, listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        address = connection.getsockname()[0]
        with suppress(OSError, ValueError):
            connection.settimeout(60)
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            with connection, connection.makefile("rb") as stream:
                while self._answer(connection, stream, address):
                    pass

    def _answer(self, connection: socket.socket, stream: BinaryIO, address: str) -> bool:
        line = stream.readline()
        while line in (b"\r\n", b"\n"):
            line = stream.readline()
        if not line:
            return False
        method, target, *_ = line.decode("latin-1").split()
        head, lines = line, [""]
        while (line := stream.readline()) not in (b"\r\n", b"\n", b""):
            head += line
            # A carriage return alone ends a line too.
            for each in line.decode("latin-1").rstrip("\r\n").split("\r"):
                if each[:1] in (" ", "\t"):
                    lines[-1] += each
                else:
                    lines.append(each)
        pairs = [each.partition(":")[::2] for each in lines]
        fields = {name.strip().lower(): value.strip() for name, value in pairs}
        # As CGI has it: no difference between a dash and an underscore.
        fields = {name.replace("_", "-"): value for name, value in fields.items()}
        body = self._body(stream, fields, [value for name, value in pairs])
        path = understood(fields.get("x-original-url", target))
        absolute = re.match("[a-z]+://(?:[^/@]*@)?([^/]*)", target)
        place = absolute[1] if absolute else fields.get("host", "")
        place = fields.get("x-forwarded-host", place)
        asked = Asked(
            method=fields.get("x-http-method-override", method).upper(), by=fields.get("x-by", ""),
            address=address, host=place.rpartition(":")[0] or place,
            path=path, head=head, fields=len(lines), body=body,
        )  # fmt: skip
        self.asked.append(asked)
        page = f"page of {asked.host} {path}\n".encode()
        if "upgrade" in fields and path == "/open/x":
            fields["connection"] = ""  # It cannot, and goes on.
        status = "302 Found" if path == "/open/away" else "200 OK"
        answer = (
            f"HTTP/1.1 {status}\r\nContent-Length: {len(page)}\r\nLocation: {self.away}\r\n\r\n"
        )
        connection.sendall(answer.encode() + page)
        return fields.get("connection") != "close"

    def _body(self, stream: BinaryIO, fields: dict[str, str], values: list[str]) -> bytes:
        if not self._by_length and any("chunked" in value for value in values):
            body = b""
            while size := int(stream.readline().partition(b";")[0], 16):
                body += stream.read(size)
                stream.readline()
            while (line := stream.readline()) not in (b"\r\n", b"\n", b""):
                name, _, value = line.decode("latin-1").partition(":")
                fields[name.lower()] = value.strip()
            return body
        length = fields.get("content-length", "")
        return stream.read(int(length)) if length.isdecimal() else b""


class NameServer:
    """Answers on UDP and TCP. Names below ``rebind.test`` lead to ``first`` when they are asked for
    with an odd number, else to ``then``; no other name is there."""

    def __init__(self, address: str, first: str, then: str) -> None:
        self.asked: list[str] = []
        self._answers = (first, then)
        self._count: Counter[str] = Counter()
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind((address, 53))
        self._tcp = socket.create_server((address, 53))
        for serve in (self._datagrams, self._streams):
            threading.Thread(target=serve, daemon=True).start()

    def close(self) -> None:
        """Answer no more."""
        self._tcp.shutdown(socket.SHUT_RDWR)
        for each in (self._tcp, self._udp):
            each.close()

    def _datagrams(self) -> None:
        with suppress(OSError):
            while True:
                query, client = self._udp.recvfrom(4096)
                self._udp.sendto(self._answer(query), client)

    def _streams(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._tcp.accept()
                with connection:
                    answer = self._answer(connection.recv(4096)[2:])
                    connection.sendall(struct.pack("!H", len(answer)) + answer)

    def _answer(self, query: bytes) -> bytes:
        labels, at = [], 12
        while size := query[at]:
            labels.append(query[at + 1 : at + 1 + size].decode().lower())
            at += 1 + size
        name, question = ".".join(labels), query[12 : at + 5]
        self.asked.append(name)
        known, kind = name.endswith(".rebind.test"), question[-3]
        flags = 0x8180 if known else 0x8183
        if not known or kind != 1:
            return query[:2] + struct.pack("!5H", flags, 1, 0, 0, 0) + question
        address = self._answers[self._count[name] % 2]
        self._count[name] += 1
        head = query[:2] + struct.pack("!5H", flags, 1, 1, 0, 0)
        return (
            head
            + question
            + b"\xc0\x0c"
            + struct.pack("!HHIH", 1, 1, 0, 4)
            + socket.inet_aton(address)
        )
