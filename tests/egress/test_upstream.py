"""Claims about reaching servers through a company's proxy, which is a server of the test's."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import attrs
import pytest
from nemoclaw_hookspecs import EgressDenied, UpstreamError

from nemoclaw_core.egress import dial
from nemoclaw_core.egress.dial import Dialer
from nemoclaw_core.egress.hosts import canonical
from nemoclaw_core.egress.upstream import Proxy, Upstream

from .conftest import verdict
from .corporate import CorporateProxy


@pytest.fixture
def corporate() -> Iterator[Callable[..., CorporateProxy]]:
    made: list[CorporateProxy] = []

    def build(answer: bytes = b"HTTP/1.1 200 OK\r\nVia: x\r\n\r\n") -> CorporateProxy:
        made.append(CorporateProxy(answer))
        return made[-1]

    yield build
    for each in made:
        each.close()


def unknown(name: str) -> Iterable[str]:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def connected(
    proxy: CorporateProxy | int,
    *arguments: Any,
    resolve: Callable[[str], Iterable[str]] = unknown,
    authorization: str = "",
    deadline: float = 5.0,
    **more: Any,
) -> tuple[bytes, tuple[str, int]]:
    """Connect for a verdict; what is read first, and from whom."""
    port = proxy if isinstance(proxy, int) else proxy.port
    way = Upstream(proxy=Proxy(host="127.0.0.1", port=port, authorization=authorization), **more)
    dialer = Dialer(resolve, upstream=way, deadline=deadline)

    async def run() -> tuple[bytes, tuple[str, int]]:
        with await dialer.connect(verdict(*arguments)) as connection:
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(connection, b"ping")
            return await loop.sock_recv(connection, 100), connection.getpeername()

    try:
        return asyncio.run(run())
    finally:
        dialer.close()


def test_a_name_that_this_host_cannot_resolve_is_left_to_the_proxy(corporate: Any) -> None:
    proxy = corporate()
    assert connected(proxy, "api.corp", 443)[0] == b"ping"
    assert proxy.heads == [b"CONNECT api.corp:443 HTTP/1.1\r\nHost: api.corp:443\r\n\r\n"]


def test_the_proxy_gets_the_password_and_nobody_else_sees_it(corporate: Any) -> None:
    secret = "Basic " + base64.b64encode(b"me:hunter2").decode()
    refusing = corporate(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n")
    with pytest.raises(UpstreamError, match="a user and a password") as caught:
        connected(refusing, "api.corp", 443, authorization=secret)
    assert f"Proxy-Authorization: {secret}\r\n".encode() in refusing.heads[0]
    shown = f"{caught.value!r} {caught.value} {Proxy(host='p', port=1, authorization=secret)!r}"
    assert secret.split()[1] not in shown
    assert str(refusing.port) not in str(caught.value)


def test_not_one_octet_of_a_server_that_speaks_first_is_lost(corporate: Any) -> None:
    proxy = corporate(b"HTTP/1.1 200 OK\r\n\r\n220 mail ready\r\n")
    assert connected(proxy, "mail.corp", 25)[0].startswith(b"220 mail ready\r\n")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", "refuses it"),
        (b"HTTP/1.0 502 Bad\r\n\r\n", "cannot reach it"),
        (b"HTTP/1.1 302 Elsewhere\r\n\r\n", "answers 302"),
        (b"SSH-2.0-x\r\n\r\n", "answers no HTTP"),
        (b"x" * 20000, "says nothing"),
    ],
)
def test_a_proxy_that_refuses_or_is_none_is_told(corporate: Any, answer: bytes, words: str) -> None:
    with pytest.raises(UpstreamError, match=words):
        connected(corporate(answer), "api.corp", 443)


def test_a_proxy_that_is_not_there_or_hangs_is_told_without_its_name(corporate: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(UpstreamError, match="proxy cannot be reached") as caught:
        connected(port, "api.corp", 443)
    assert "127.0.0.1" not in str(caught.value)
    began = time.monotonic()
    with pytest.raises(UpstreamError, match="did not answer in time"):
        connected(corporate(b""), "api.corp", 443, deadline=0.3)
    assert time.monotonic() - began < 2


def test_what_this_host_can_resolve_is_judged_all_the_same(corporate: Any) -> None:
    proxy = corporate()
    with pytest.raises(EgressDenied, match="private addresses"):
        connected(proxy, "api.corp", 443, resolve=lambda name: ["10.1.2.3"])
    assert connected(proxy, "api.corp", 443, "10.0.0.0/8", resolve=lambda name: ["10.1.2.3"])
    with pytest.raises(EgressDenied, match="metadata"):
        connected(proxy, "169.254.169.254", 80)
    assert connected(proxy, "1.1.1.1", 80)
    assert [head.split()[1] for head in proxy.heads] == [b"api.corp:443", b"1.1.1.1:80"]


def test_a_resolver_that_is_silent_is_not_waited_for_long(
    corporate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dial, "_PATIENCE", 0.2)
    monkeypatch.setattr(dial, "_IMPATIENCE", 0.01)
    proxy, release = corporate(), threading.Event()
    way = Upstream(proxy=Proxy(host="127.0.0.1", port=proxy.port))
    dialer = Dialer(lambda name: [str(release.wait(5))], upstream=way)

    async def run() -> list[float]:
        times = []
        for name in ("a.corp", "b.corp"):
            began = time.monotonic()
            (await dialer.connect(verdict(name, 443))).close()
            times.append(time.monotonic() - began)
        return times

    first, second = asyncio.run(run())
    release.set()
    dialer.close()
    assert 0.2 <= first < 2
    assert second < 0.2


def test_hosts_that_are_excepted_are_reached_directly(corporate: Any) -> None:
    proxy = corporate()
    ways: tuple[tuple[str, dict[str, Any]], ...] = (
        ("a.corp", {"direct_hosts": ("*.corp",)}),
        ("a.corp", {"direct_ranges": ("127.0.0.0/8",)}),
        ("127.0.0.1", {}),  # never the proxy's own loopback
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def echo() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection:
                        connection.sendall(connection.recv(10))

        threading.Thread(target=echo, daemon=True).start()
        for name, more in ways:
            found = connected(
                proxy, name, port, "127.0.0.1", resolve=lambda name: ["127.0.0.1"], **more
            )
            assert found == (b"ping", ("127.0.0.1", port))
        server.shutdown(socket.SHUT_RDWR)
    assert proxy.heads == []


def test_exceptions_are_patterns_of_hosts_and_ranges_of_addresses() -> None:
    proxy = Proxy(host="proxy.corp", port=3128)
    way = Upstream(
        proxy=proxy, direct_hosts=("*.corp.example",), direct_ranges=("10.0.0.0/8", "fd00::/8")
    )
    for host, direct in (
        ("a.corp.example", True),
        ("a.b.corp.example", False),
        ("corp.example", False),
        ("10.9.8.7", True),
        ("fd00::1", True),
        ("8.8.8.8", False),
        ("localhost", True),
    ):
        assert (way.proxy_for(canonical(host)) is None) == direct, host
    assert attrs.evolve(way, proxy=None).proxy_for(canonical("8.8.8.8")) is None
