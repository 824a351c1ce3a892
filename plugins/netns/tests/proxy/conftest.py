"""A network service in a thread, a policy to play with, and servers on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from nemoclaw_hookspecs.egress import EgressRequest, EgressVerdict, OutgoingRequest
from nemoclaw_hookspecs.errors import EgressDenied, UpstreamError
from nemoclaw_plugin_netns.proxy import opening
from nemoclaw_plugin_netns.proxy.authority import Authority
from nemoclaw_plugin_netns.proxy.limits import Limits
from nemoclaw_plugin_netns.service import Service, open_service

from .http2_peers import World


class Rule:
    """What a name may be connected to, and where its server really is."""

    def __init__(
        self,
        port: int,
        address: int,
        *,
        inspect: bool = False,
        tls: str = "auto",
        request: Callable[[Any], bool] = lambda request: True,
    ) -> None:
        self.port = port
        self.address = address
        self.inspect = inspect
        self.tls: Any = tls
        self.request = request


class FakeEgress:
    """The core, as far as the service sees it."""

    sandbox = "test"
    init = 1
    wants_caller = False
    wants_digest = False
    wants_bodies = False
    authorities = ""

    def __init__(self) -> None:
        self.generation = 1
        self.rules: dict[tuple[str, int], Rule] = {}
        self.denials: list[tuple[str, str, str]] = []
        self.authorized: list[EgressRequest] = []
        self.dials = 0
        self.slow: float = 0.0
        self.dial_slow: float = 0.0
        self.poisoned: set[str] = set()
        self.unchanged: set[str] = set()
        """Hosts whose rules are those of the generation before."""

    def allow(self, host: str, port: int, address: int, **settings: Any) -> None:
        self.rules[host, port] = Rule(port, address, **settings)

    def changed(self, host: str) -> bool:
        return host not in self.unchanged

    def forbid(self, host: str) -> None:
        """Another policy: without the rules for a host."""
        self.rules = {key: rule for key, rule in self.rules.items() if key[0] != host}
        self.unchanged = {key[0] for key in self.rules}

    def resolvable(self, name: str) -> bool:
        return any(host == name for host, _ in self.rules)

    def judge(self, request: EgressRequest) -> EgressVerdict:
        rule = self.rules.get((request.host, request.port))
        allowed = rule is not None and (request.http is None or rule.request(request))
        return EgressVerdict(
            action="allow" if allowed else "deny",
            rule="test" if rule else "no-rule",
            reason="" if allowed else "no rule names it",
            origin="/etc/policies.toml:7 network.allow[0]",
            remedy="" if allowed else "add a rule",
            host=request.host,
            port=request.port,
            tls=rule.tls if rule else "auto",
            inspect=rule.inspect if rule else False,
            generation=self.generation,
        )

    async def authorize(self, request: EgressRequest) -> EgressVerdict:
        self.authorized.append(request)
        if self.slow:
            await asyncio.sleep(self.slow)
        return self.judge(request)

    async def dial(self, verdict: EgressVerdict) -> socket.socket:
        self.dials += 1
        if verdict.host in self.poisoned:
            raise EgressDenied("its address is private", where="/etc/policies.toml:7")
        if self.dial_slow:
            await asyncio.sleep(self.dial_slow)
        sock = socket.socket()
        sock.setblocking(False)
        try:
            address = ("127.0.0.1", self.rules[verdict.host, verdict.port].address)
            await asyncio.get_running_loop().sock_connect(sock, address)
        except OSError:
            sock.close()
            raise UpstreamError("nobody listens there") from None
        return sock

    async def add_credential(
        self, verdict: EgressVerdict, request: OutgoingRequest
    ) -> OutgoingRequest:
        return request

    def denied(self, request: EgressRequest, rule: str, reason: str) -> None:
        self.denials.append((request.host, rule, reason))


class Upstream:
    """A server on loopback: one function a connection, in a thread each."""

    def __init__(
        self,
        serve: Callable[[socket.socket], None],
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._serve = serve
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self.accepted = 0
        self.errors: list[Exception] = []
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            self._sockets.append(sock)
            threading.Thread(target=self._one, args=(sock,), daemon=True).start()

    def _one(self, sock: socket.socket) -> None:
        try:
            if self._context is not None:
                sock = self._context.wrap_socket(sock, server_side=True)
                self._sockets.append(sock)
            self._serve(sock)
        except Exception as error:  # kept for the test to look at
            self.errors.append(error)
        finally:
            sock.close()

    def close(self) -> None:
        self._listener.close()
        for sock in self._sockets:
            sock.close()


class Running:
    """A service with its loop, its policy and what to reach it with."""

    def __init__(self, limits: Limits, extra_ca: str, uv: bool) -> None:
        self.egress = FakeEgress()
        self.loop = uvloop.new_event_loop() if uv else asyncio.new_event_loop()
        self.transparent_to: dict[int, tuple[str, int]] = {}
        self._tcp = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._proxy = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port: int = self._proxy.getsockname()[1]
        self.tcp_port: int = self._tcp.getsockname()[1]
        self.service: Service = open_service(
            self.egress,
            {"tcp": self._tcp, "proxy": self._proxy},
            limits=limits,
            extra_ca=extra_ca,
        )
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.wait(self.service.start())
        self.upstreams: list[Upstream] = []

    def wait(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(10)

    def upstream(
        self, serve: Callable[[socket.socket], None], context: ssl.SSLContext | None = None
    ) -> Upstream:
        self.upstreams.append(Upstream(serve, context))
        return self.upstreams[-1]

    def connect(self) -> socket.socket:
        """To the explicit proxy."""
        return socket.create_connection(("127.0.0.1", self.port), 10)

    def dial(self, host: str, port: int) -> socket.socket:
        """As a program would that knows of no proxy."""
        sock = socket.socket()
        sock.settimeout(10)
        sock.bind(("127.0.0.1", 0))
        self.transparent_to[sock.getsockname()[1]] = (host, port)
        try:
            sock.connect(("127.0.0.1", self.tcp_port))
        except ConnectionResetError:  # refused that early: as good as a connection at its end
            sock, other = socket.socketpair()
            other.close()
        return sock

    def receive_all(self, sock: socket.socket) -> bytes:
        """Until the peer has said its last, or cuts."""
        data = b""
        while True:
            try:
                piece = sock.recv(65536)
            except ConnectionResetError:
                return data
            if not piece:
                return data
            data += piece

    def ask(self, request: bytes) -> bytes:
        """What the explicit proxy answers to octets, until it closes."""
        with self.connect() as sock:
            sock.sendall(request)
            sock.shutdown(socket.SHUT_WR)
            return self.receive_all(sock)

    def until(self, true: Callable[[], bool], seconds: float = 5) -> bool:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if true():
                return True
            time.sleep(0.01)
        return False

    def close(self) -> None:
        self.wait(self.service.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()
        for upstream in self.upstreams:
            upstream.close()
        self._tcp.close()
        self._proxy.close()


@pytest.fixture(scope="session")
def authority() -> Authority:
    """Of the outside servers."""
    return Authority("outside")


@pytest.fixture(scope="session")
def extra_ca(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> str:
    path: Path = tmp_path_factory.mktemp("ca") / "outside.pem"
    path.write_bytes(authority.ca_certificate)
    return str(path)


Start = Callable[..., Running]


@pytest.fixture(params=["uvloop", "asyncio"])
def start(
    request: pytest.FixtureRequest, extra_ca: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Start]:
    """Starts a service with given limits."""
    if request.param == "uvloop":
        pytest.importorskip("uvloop")
    with contextlib.ExitStack() as stack:

        def begin(**limits: int) -> Running:
            running = Running(Limits(**limits), extra_ca, request.param == "uvloop")
            stack.callback(running.close)
            monkeypatch.setattr(
                opening,
                "original_destination",
                lambda client: running.transparent_to[client.getpeername()[1]],
            )
            return running

        yield begin


@pytest.fixture
def gate(start: Start) -> Running:
    """A service with the shipped limits."""
    return start()


@pytest.fixture
def world(gate: Running, authority: Authority) -> World:
    """The same with a server that speaks HTTP/2."""
    return World(gate, authority)
