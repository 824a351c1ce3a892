"""How fast the proxy is on this machine: ``python plugins/netns/bench/proxy.py [SECONDS]``.

Three processes: a server, the proxy, and clients. Each case prints requests (or connections, or
bytes) a second, and the processor time of the proxy per request, which does not depend on how busy
the other two keep the machine.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, cast

import uvloop
from nemoclaw_hookspecs.egress import EgressRequest, EgressVerdict, OutgoingRequest
from nemoclaw_plugin_netns.proxy.authority import Authority
from nemoclaw_plugin_netns.service import open_service

CONNECTIONS = 16
BODY = b"hello, world\n"
RESPONSE = (
    b"HTTP/1.1 200 OK\r\nServer: bench\r\nDate: Tue, 24 Nov 2026 12:00:00 GMT\r\n"
    b"Content-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
)
FIELDS = (
    b"Host: %b\r\nUser-Agent: bench/1\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate\r\n"
    b"Connection: keep-alive\r\n\r\n"
)
BULK = bytes(262144)


class Everything:
    """Allows all, and dials one server."""

    sandbox = "bench"
    init = 1
    wants_caller = False
    wants_digest = False
    wants_bodies = False
    authorities = ""
    generation = 1

    def __init__(self, ports: dict[int, int], inspect: set[int]) -> None:
        self._ports = ports
        self._verdicts = {
            port: EgressVerdict(
                action="allow",
                rule="bench",
                host="server.example",
                port=port,
                inspect=port in inspect,
                generation=1,
            )
            for port in ports
        }

    def changed(self, host: str) -> bool:
        return True

    def resolvable(self, name: str) -> bool:
        return True

    def judge(self, request: EgressRequest) -> EgressVerdict:
        return self._verdicts[request.port]

    async def authorize(self, request: EgressRequest) -> EgressVerdict:
        return self._verdicts[request.port]

    async def dial(self, verdict: EgressVerdict) -> socket.socket:
        sock = socket.socket()
        sock.setblocking(False)
        port = self._ports[verdict.port]
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        return sock

    async def add_credential(
        self, verdict: EgressVerdict, request: OutgoingRequest
    ) -> OutgoingRequest:
        return request

    def denied(self, request: EgressRequest, rule: str, reason: str) -> None:
        print("denied", rule, reason, file=sys.stderr)


class Server(asyncio.Protocol):
    """Answers each head; a path that begins with /bulk gets bytes without end."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.bulk = False

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"GET /bulk"):
            self.bulk = True
            self.transport.write(b"HTTP/1.1 200 OK\r\n\r\n")
            self.resume_writing()
        else:
            self.transport.write(RESPONSE * data.count(b"\r\n\r\n"))

    def pause_writing(self) -> None:
        self.bulk = False

    def resume_writing(self) -> None:
        self.bulk = True
        while self.bulk and not self.transport.is_closing():
            self.transport.write(BULK)


class Client(asyncio.Protocol):
    """Sends one request after the other; counts responses or, of bulk, octets."""

    def __init__(self, prelude: bytes, request: bytes, again: Callable[[], None] | None) -> None:
        self.prelude = prelude
        self.request = request
        self.again = again
        self.count = 0
        self.octets = 0
        self.latencies: list[float] = []
        self.sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(self.prelude or self.request)
        self.sent = time.perf_counter()

    def data_received(self, data: bytes) -> None:
        self.octets += len(data)
        if self.prelude:
            self.prelude = b""
            self.transport.write(self.request)
        elif data.endswith(BODY):  # never true of bulk, which is zeroes
            now = time.perf_counter()
            self.latencies.append(now - self.sent)
            self.sent = now
            self.count += 1
            if self.again is not None:
                self.transport.abort()
                self.again()
            else:
                self.transport.write(self.request)


def serve(ready: Connection, certificate: str) -> None:
    """The server process."""
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    plain = loop.run_until_complete(loop.create_server(Server, "127.0.0.1", 0, backlog=4096))
    secure = loop.run_until_complete(
        loop.create_server(Server, "127.0.0.1", 0, ssl=context, backlog=4096)
    )
    ready.send((plain.sockets[0].getsockname()[1], secure.sockets[0].getsockname()[1]))
    loop.run_forever()


def gate(ready: Connection, plain: int, secure: int, extra_ca: str) -> None:
    """The proxy process."""
    loop = uvloop.new_event_loop()
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    egress = Everything({80: plain, 8080: plain, 443: secure, 8443: secure}, {8080, 8443})
    service = open_service(egress, {"proxy": listener}, extra_ca=extra_ca)
    loop.run_until_complete(service.start())
    ready.send((listener.getsockname()[1], service.ca_certificate))
    ask = loop.create_future()

    def readable() -> None:
        ready.recv()
        usage = os.times()
        ready.send(usage.user + usage.system)

    loop.add_reader(ready.fileno(), readable)
    loop.run_until_complete(ask)


async def load(
    port: int,
    prelude: bytes,
    request: bytes,
    seconds: float,
    *,
    connections: int = CONNECTIONS,
    fresh: bool = False,
    trust: ssl.SSLContext | None = None,
) -> tuple[int, int, list[float]]:
    """Counts, octets and latencies of clients that run for some seconds."""
    loop = asyncio.get_running_loop()
    clients: list[Client] = []
    ending = False

    async def one() -> None:
        client = Client(prelude, request, again if fresh else None)
        clients.append(client)
        if trust is None:
            await loop.create_connection(lambda: client, "127.0.0.1", port)
            return
        sock = socket.socket()
        sock.setblocking(False)
        await loop.sock_connect(sock, ("127.0.0.1", port))
        await loop.sock_sendall(sock, prelude)
        await loop.sock_recv(sock, 4096)
        client.prelude = b""
        await loop.create_connection(
            lambda: client, sock=sock, ssl=trust, server_hostname="server.example"
        )

    tasks: set[asyncio.Task[None]] = set()

    def again() -> None:
        if not ending:
            task = loop.create_task(one())
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    for _ in range(connections):
        await one()
    await asyncio.sleep(seconds)
    ending = True
    if tasks:
        await asyncio.wait(tasks)
    for client in clients:
        client.transport.abort()
    return (
        sum(c.count for c in clients),
        sum(c.octets for c in clients),
        sorted(latency for c in clients for latency in c.latencies),
    )


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
    trust_sandbox = ssl.create_default_context(cadata=ca.decode())
    trust_outside = ssl.create_default_context(cadata=outside.ca_certificate.decode())
    loop = uvloop.new_event_loop()

    def case(name: str, prelude: bytes, request: bytes, to: int = port, **settings: Any) -> None:
        control.send("usage")
        before = control.recv()
        began = time.monotonic()
        count, octets, latencies = loop.run_until_complete(
            load(to, prelude, request, seconds, **settings)
        )
        took = time.monotonic() - began
        control.send("usage")
        busy = control.recv() - before
        if count:
            p50, p99 = latencies[len(latencies) // 2], latencies[len(latencies) * 99 // 100]
            print(
                f"{name:52}{count / took:10,.0f} /s   proxy {busy / count * 1e6:6.1f} us"
                f"   p50 {p50 * 1e3:.2f} p99 {p99 * 1e3:.2f} ms",
                flush=True,
            )
        else:
            print(
                f"{name:52}{octets / took / 1e9:10.2f} GB/s   proxy {busy / took:4.0%} of a core",
                flush=True,
            )

    def connect(to: int) -> bytes:
        return b"CONNECT server.example:%d HTTP/1.1\r\nHost: server.example:%d\r\n\r\n" % (to, to)

    host = b"server.example"
    get = b"GET /v1/models?limit=3 HTTP/1.1\r\n" + FIELDS % host
    get8080 = b"GET /v1/models?limit=3 HTTP/1.1\r\n" + FIELDS % b"server.example:8080"
    get8443 = b"GET /v1/models?limit=3 HTTP/1.1\r\n" + FIELDS % b"server.example:8443"
    absolute = b"GET http://server.example/v1/models?limit=3 HTTP/1.1\r\n" + FIELDS % host
    bulk = b"GET /bulk HTTP/1.1\r\n" + FIELDS % host
    case("no proxy, keep-alive", b"", get, to=plain)
    case("http:// URL to the proxy, keep-alive, inspected", b"", absolute)
    case("the same, one connection", b"", absolute, connections=1)
    case("CONNECT, inspected HTTP inside, keep-alive", connect(8080), get8080)
    case("CONNECT, inspected TLS inside, keep-alive", connect(8443), get8443, trust=trust_sandbox)
    case("CONNECT, passed through, keep-alive", connect(80), get)
    case("CONNECT, TLS passed through", connect(443), get, trust=trust_outside)
    case("CONNECT and one request per connection", connect(80), get, fresh=True)
    case("http:// URL, one request per connection", b"", absolute, fresh=True)
    case("no proxy, bulk, 2 streams", b"", bulk, to=plain, connections=2)
    case("CONNECT, bulk, 2 streams", connect(80), bulk, connections=2)
    for process in (proxy, server):
        process.terminate()
        process.join()


def outside_leaf(authority: Authority, path: str) -> None:
    """A certificate with its key, for the server process."""
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    leaf: x509.Certificate = authority._leaf(
        "server.example", datetime.datetime.now(datetime.timezone.utc)
    )
    with open(path, "wb") as file:
        file.write(leaf.public_bytes(Encoding.PEM) + authority._leaf_pem)


if __name__ == "__main__":
    main()
