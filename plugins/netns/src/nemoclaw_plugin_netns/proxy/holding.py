"""A client that waits for an answer which may take minutes, and may go away meanwhile."""

from __future__ import annotations

import asyncio
import select
import types
from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import socket

T = TypeVar("T")
_PERIOD = 0.25
"""Seconds between two looks. An answer that takes less is never looked after."""


@types.coroutine
def attended(
    loop: asyncio.AbstractEventLoop, gone: Callable[[], bool], work: Coroutine[Any, Any, T]
) -> Generator[Any, Any, T]:
    """The result of ``work``. Most answers are there at once, and cost nothing here.

    :param gone: whether the client has left. One that has ended its side alone has, too: nobody
        can tell the two apart.
    :raises asyncio.CancelledError: the client has gone; nobody needs the result.
    """
    try:
        waiting = work.send(None)
    except StopIteration as done:
        answer: T = done.value
        return answer
    task = asyncio.current_task()
    assert task is not None
    timer: asyncio.TimerHandle

    def look() -> None:
        nonlocal timer
        if gone():
            task.cancel()
        else:
            timer = loop.call_later(_PERIOD, look)

    timer = loop.call_later(_PERIOD, look)
    try:
        while True:  # as `yield from` (PEP 380), which cannot be begun in the middle
            try:
                value = yield waiting
            except BaseException as error:
                waiting = work.throw(error)
            else:
                waiting = work.send(value)
    except StopIteration as done:
        answer = done.value
        return answer
    finally:
        timer.cancel()


def hung_up(sock: socket.socket) -> bool:
    """Whether the peer of a socket has ended its side, whatever it has sent before."""
    poll = select.poll()
    poll.register(sock, select.POLLRDHUP)
    return bool(poll.poll(0))
