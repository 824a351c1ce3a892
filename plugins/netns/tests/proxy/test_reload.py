"""Another policy comes into force while two hundred connections are at work."""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import pytest
from nemoclaw_hookspecs.egress import EgressRequest, EgressVerdict
from nemoclaw_plugin_netns.proxy.authority import Authority

if TYPE_CHECKING:
    from plugins.netns.tests.proxy.conftest import Running, Start

KEPT, DROPPED = "kept.example", "dropped.example"
EACH = 25
"""Connections of each kind to each of the two hosts."""
BUDGET = 0.05
BLOCK = bytes(range(256)) * 8


class Servers:
    """Echoes, and counts what it gets from whom."""

    def __init__(self) -> None:
        self.octets = {KEPT: 0, DROPPED: 0}
        self.ports: dict[tuple[str, int], int] = {}
        self._servers: list[asyncio.AbstractServer] = []

    async def start(self, authority: Authority) -> None:
        for host in (KEPT, DROPPED):
            for port, serve, context in (
                (22, self._echo, None),
                (443, self._echo, authority.context(host)),
                (80, self._pages, None),
            ):
                server = await asyncio.start_server(
                    functools.partial(serve, host),
                    "127.0.0.1",
                    ssl=context,
                    backlog=256,
                )
                self._servers.append(server)
                self.ports[host, port] = server.sockets[0].getsockname()[1]

    async def _echo(
        self, host: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            while data := await reader.read(65536):
                self.octets[host] += len(data)
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def _pages(
        self, host: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                self.octets[host] += 1
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def close(self) -> None:
        for server in self._servers:
            server.close()


class Client:
    """One connection that is always at work, until it is told to end, or is cut."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.rounds = 0
        self.cut_at = 0.0
        self.error = ""

    async def run(self, open_it: Callable[[], Coroutine[Any, Any, Any]], ending: Any) -> None:
        reader, writer, turn = await open_it()
        try:
            while not ending.is_set():
                if not await turn(reader, writer):
                    raise ConnectionError("another answer than what was asked for")
                self.rounds += 1
                await asyncio.sleep(0)
        except (OSError, asyncio.IncompleteReadError) as error:
            self.cut_at, self.error = time.monotonic(), repr(error)
        finally:
            writer.close()


async def echoed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    writer.write(BLOCK)
    return await reader.readexactly(len(BLOCK)) == BLOCK


async def _connected(gate: Running, host: str, port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    sock.setblocking(False)
    await loop.sock_connect(sock, ("127.0.0.1", gate.port))
    await loop.sock_sendall(
        sock, f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()
    )
    answer = await loop.sock_recv(sock, 4096)
    assert answer == b"HTTP/1.1 200 Connection established\r\n\r\n", answer
    return sock


def ways(gate: Running, host: str, trust: ssl.SSLContext) -> list[Callable[[], Any]]:
    async def connect() -> Any:
        sock = await _connected(gate, host, 22)
        return *(await asyncio.open_connection(sock=sock)), echoed

    async def transparent() -> Any:
        loop = asyncio.get_running_loop()
        sock = socket.socket()
        sock.setblocking(False)
        sock.bind(("127.0.0.1", 0))
        gate.transparent_to[sock.getsockname()[1]] = (host, 22)
        await loop.sock_connect(sock, ("127.0.0.1", gate.tcp_port))
        return *(await asyncio.open_connection(sock=sock)), echoed

    async def tls() -> Any:
        sock = await _connected(gate, host, 443)
        streams = await asyncio.open_connection(sock=sock, ssl=trust, server_hostname=host)
        return *streams, echoed

    async def inspected() -> Any:
        async def turn(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
            writer.write(f"GET http://{host}/x HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            return head.startswith(b"HTTP/1.1 200") and await reader.readexactly(5) == b"hello"

        return *(await asyncio.open_connection("127.0.0.1", gate.port)), turn

    return [connect, transparent, tls, inspected]


async def _scene(gate: Running, authority: Authority) -> tuple[list[Client], Servers, float, float]:
    """Put everything to work, forbid one host, and let the rest go on for a while."""
    servers, ending = Servers(), asyncio.Event()
    await servers.start(authority)
    trust = ssl.create_default_context(cadata=authority.ca_certificate.decode())
    for (host, port), address in servers.ports.items():
        gate.egress.allow(host, port, address, inspect=port == 80)
    clients, tasks = [], []
    for host in (KEPT, DROPPED):
        for way in ways(gate, host, trust):
            for _ in range(EACH):
                clients.append(Client(host))
                tasks.append(asyncio.ensure_future(clients[-1].run(way, ending)))
    deadline = time.monotonic() + 20
    while not all(client.rounds for client in clients):
        assert time.monotonic() < deadline, "not all of them came to work"
        await asyncio.sleep(0.01)

    async def reload() -> tuple[float, float]:
        begun = time.monotonic()
        gate.egress.generation += 1
        gate.egress.forbid(DROPPED)
        await gate.service.reload()
        return begun, time.monotonic()

    future = asyncio.run_coroutine_threadsafe(reload(), gate.loop)
    begun, done = await asyncio.wrap_future(future)
    before = {id(client): client.rounds for client in clients}
    while any(c.host == DROPPED and not c.cut_at for c in clients):
        assert time.monotonic() < begun + 5, "not all of them were cut"
        await asyncio.sleep(0.001)
    after = servers.octets[DROPPED]
    while any(c.rounds < before[id(c)] + 3 for c in clients if c.host == KEPT and not c.cut_at):
        await asyncio.sleep(0.01)
    assert servers.octets[DROPPED] == after, "something came through after the cut"
    ending.set()
    await asyncio.gather(*tasks)
    deadline = time.monotonic() + 10
    while gate.service.connections:
        assert time.monotonic() < deadline, "some of them stay open"
        await asyncio.sleep(0.01)
    servers.close()
    return clients, servers, begun, done


def test_what_is_forbidden_is_cut_and_the_rest_loses_nothing(
    start: Start, authority: Authority
) -> None:
    gate = start()
    clients, _, begun, done = asyncio.run(_scene(gate, authority))
    kept = [client for client in clients if client.host == KEPT]
    dropped = [client for client in clients if client.host == DROPPED]
    assert len(kept) == len(dropped) == 4 * EACH
    assert [client.error for client in kept if client.error] == []
    # The reload itself: judged and cut when it returns.
    assert done - begun < BUDGET
    assert all(client.cut_at for client in dropped)


@pytest.mark.parametrize("start", ["asyncio"], indirect=True)
def test_a_host_whose_rules_are_the_same_is_not_judged_again(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = start()
    gate.egress.unchanged.add("a.example")

    def serve(sock: socket.socket) -> None:
        while data := sock.recv(99):
            sock.sendall(data)

    for host in ("a.example", "b.example"):
        gate.egress.allow(host, 22, gate.upstream(serve).port)
    with gate.dial("a.example", 22) as first, gate.dial("b.example", 22) as second:
        for sock in (first, second):
            sock.sendall(b"x")
            assert sock.recv(9) == b"x"
        judged: list[str] = []
        real = gate.egress.judge

        def judge(request: EgressRequest) -> EgressVerdict:
            judged.append(request.host)
            return real(request)

        monkeypatch.setattr(gate.egress, "judge", judge)
        gate.wait(gate.service.reload())
        assert judged == ["b.example"]
        for sock in (first, second):
            sock.sendall(b"y")
            assert sock.recv(9) == b"y"
