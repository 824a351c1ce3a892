"""A client that goes away while it is waited for."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest
from nemoclaw_plugin_netns.proxy import holding
from nemoclaw_plugin_netns.proxy.holding import attended, hung_up

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(server.getsockname())
    accepted, _ = server.accept()
    yield client, accepted
    for each in (client, accepted, server):
        each.close()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holding, "_PERIOD", 0.01)


def run(pair: Pair, seconds: float, looks: list[int] | None = None) -> str:
    async def work() -> str:
        try:
            if seconds:
                await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            await asyncio.sleep(0)  # it may have something to tidy up
            raise
        return "done"

    def gone() -> bool:
        if looks is not None:
            looks.append(1)
        return hung_up(pair[1])

    async def main() -> str:
        return await attended(asyncio.get_running_loop(), gone, work())

    return asyncio.run(asyncio.wait_for(main(), 10))


def test_an_answer_that_is_there_is_given_at_once(pair: Pair) -> None:
    looks: list[int] = []
    assert run(pair, 0, looks) == "done"
    assert looks == []


def test_a_client_that_waits_is_looked_after(pair: Pair) -> None:
    """Also one that has sent something, which nobody reads meanwhile."""
    looks: list[int] = []
    pair[0].sendall(b"more")
    assert run(pair, 0.05, looks) == "done"
    assert looks


@pytest.mark.parametrize("how", ["closed", "reset", "its side ended"])
@pytest.mark.parametrize("sent", [b"", b"more"])
def test_nobody_is_waited_for_once_the_client_has_gone(pair: Pair, how: str, sent: bytes) -> None:
    client, _ = pair
    client.sendall(sent)
    if how == "reset":
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    if how == "its side ended":
        client.shutdown(socket.SHUT_WR)
    else:
        client.close()
    with pytest.raises(asyncio.CancelledError):
        run(pair, 9)


def test_what_the_work_raises_is_raised() -> None:
    async def work() -> None:
        await asyncio.sleep(0)
        raise ValueError("so")

    async def main() -> None:
        await attended(asyncio.get_running_loop(), lambda: False, work())

    with pytest.raises(ValueError, match="so"):
        asyncio.run(main())
