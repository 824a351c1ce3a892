"""Octets that are looked at and left where they are: in the kernel, for whoever reads them."""

from __future__ import annotations

import asyncio
import socket


async def peek(sock: socket.socket, seen: int, limit: int) -> bytes:
    """What has arrived, at most ``limit`` octets, once it is more than ``seen`` octets.

    No more than ``seen``: the peer has said its last.
    """
    try:
        data = sock.recv(limit, socket.MSG_PEEK)
        if len(data) > seen or not data:
            return data
    except BlockingIOError:
        pass
    if seen:  # level-triggered: without this, what was seen would wake us again at once
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, seen + 1)
    descriptor = sock.fileno()
    loop = asyncio.get_running_loop()
    waiter = loop.create_future()
    loop.add_reader(descriptor, _wake, waiter)
    try:
        await waiter
    finally:
        loop.remove_reader(descriptor)
        if seen and sock.fileno() >= 0:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
    return sock.recv(limit, socket.MSG_PEEK)


async def begins_with(sock: socket.socket, beginning: bytes) -> bool:
    """Whether the first octets are these, as soon as that is clear."""
    data = b""
    while beginning.startswith(data) and len(data) < len(beginning):
        size = len(data)
        data = await peek(sock, size, len(beginning))
        if len(data) <= size:
            return False
    return data == beginning


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
