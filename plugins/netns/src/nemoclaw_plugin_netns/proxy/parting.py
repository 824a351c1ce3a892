"""The last words to a client that knows of no proxy: in the protocol that it begins with, if any.

A reset says that nobody is there, and leaves an agent guessing. So a client that is about to be
refused may say its first line: to HTTP the answer is HTTP, to TLS an alert. It gets little time for
it, and whoever waits for the server to speak first is not kept waiting.
"""

from __future__ import annotations

import asyncio
import re
import socket

from . import replies
from .peeking import peek

_PATIENCE = 0.1
"""Seconds for a first line."""
_LINGER = 1.0
"""Seconds for the rest, once it is answered."""
_MOST_DROPPED = 1 << 20
"""Octets of it."""
_MOST = 4096
"""Octets of it."""
_LINE = re.compile(rb"([A-Z]{3,20}) [\x21-\x7e]+ HTTP/1\.[01]\r?\n")
_PART_OF_LINE = re.compile(rb"[A-Z]{1,20}(?: [\x21-\x7e]*(?: [HTP/1.0]{0,8}\r?)?)?")
ACCESS_DENIED = b"\x15\x03\x03\x00\x02\x02\x31"
"""A fatal alert of TLS (RFC 8446, 6.2)."""


async def last_words(client: socket.socket, status: int, body: dict[str, str]) -> bytes:
    """What to answer to what a client says, and leaves unread; empty: nothing that it would read.

    :param status: of HTTP; with 403, TLS is answered as well.
    :param body: see :mod:`.replies`.
    """
    try:
        data = await asyncio.wait_for(_first_line(client), _PATIENCE)
    except asyncio.TimeoutError:
        return b""
    found = _LINE.match(data)
    if found is not None:
        return replies.reply(status, body, close=True, head_only=found[1] == b"HEAD")
    return ACCESS_DENIED if status == 403 and data[:2] == b"\x16\x03" else b""


async def hear_out(client: socket.socket) -> None:
    """Let a client that was answered finish what it says, for a moment: close(2) with unread octets
    would send RST, and its kernel would drop the answer."""
    try:
        await asyncio.wait_for(_drop(client), _LINGER)
    except (asyncio.TimeoutError, OSError):
        pass  # It has had its time, or has gone.


async def _drop(client: socket.socket) -> None:
    left = _MOST_DROPPED
    while left > 0:
        data = await peek(client, 0, 65536)
        if not data:
            return
        left -= len(client.recv(65536))


async def _first_line(client: socket.socket) -> bytes:
    """What has been said once it can be told what it is."""
    data = b""
    while True:
        size = len(data)
        data = await peek(client, size, _MOST)
        if len(data) <= size:
            return data
        if data != b"\x16" and not _PART_OF_LINE.fullmatch(data):
            return data
