"""DNS over real sockets: UDP and TCP, hostile clients, and the resolvers that programs use."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from nemoclaw_hookspecs.egress import EgressRequest
from nemoclaw_plugin_netns.dns.responder import Responder
from nemoclaw_plugin_netns.dns.server import DnsServer
from nemoclaw_plugin_netns.dns.synthetic import SyntheticAddresses
from nemoclaw_plugin_netns.dns.wire import (
    AAAA,
    NOERROR,
    REFUSED,
    A,
    Edns,
    Message,
    Name,
    read_message,
    write_query,
)

QUERY = write_query(9, Name.of("api.example.org"), A)


class Gate:
    sandbox = "test"
    generation = 1

    def __init__(self) -> None:
        self.events: list[str] = []

    def resolvable(self, name: str) -> bool:
        return name == "api.example.org"

    def denied(self, request: EgressRequest, rule: str, reason: str) -> None:
        self.events.append(request.host)


class Served:
    """A DNS server in a thread of its own, on loopback."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, family: int, idle: float, connections: int
    ) -> None:
        host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
        self.gate = Gate()
        self.stream = socket.socket(family)
        self.stream.bind((host, 0))
        self.datagram = socket.socket(family, socket.SOCK_DGRAM)
        self.datagram.bind(self.stream.getsockname()[:2])
        self.address: tuple[str, int] = self.stream.getsockname()[:2]
        self.family = family
        self.loop = loop
        responder = Responder(self.gate, SyntheticAddresses())  # type: ignore[arg-type]
        self.server = DnsServer(
            responder, [self.datagram], [self.stream], idle=idle, connections=connections
        )
        self.failures: list[object] = []
        self.loop.set_exception_handler(lambda _, context: self.failures.append(context))
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        asyncio.run_coroutine_threadsafe(self.server.start(), self.loop).result(10)

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self.server.close(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()
        self.stream.close()
        self.datagram.close()
        assert self.failures == []

    def udp(self) -> socket.socket:
        client = socket.socket(self.family, socket.SOCK_DGRAM)
        client.settimeout(5)
        client.connect(self.address)
        return client

    def tcp(self) -> socket.socket:
        return socket.create_connection(self.address, 5)

    def ask(self, data: bytes) -> Message:
        with self.udp() as client:
            client.send(data)
            return read_message(client.recv(4096))


@pytest.fixture(params=["asyncio", "uvloop"])
def serve(request: pytest.FixtureRequest) -> Iterator[Callable[..., Served]]:
    make = pytest.importorskip(request.param).new_event_loop
    running: list[Served] = []

    def start(family: int = socket.AF_INET, idle: float = 10.0, connections: int = 128) -> Served:
        running.append(Served(make(), family, idle, connections))
        return running[-1]

    yield start
    for each in running:
        each.stop()


def framed(data: bytes) -> bytes:
    return struct.pack("!H", len(data)) + data


def receive(client: socket.socket) -> Message:
    with client.makefile("rb", buffering=0) as file:
        (length,) = struct.unpack("!H", _exactly(file, 2))
        return read_message(_exactly(file, length))


def _exactly(file: object, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = file.read(count - len(data))  # type: ignore[attr-defined]
        assert piece, "closed early"
        data += piece
    return data


def is_closed(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except ConnectionError:
        return True


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])
def test_both_transports_answer(serve: Callable[..., Served], family: int) -> None:
    try:
        served = serve(family)
    except OSError as error:
        pytest.skip(f"no loopback of this family: {error}")
    assert served.ask(QUERY).answers[0].data == b"\xc6\x12\0\1"
    with served.tcp() as client:
        client.sendall(framed(QUERY))
        assert receive(client).answers[0].data == b"\xc6\x12\0\1"


def test_a_name_outside_the_policy_is_refused_at_once(serve: Callable[..., Served]) -> None:
    served = serve()
    start = time.monotonic()
    answer = served.ask(write_query(9, Name.of("secret.evil.example"), A, Edns(1232)))
    assert answer.rcode == REFUSED
    assert time.monotonic() - start < 1
    assert served.gate.events == ["secret.evil.example"]


def test_queries_may_be_sent_ahead_and_in_any_pieces(serve: Callable[..., Served]) -> None:
    served = serve()
    stream = b"".join(
        framed(write_query(n, Name.of("api.example.org"), A if n % 2 else AAAA)) for n in range(500)
    )
    with served.tcp() as client:
        client.sendall(stream)
        assert [receive(client).id for _ in range(500)] == list(range(500))
        for octet in framed(QUERY):
            client.sendall(bytes([octet]))
        assert receive(client).id == 9


def test_answers_come_also_after_the_client_has_said_all(serve: Callable[..., Served]) -> None:
    served = serve()
    with served.tcp() as client:
        client.sendall(framed(QUERY) * 100)
        client.shutdown(socket.SHUT_WR)
        assert [receive(client).rcode for _ in range(100)] == [NOERROR] * 100
        assert is_closed(client)


@pytest.mark.parametrize(
    "data", [b"\0\0", b"\0\x0b" + bytes(11), b"\xff\xff", b"GET / HTTP/1.1\r\n"]
)
def test_a_length_that_no_query_has_ends_the_connection(
    serve: Callable[..., Served], data: bytes
) -> None:
    with serve().tcp() as client:
        client.sendall(data)
        assert is_closed(client)


def test_a_malformed_query_is_told_so_and_the_connection_lives(
    serve: Callable[..., Served],
) -> None:
    with serve().tcp() as client:
        client.sendall(framed(QUERY + b"x") + framed(QUERY))
        assert receive(client).rcode == 1
        assert receive(client).rcode == NOERROR


def test_slow_and_silent_clients_are_cut(serve: Callable[..., Served]) -> None:
    served = serve(idle=0.4)
    with served.tcp() as silent, served.tcp() as slow:
        start = time.monotonic()
        sent = 0
        try:
            for octet in framed(QUERY):  # an octet a moment does not buy more time
                slow.sendall(bytes([octet]))
                sent += 1
                time.sleep(0.1)
        except ConnectionError:
            pass
        assert sent < len(QUERY)
        assert is_closed(slow)
        assert is_closed(silent)
        assert time.monotonic() - start < 5


def test_a_client_that_does_not_read_is_cut_and_holds_nobody_up(
    serve: Callable[..., Served],
) -> None:
    served = serve(idle=0.5)
    with served.tcp() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.settimeout(0.2)
        stream, sent = framed(QUERY) * 2000, 0
        try:
            while sent < 64 * 1024 * 1024:
                sent += deaf.send(stream)
        except (TimeoutError, ConnectionError):
            pass
        assert sent < 64 * 1024 * 1024  # the server stopped reading
        assert served.ask(QUERY).rcode == NOERROR
        wait_until(lambda: served.server.connections == 0)


def test_one_connection_too_many_costs_the_quietest_one(serve: Callable[..., Served]) -> None:
    served = serve(connections=4)
    clients = [served.tcp() for _ in range(4)]
    wait_until(lambda: served.server.connections == 4)  # only now the others are less quiet
    for client in (clients[0], clients[2], clients[3]):
        client.sendall(framed(QUERY))
        assert receive(client).rcode == NOERROR
    with served.tcp() as newest:
        newest.sendall(framed(QUERY))
        assert receive(newest).rcode == NOERROR
    assert is_closed(clients[1])
    for client in (clients[0], clients[2], clients[3]):
        client.sendall(framed(QUERY))
        assert receive(client).rcode == NOERROR
        client.close()
    clients[1].close()


def test_many_connections_at_once_stay_within_the_limit(serve: Callable[..., Served]) -> None:
    served = serve(connections=8)
    clients = [served.tcp() for _ in range(64)]
    clients[-1].sendall(framed(QUERY))
    assert receive(clients[-1]).rcode == NOERROR
    assert served.server.connections <= 8
    assert sum(is_closed(client) for client in clients[:56]) == 56
    for client in clients:
        client.close()


def test_a_flood_of_datagrams_leaves_room_for_others(serve: Callable[..., Served]) -> None:
    served = serve()
    stop = threading.Event()

    def flood() -> None:
        with served.udp() as client:
            while not stop.is_set():
                try:
                    client.send(QUERY)
                except OSError:
                    continue

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        with served.tcp() as client:
            for _ in range(20):
                client.sendall(framed(QUERY))
                assert receive(client).rcode == NOERROR
    finally:
        stop.set()
        thread.join()


def test_junk_of_every_length_is_survived(serve: Callable[..., Served]) -> None:
    served = serve()
    with served.udp() as client:
        for length in [*range(40), 512, 4096, 4097, 9000]:
            client.send(os.urandom(length))
            client.send(b"\0\1\1\0\0\1" + os.urandom(length))
    assert served.ask(QUERY).rcode == NOERROR


def test_what_is_closed_is_let_go(serve: Callable[..., Served]) -> None:
    served = serve()
    with served.tcp() as client:
        client.sendall(framed(QUERY))
        receive(client)
        asyncio.run_coroutine_threadsafe(served.server.close(), served.loop).result(5)
        assert is_closed(client)
    wait_until(lambda: served.server.connections == 0)
    assert served.stream.fileno() >= 0  # its owner's still


# ---- the resolvers of programs -------------------------------------------------------------------


def test_nodes_resolver(serve: Callable[..., Served], tmp_path: Path) -> None:
    """c-ares, with EDNS and random letter case as it likes."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node")
    served = serve()
    script = tmp_path / "ask.js"
    script.write_text(
        textwrap.dedent("""
        const { Resolver } = require("dns").promises;
        const resolver = new Resolver({ timeout: 2000, tries: 2 });
        resolver.setServers([process.argv[2]]);
        const code = (error) => error.code;
        (async () => console.log(JSON.stringify([
            await resolver.resolve4("api.example.org", { ttl: true }),
            await resolver.resolve6("api.example.org"),
            await resolver.resolveTxt("api.example.org").catch(code),
            await resolver.reverse("198.18.0.1"),
            await resolver.resolve4("evil.example").catch(code),
        ])))();
        """)
    )
    done = subprocess.run(
        [node, str(script), f"127.0.0.1:{served.address[1]}"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == [
        [{"address": "198.18.0.1", "ttl": 60}],
        ["fd00:6e63:6c61:77::c612:1"],
        "ENODATA",
        ["api.example.org"],
        "EREFUSED",
    ]


def test_gos_resolver(serve: Callable[..., Served], tmp_path: Path) -> None:
    go = shutil.which("go")
    if go is None:
        pytest.skip("no go")
    served = serve()
    source = tmp_path / "ask.go"
    source.write_text(
        textwrap.dedent("""
        package main
        import ("context"; "fmt"; "net"; "os"; "time")
        func main() {
            for _, network := range []string{"udp", "tcp"} {
                resolver := &net.Resolver{PreferGo: true, Dial: func(
                    ctx context.Context, _, _ string) (net.Conn, error) {
                    return net.DialTimeout(network, os.Args[1], 2*time.Second)
                }}
                for _, name := range []string{"api.example.org.", "evil.example."} {
                    found, err := resolver.LookupHost(context.Background(), name)
                    fmt.Println(network, name, found, err != nil)
                }
            }
        }
        """)
    )
    environment = {**os.environ, "GOCACHE": str(tmp_path / "cache"), "GOFLAGS": "-mod=mod"}
    done = subprocess.run(
        [go, "run", str(source), f"127.0.0.1:{served.address[1]}"],
        capture_output=True, text=True, timeout=110, env=environment,
    )  # fmt: skip
    assert done.stdout.splitlines() == [
        f"{network} {line}"
        for network in ("udp", "tcp")
        for line in (
            "api.example.org. [198.18.0.1 fd00:6e63:6c61:77::c612:1] false",
            "evil.example. [] true",
        )
    ], done.stderr


GLIBC = """
import asyncio, socket, subprocess, sys
sys.path[:0] = {path!r}
from nemoclaw_plugin_netns.dns.responder import Responder
from nemoclaw_plugin_netns.dns.server import DnsServer
from nemoclaw_plugin_netns.dns.synthetic import SyntheticAddresses

class Gate:
    sandbox, generation = "test", 1
    def resolvable(self, name): return name == "api.example.org"
    def denied(self, request, rule, reason): print("event", request.host, flush=True)

async def main():
    datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagram.bind(("127.0.0.1", 53))
    stream = socket.socket()
    stream.bind(("127.0.0.1", 53))
    responder = Responder(Gate(), SyntheticAddresses(), search=("corp.example",))
    server = DnsServer(responder, [datagram], [stream])
    await server.start()
    for options in ("", "use-vc", "edns0"):
        for name in ("api.example.org", "evil.example", "localhost", "nowhere"):
            process = await asyncio.create_subprocess_exec(
                "getent", "-s", "hosts:dns", "ahosts", name, stdout=-1,
                env={{"RES_OPTIONS": options, "PATH": "/usr/bin:/bin"}})
            output, _ = await asyncio.wait_for(process.communicate(), 20)
            found = sorted({{line.split()[0] for line in output.decode().splitlines()}})
            print(options or "udp", name, process.returncode, *found, flush=True)
    await server.close()
asyncio.run(main())
"""


def test_glibcs_resolver(tmp_path: Path) -> None:
    """In a network namespace of its own, where port 53 is free, with a resolv.conf that says so."""
    unshare, getent = shutil.which("unshare"), shutil.which("getent")
    if unshare is None or getent is None or shutil.which("ip") is None:
        pytest.skip("needs unshare, ip and getent")
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\nsearch corp.example\n")
    (tmp_path / "serve.py").write_text(GLIBC.format(path=sys.path))
    script = (
        'ip link set lo up && mount --bind "$1/resolv.conf" /etc/resolv.conf '
        '&& exec "$2" "$1/serve.py"'
    )
    isolated = [unshare, "-Urnm", "sh", "-c"]
    if subprocess.run([*isolated, "ip link set lo up"], capture_output=True).returncode:
        pytest.skip("this host allows no namespaces")
    done = subprocess.run(
        [*isolated, script, "sh", str(tmp_path), sys.executable],
        capture_output=True, text=True, timeout=110,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith("event")] == [
        "event evil.example",
        "event nowhere.corp.example",
    ], done.stderr
    for options in ("udp", "use-vc", "edns0"):
        assert f"{options} api.example.org 0 198.18.0.1 fd00:6e63:6c61:77::c612:1" in lines
        assert f"{options} evil.example 2" in lines
        assert f"{options} localhost 0 127.0.0.1 ::1" in lines
        assert f"{options} nowhere 2" in lines
