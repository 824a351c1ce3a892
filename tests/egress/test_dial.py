"""Claims about connecting outside, with servers on loopback and a resolver of the test's own."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import attrs
import pytest
from nemoclaw_hookspecs import EgressDenied, UpstreamError

from nemoclaw_core.egress import dial, lookups
from nemoclaw_core.egress.dial import AddressDenied, Dialer

from .conftest import verdict

T = TypeVar("T")
Make = Callable[..., Dialer]


@pytest.fixture
def port() -> Iterator[int]:
    """Of a server on 127.0.0.1 alone."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[Dialer] = []

    def build(answers: Any, **more: Any) -> Dialer:
        resolve = answers if callable(answers) else lambda _: list(answers)
        made.append(Dialer(resolve, **more))
        return made[-1]

    yield build
    for each in made:
        each.close()


def running(awaitable: Awaitable[T]) -> T:
    async def run() -> T:
        return await awaitable

    return asyncio.run(run())


def peer(dialer: Dialer, *arguments: Any) -> str:
    """Connect, and say to which address."""
    connection = running(dialer.connect(verdict(*arguments)))
    with connection:
        assert not connection.getblocking()
        return str(connection.getpeername()[0])


def test_it_connects_to_an_address_that_the_rule_owns(make: Make, port: int) -> None:
    assert peer(make(["127.0.0.1"]), "a.test", port, "127.0.0.1") == "127.0.0.1"
    assert peer(make([]), "127.0.0.1", port, "127.0.0.1") == "127.0.0.1"


def test_a_name_that_leads_to_nothing_public_is_denied(make: Make, port: int) -> None:
    dialer = make(["127.0.0.1", "10.0.0.1", "169.254.169.254", "::ffff:127.0.0.1", "junk"])
    with pytest.raises(AddressDenied) as caught:
        running(dialer.connect(verdict("a.test", port, "127.0.0.0/8")))
    error = caught.value
    assert error.left_out == (
        ("127.0.0.1", "loopback"),
        ("10.0.0.1", "private"),
        ("169.254.169.254", "metadata"),
        ("junk", "malformed"),
    )
    assert error.category == "loopback"
    assert error.where == "policies.toml:1 network.allow"
    assert "10.0.0.1" not in error.what


def test_a_forbidden_address_among_others_is_left_out_and_told(make: Make, port: int) -> None:
    told: list[tuple[str, str]] = []
    dialer = make(
        ["169.254.169.254", "127.0.0.1", "10.0.0.1"],
        left_out=lambda _, address, category: told.append((address, category)),
    )
    assert peer(dialer, "a.test", port, "127.0.0.1") == "127.0.0.1"
    assert told == [("169.254.169.254", "metadata"), ("10.0.0.1", "private")]


def test_a_name_that_leads_elsewhere_a_moment_later_gains_nothing(make: Make, port: int) -> None:
    """DNS rebinding: the second answer is the host's own loopback."""
    answers = iter([["192.0.2.7"], ["127.0.0.1"], ["127.0.0.1"]])
    asked: list[str] = []

    def resolve(name: str) -> Iterable[str]:
        asked.append(name)
        return next(answers)

    # A dialler that looks a name up to check it, and again to connect, is deceived.
    assert [list(resolve("a.test")), list(resolve("a.test"))][1] == ["127.0.0.1"]
    answers, asked = iter([["192.0.2.7"], ["127.0.0.1"]]), []
    dialer = make(resolve, deadline=0.3)
    with pytest.raises(UpstreamError):
        running(dialer.connect(verdict("a.test", port, "192.0.2.7")))
    assert asked == ["a.test"]
    fresh = make(resolve)
    with pytest.raises(AddressDenied):
        running(fresh.connect(verdict("a.test", port)))


def test_answers_are_kept_for_a_moment_and_judged_each_time(
    make: Make, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def resolve(name: str) -> Iterable[str]:
        asked.append(name)
        return ["127.0.0.1"]

    dialer = make(resolve)
    assert peer(dialer, "a.test", port, "127.0.0.1") == "127.0.0.1"
    with pytest.raises(AddressDenied):
        running(dialer.connect(verdict("a.test", port)))
    assert asked == ["a.test"]
    later = time.monotonic() + 60
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert peer(dialer, "a.test", port, "127.0.0.1") == "127.0.0.1"
    assert asked == ["a.test"] * 2


def test_answers_that_are_kept_are_bounded(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "_KEPT", 4)
    found = lookups.Lookups(lambda name: ["1.1.1.1"])

    async def ask() -> None:
        for at in range(20):
            await found.addresses(f"a{at}.test")

    asyncio.run(ask())
    found.close()
    assert len(found._answers) == 4


def test_a_question_that_many_ask_is_asked_once(make: Make) -> None:
    asked: list[str] = []
    go = threading.Event()

    def resolve(name: str) -> Iterable[str]:
        asked.append(name)
        go.wait(5)
        return ["1.1.1.1"]

    dialer = make(resolve)

    async def ask() -> None:
        waiting = [asyncio.create_task(dialer.addresses(verdict("a.test", 1))) for _ in range(50)]
        await asyncio.sleep(0.05)
        go.set()
        found = await asyncio.gather(*waiting)
        assert {each[0].text for each in found} == {"1.1.1.1"}

    asyncio.run(ask())
    assert asked == ["a.test"]


def test_a_resolver_that_hangs_holds_up_nobody_for_long(make: Make) -> None:
    release = threading.Event()

    def resolve(name: str) -> Iterable[str]:
        release.wait(10)
        return ["1.1.1.1"]

    dialer = make(resolve, timeout=0.2)
    began = time.monotonic()
    with pytest.raises(UpstreamError, match=r"no answer in 0\.2 s"):
        running(dialer.connect(verdict("a.test", 1)))
    assert time.monotonic() - began < 2
    release.set()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "name or service not"),
        (RuntimeError("secret"), "RuntimeError in the resolver"),
    ],
)
def test_a_resolver_that_fails_is_told(make: Make, error: Exception, words: str) -> None:
    def resolve(name: str) -> Iterable[str]:
        raise error

    with pytest.raises(UpstreamError, match=f"(?i){words}") as caught:
        running(make(resolve).connect(verdict("a.test", 1)))
    assert "secret" not in str(caught.value)


def test_a_name_without_addresses_is_told(make: Make) -> None:
    with pytest.raises(UpstreamError, match="no address"):
        running(make([]).connect(verdict("a.test", 1)))


def test_nothing_is_dialled_that_was_not_allowed(make: Make, port: int) -> None:
    dialer = make(["127.0.0.1"])
    for action in ("deny", "hold"):
        refused = attrs.evolve(verdict("a.test", port, "127.0.0.1"), action=action)
        with pytest.raises(EgressDenied):
            running(dialer.connect(refused))


def test_a_server_that_refuses_is_told_at_once(make: Make, port: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        gone = closed.getsockname()[1]
    began = time.monotonic()
    with pytest.raises(UpstreamError, match="connection refused"):
        running(make(["127.0.0.1"]).connect(verdict("a.test", gone, "127.0.0.1")))
    assert time.monotonic() - began < 1


def test_the_next_address_is_tried_when_one_fails_or_is_slow(
    make: Make, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempted: list[tuple[str, float]] = []
    real = dial._attempt

    async def attempt(address: Any, port: int) -> socket.socket:
        attempted.append((address.text, time.monotonic()))
        if address.text == "192.0.2.1":
            raise ConnectionRefusedError(111, "refused")
        if address.text == "192.0.2.2":
            await asyncio.sleep(30)
        return await real(address, port)

    monkeypatch.setattr(dial, "_attempt", attempt)
    names = ["192.0.2.1", "192.0.2.2", "127.0.0.1"]
    assert peer(make(names), "a.test", port, *names) == "127.0.0.1"
    assert [address for address, _ in attempted] == names
    first, second, third = (when for _, when in attempted)
    assert second - first < 0.2  # at once: the first had failed
    assert 0.2 < third - second < 2  # RFC 8305: 250 ms


def test_families_take_turns(make: Make) -> None:
    names = ["2606:4700::1", "2606:4700::2", "2606:4700::3", "1.1.1.1", "1.0.0.1"]
    found = running(make(names).addresses(verdict("a.test", 1)))
    order = ["2606:4700::1", "1.1.1.1", "2606:4700::2", "1.0.0.1", "2606:4700::3"]
    assert [each.text for each in found] == order


def test_a_deadline_ends_it_and_no_socket_is_left(
    make: Make, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[socket.socket] = []
    real = socket.socket

    def remember(*arguments: Any, **more: Any) -> socket.socket:
        made.append(real(*arguments, **more))
        return made[-1]

    async def hang(*_: object) -> None:
        await asyncio.sleep(30)

    async def run() -> None:
        monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", hang)
        monkeypatch.setattr(socket, "socket", remember)
        await make(["127.0.0.1"], deadline=0.3).connect(verdict("a.test", port, "127.0.0.1"))

    began = time.monotonic()
    with pytest.raises(UpstreamError, match="no answer in time"):
        asyncio.run(run())
    assert time.monotonic() - began < 3
    assert made
    assert [each.fileno() for each in made] == [-1] * len(made)


def test_an_address_of_this_machine_must_be_named_exactly(
    make: Make, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A public address on the host's own interface leads to what listens on the host."""
    monkeypatch.setattr(
        dial, "_reached_from", lambda address: None if address.text == "192.0.2.1" else address
    )
    with pytest.raises(AddressDenied, match="one of this machine's own"):
        running(make(["8.8.8.8"]).addresses(verdict("a.test", port)))
    assert running(make(["8.8.8.8"]).addresses(verdict("a.test", port, "8.8.8.8")))
    # Where every address is local (inside a sandbox), that tells nothing.
    monkeypatch.setattr(dial, "_reached_from", lambda address: address)
    assert running(make(["8.8.8.8"]).addresses(verdict("a.test", port)))


def test_the_kernel_tells_its_own_addresses() -> None:
    from nemoclaw_core.egress.hosts import canonical

    assert dial._is_own(canonical("127.0.0.1"))
    assert not dial._is_own(canonical("192.0.2.1"))


def test_names_are_looked_up_in_the_hosts_file_and_then_as_complete_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("# a comment\n10.1.1.1 Files.test alias # files2.test\n::1 files.test\n\n")
    monkeypatch.setattr(lookups, "HOSTS", str(hosts))
    asked: list[bytes] = []

    def getaddrinfo(name: bytes, *_: Any, **__: Any) -> list[Any]:
        asked.append(name)
        return [(2, 1, 6, "", ("1.1.1.1", 0)), (2, 1, 6, "", ("1.1.1.1", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert lookups.resolve_outside("files.test") == ["10.1.1.1", "::1"]
    assert lookups.resolve_outside("files2.test") == ["1.1.1.1"]
    assert lookups.resolve_outside("intranet") == ["1.1.1.1"]
    assert asked == [b"files2.test.", b"intranet"]


def test_a_dialler_that_was_closed_looks_nothing_up(make: Make) -> None:
    dialer = make(["1.1.1.1"])
    dialer.close()
    with pytest.raises(UpstreamError, match="ending"):
        running(dialer.connect(verdict("a.test", 1)))
