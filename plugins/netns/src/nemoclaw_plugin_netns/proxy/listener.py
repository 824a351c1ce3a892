"""Accepts the agent's connections on the sockets that were born in its network namespace."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Literal

from .opening import Opening
from .table import reset

if TYPE_CHECKING:
    from .gate import Gate

_BATCH = 32
"""Connections in a row, before others get their turn."""
_PAUSE = 0.1
"""Seconds without accepting, when this process has no more descriptors."""
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Listener:
    """One listening socket; whoever made it closes it.

    :param kind: ``transparent``: connections were redirected here, and the kernel knows from where.
        ``proxy``: clients speak CONNECT, ``http://`` requests or SOCKS5, by their first octet.
    """

    def __init__(
        self, gate: Gate, sock: socket.socket, kind: Literal["transparent", "proxy"]
    ) -> None:
        self._gate = gate
        self._sock = sock
        self._kind: Literal["transparent", "proxy"] = kind
        self._open = False

    def start(self) -> None:
        """Begin to accept."""
        self._sock.setblocking(False)
        self._open = True
        self._gate.loop.add_reader(self._sock.fileno(), self._accept)

    def close(self) -> None:
        """Accept no more. What was accepted lives on."""
        if self._open:
            self._open = False
            self._gate.loop.remove_reader(self._sock.fileno())

    def _accept(self) -> None:
        gate = self._gate
        for _ in range(_BATCH):
            try:
                client, _address = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    gate.loop.remove_reader(self._sock.fileno())
                    gate.loop.call_later(_PAUSE, self._again)
                    return
                continue  # the client has gone while it waited
            client.setblocking(False)
            if len(gate.table) >= gate.limits.connections:
                reset(client)
                continue
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            Opening(gate, client, self._kind).start()

    def _again(self) -> None:
        if self._open:
            self._gate.loop.add_reader(self._sock.fileno(), self._accept)
