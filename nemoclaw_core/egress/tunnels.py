"""A way through a company's proxy, asked for with CONNECT (RFC 9110 section 9.3.6)."""

from __future__ import annotations

import asyncio
import re
import socket
from typing import TYPE_CHECKING

from nemoclaw_hookspecs.errors import UpstreamError

if TYPE_CHECKING:
    from .hosts import Host
    from .upstream import Proxy

_LARGEST = 16384
"""Octets of an answer's head."""
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: |\r\n)")
_WRONG_PASSWORD = "set the user in proxy, and proxy_password, in settings.toml"
_REFUSALS = {
    403: "the upstream proxy refuses it",
    407: "the upstream proxy wants a user and a password, or others than it was given",
    502: "the upstream proxy cannot reach it",
    503: "the upstream proxy cannot reach it",
    504: "the upstream proxy got no answer from it in time",
}


async def tunnel(connection: socket.socket, proxy: Proxy, host: Host, port: int) -> None:
    """Ask a proxy, which a socket is connected to, for a way to a host and a port.

    Not one octet of what comes after the answer is read.

    :param connection: non-blocking.
    :raises UpstreamError: it refuses, or does not answer as HTTP asks.
    :raises OSError: the connection broke.
    """
    authority = f"[{host.text}]:{port}" if ":" in host.text else f"{host.text}:{port}"
    request = f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n"
    if proxy.authorization:
        request += f"Proxy-Authorization: {proxy.authorization}\r\n"
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(connection, f"{request}\r\n".encode("ascii"))
    head = b""
    while b"\r\n\r\n" not in head:
        seen = await _peek(connection, _LARGEST)
        end = (head + seen).find(b"\r\n\r\n")
        head += connection.recv(len(seen) if end < 0 else end + 4 - len(head))
        if not seen or len(head) > _LARGEST:
            raise UpstreamError(f"cannot connect to {authority}: the upstream proxy says nothing")
    found = _STATUS.match(head)
    status = int(found[1]) if found else 0
    if not 200 <= status < 300:
        why = _REFUSALS.get(status, f"the upstream proxy answers {status or 'no HTTP'}")
        remedy = _WRONG_PASSWORD if status == 407 else None
        raise UpstreamError(f"cannot connect to {authority}: {why}", remedy=remedy)


async def _peek(connection: socket.socket, most: int) -> bytes:
    """What has arrived and stays where it is; empty at the end."""
    while True:
        try:
            return connection.recv(most, socket.MSG_PEEK)
        except BlockingIOError:
            await _readable(connection.fileno())


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not waiter.done():
            waiter.set_result(None)

    loop.add_reader(descriptor, wake)
    try:
        await waiter
    finally:
        loop.remove_reader(descriptor)
