"""How fast inspected HTTP/2 is on this machine: ``python plugins/netns/bench/http2.py [SECONDS]``.

Three processes, as in ``proxy.py``: a server and a client that send canned frames and hardly think,
and the proxy between them. One connection with 1 and with 16 streams at a time, of plaintext and of
TLS. Bulk is one response without end, a window at a time.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import ssl
import struct
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from typing import cast

import uvloop
from hpack import Decoder, Encoder
from nemoclaw_plugin_netns.proxy.authority import Authority

sys.path.insert(0, __file__.rpartition("/")[0])
from proxy import gate, outside_leaf  # type: ignore[import-not-found]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
BODY = b"hello, world\n"
WINDOW = (1 << 31) - 70000
ANSWER = [
    (b":status", b"200"),
    (b"server", b"bench"),
    (b"date", b"Tue, 24 Nov 2026 12:00:00 GMT"),
    (b"content-type", b"text/plain"),
    (b"content-length", b"%d" % len(BODY)),
]
BULK = [(b":status", b"200"), (b"content-type", b"application/octet-stream")]


def request(scheme: bytes, port: int, path: bytes) -> list[tuple[bytes, bytes]]:
    return [
        (b":method", b"GET"),
        (b":scheme", scheme),
        (b":authority", b"server.example:%d" % port),
        (b":path", path),
        (b"user-agent", b"bench/1"),
        (b"accept", b"*/*"),
        (b"accept-encoding", b"gzip, deflate"),
    ]


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return (
        struct.pack("!HBBBI", len(payload) >> 8, len(payload) & 255, kind, flags, stream) + payload
    )


class Peer(asyncio.Protocol, ABC):
    """Reads frames; knows two header blocks: the first one, and the one when all is indexed."""

    def __init__(self, headers: list[tuple[bytes, bytes]]) -> None:
        encoder = Encoder()
        self.blocks = [encoder.encode(headers), encoder.encode(headers)]
        self.rest = b""
        self.out: list[bytes] = []

    def block(self) -> bytes:
        return self.blocks.pop(0) if len(self.blocks) > 1 else self.blocks[0]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.out.append(frame(4, 0, 0, struct.pack("!HI", 4, WINDOW)))
        self.out.append(frame(8, 0, 0, struct.pack("!I", WINDOW)))
        self.begin()
        self.flush()

    def flush(self) -> None:
        self.transport.write(b"".join(self.out))
        self.out.clear()

    def begin(self) -> None:
        pass

    @abstractmethod
    def received(self, kind: int, flags: int, stream: int, payload: bytes) -> None: ...

    def data_received(self, data: bytes) -> None:
        data = self.rest + data
        at = 0
        while len(data) - at >= 9:
            high, low, kind, flags, stream = struct.unpack_from("!HBBBI", data, at)
            end = at + 9 + (high << 8 | low)
            if len(data) < end:
                break
            if kind == 4 and not flags & 1:
                self.out.append(frame(4, 1, 0, b""))
            self.received(kind, flags, stream, data[at + 9 : end])
            at = end
        self.rest = data[at:]
        if self.out:
            self.flush()


class Server(Peer):
    """Answers each request; gives octets without end to a connection that asks for /bulk first."""

    def __init__(self) -> None:
        super().__init__(ANSWER)
        self.preface = len(PREFACE)
        self.window = 65535
        self.windows: dict[int, int] = {}

    def data_received(self, data: bytes) -> None:
        skip = min(self.preface, len(data))
        self.preface -= skip
        super().data_received(data[skip:])

    def received(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == 1:
            if stream == 1 and (b":path", b"/bulk") in list(Decoder().decode(payload, raw=True)):
                self.windows[stream] = 1 << 18
                self.out.append(frame(1, 4, stream, Encoder().encode(BULK)))
                self.pour()
                return
            self.out.append(frame(1, 4, stream, self.block()))
            self.out.append(frame(0, 1, stream, BODY))
        elif kind == 8:
            (more,) = struct.unpack("!I", payload)
            if not stream:
                self.window += more
            elif stream in self.windows:
                self.windows[stream] += more
            self.pour()

    def pour(self) -> None:
        for stream, left in self.windows.items():
            while left >= 16384 and self.window >= 16384:
                self.out.append(frame(0, 0, stream, bytes(16384)))
                left -= 16384
                self.window -= 16384
            self.windows[stream] = left


class Client(Peer):
    """Keeps a number of requests on the way."""

    def __init__(self, headers: list[tuple[bytes, bytes]], streams: int) -> None:
        super().__init__(headers)
        self.streams = streams
        self.next = 1
        self.count = 0
        self.octets = 0
        self.sent: dict[int, float] = {}
        self.latencies: list[float] = []

    def begin(self) -> None:
        self.out.insert(0, PREFACE)
        for _ in range(self.streams):
            self.ask()

    def ask(self) -> None:
        self.out.append(frame(1, 5, self.next, self.block()))
        self.sent[self.next] = time.perf_counter()
        self.next += 2

    def received(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind in (3, 7):
            raise SystemExit(f"refused: {kind} {payload!r}")
        if kind == 0:
            self.octets += len(payload)
            if flags & 1:
                self.count += 1
                self.latencies.append(time.perf_counter() - self.sent.pop(stream))
                self.ask()


def serve(ready: multiprocessing.connection.Connection, certificate: str) -> None:
    """The server process."""
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(certificate)
    plain = loop.run_until_complete(loop.create_server(Server, "127.0.0.1", 0))
    secure = loop.run_until_complete(loop.create_server(Server, "127.0.0.1", 0, ssl=context))
    ready.send((plain.sockets[0].getsockname()[1], secure.sockets[0].getsockname()[1]))
    loop.run_forever()


async def load(
    port: int, to: int, client: Client, seconds: float, trust: ssl.SSLContext | None
) -> None:
    """Run one client through the proxy, or without it, for some seconds."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    if to:
        writer.write(
            b"CONNECT server.example:%d HTTP/1.1\r\nHost: server.example:%d\r\n\r\n" % (to, to)
        )
        await reader.readuntil(b"\r\n\r\n")
    loop = asyncio.get_running_loop()
    sock = writer.get_extra_info("socket").dup()
    cast("asyncio.Transport", writer.transport).pause_reading()
    if trust is None:
        await loop.create_connection(lambda: client, sock=sock)
    else:
        await loop.create_connection(
            lambda: client, sock=sock, ssl=trust, server_hostname="server.example"
        )
    await asyncio.sleep(seconds)
    client.transport.abort()
    writer.transport.abort()


def main() -> None:
    """Run every case."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 3.0
    outside = Authority("outside")
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as directory:
        certificate, extra_ca = f"{directory}/server.pem", f"{directory}/ca.pem"
        outside_leaf(outside, certificate)
        with open(extra_ca, "wb") as file:
            file.write(outside.ca_certificate)
        here, there = context.Pipe()
        server = context.Process(target=serve, args=(there, certificate), daemon=True)
        server.start()
        plain, secure = here.recv()
        control, other = context.Pipe()
        proxy = context.Process(target=gate, args=(other, plain, secure, extra_ca), daemon=True)
        proxy.start()
        port, ca = control.recv()
    trust = ssl.create_default_context(cadata=ca.decode())
    trust.set_alpn_protocols(["h2"])
    loop = uvloop.new_event_loop()

    def case(name: str, to: int, streams: int, *, bulk: bool = False, direct: bool = False) -> None:
        secured = to == 8443
        headers = request(b"https" if secured else b"http", to, b"/bulk" if bulk else b"/v1/models")
        client = Client(headers, streams)
        control.send("usage")
        before = control.recv()
        began = time.monotonic()
        where = (plain, 0) if direct else (port, to)
        loop.run_until_complete(load(*where, client, seconds, trust if secured else None))
        took = time.monotonic() - began
        control.send("usage")
        busy = control.recv() - before
        if bulk:
            rate = f"{client.octets / took / 1e6:10,.0f} MB/s  proxy {busy / took:4.0%} of a core"
        else:
            latencies = sorted(client.latencies)
            p50, p99 = latencies[len(latencies) // 2], latencies[len(latencies) * 99 // 100]
            rate = (
                f"{client.count / took:10,.0f} /s   proxy {busy / client.count * 1e6:6.1f} us"
                f"   p50 {p50 * 1e3:.2f} p99 {p99 * 1e3:.2f} ms"
            )
        print(f"{name:40}{rate}", flush=True)

    case("no proxy, 16 streams", 8080, 16, direct=True)
    case("plaintext, 1 stream", 8080, 1)
    case("plaintext, 16 streams", 8080, 16)
    case("TLS, 1 stream", 8443, 1)
    case("TLS, 16 streams", 8443, 16)
    case("plaintext, bulk", 8080, 1, bulk=True)
    case("TLS, bulk", 8443, 1, bulk=True)
    for process in (proxy, server):
        process.terminate()
        process.join()


if __name__ == "__main__":
    main()
