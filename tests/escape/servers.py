"""The host's servers: each sends the secret to whoever reaches it.

It also calls on the addresses at which an attempt may want to be reached, and gives it there.
"""

from __future__ import annotations

import array
import errno
import os
import selectors
import socket
import tty
from collections.abc import Callable
from typing import Any

TICK = 0.03
"""Seconds between two calls on the addresses at which an attempt may listen."""


class Servers:
    """All servers of a stage in one thread. Facts about them are noted in ``facts``."""

    def __init__(self, facts: dict[str, Any], secret: bytes) -> None:
        self._facts = facts
        self._secret = secret
        self._selector = selectors.DefaultSelector()
        self._internet()
        self._unix()
        self._terminal()

    def serve(self, end: int) -> None:
        """Serve until descriptor ``end`` is readable, which is when the tests are over."""
        self._selector.register(end, selectors.EVENT_READ, None)
        while True:
            for key, _ in self._selector.select(TICK):
                if key.data is None:
                    return
                key.data(key.fileobj)
            self._call()

    def _add(self, served: socket.socket | int, handler: Callable[[Any], None]) -> None:
        if isinstance(served, socket.socket):
            served.setblocking(False)
        self._selector.register(served, selectors.EVENT_READ, handler)

    def _accept(self, listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.send(self._secret)

    def _answer(self, server: socket.socket) -> None:
        _, sender = server.recvfrom(64)
        server.sendto(self._secret, sender)

    def _answer_by_descriptor(self, server: socket.socket) -> None:
        _, rights, _, _ = server.recvmsg(64, socket.CMSG_SPACE(4))
        for _, _, data in rights:
            (descriptor,) = array.array("i", data[:4])
            with socket.socket(fileno=descriptor) as back:
                back.send(self._secret)

    def _internet(self) -> None:
        own = _host_address()
        self._facts["host_address"] = own
        self._facts["interfaces"] = [
            name for _, name in socket.if_nameindex() if name != "lo"
        ] or None
        self._facts["ipv6"] = os.path.exists("/proc/net/if_inet6") or None
        addresses = ["127.0.0.1", "127.8.8.8", "127.0.0.53", *([own] if own else [])]
        if self._facts["ipv6"]:
            addresses.append("::1")
        for listener in _bound(addresses, socket.SOCK_STREAM):
            listener.listen()
            self._facts["tcp"] = listener.getsockname()[1]
            self._add(listener, self._accept)
        for server in _bound(addresses, socket.SOCK_DGRAM):
            self._facts["udp"] = server.getsockname()[1]
            self._add(server, self._answer)
        for key, kind in (("reach_tcp", socket.SOCK_STREAM), ("reach_udp", socket.SOCK_DGRAM)):
            with socket.socket(socket.AF_INET, kind) as free:
                free.bind(("127.0.0.1", 0))
                self._facts[key] = free.getsockname()[1]

    def _unix(self) -> None:
        facts = self._facts
        facts["abstract"] = facts["base_name"]
        facts["paths"]["tmp_socket"] = f"/tmp/{facts['base_name']}.sock"
        streams = (
            "\0" + facts["abstract"],
            facts["paths"]["tmp_socket"],
            f"{facts['home']}/server.sock",
            f"{facts['home']}/shared/server.sock",
            f"{facts['work']}/server.sock",
            f"{facts['run']}/bus",
            f"{facts['run']}/nemoclaw/earlier.sock",
        )
        for address in streams:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(address)
            _open_to_all(address)
            listener.listen()
            self._add(listener, self._accept)
        for address in (f"\0{facts['abstract']}-datagram", f"{facts['home']}/datagram.sock"):
            server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            server.bind(address)
            _open_to_all(address)
            self._add(server, self._answer_by_descriptor)
        # A reader keeps the FIFO open for writers; what they write is of no interest.
        os.open(facts["paths"]["fifo"], os.O_RDONLY | os.O_NONBLOCK)

    def _terminal(self) -> None:
        controller, terminal = os.openpty()
        tty.setraw(terminal)
        self._facts["terminal"] = os.ttyname(terminal)
        self._add(controller, self._typed)

    def _typed(self, controller: int) -> None:
        with open(f"{self._facts['base']}/terminal", "ab") as file:
            file.write(os.read(controller, 4096))

    def _call(self) -> None:
        facts = self._facts
        if "network-be_reached" in facts["attempts"]:
            self._give(socket.AF_INET, ("127.0.0.1", facts["reach_tcp"]))
        if "network-be_reached_by_udp" in facts["attempts"]:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as caller:
                caller.sendto(self._secret, ("127.0.0.1", facts["reach_udp"]))
        if "network-be_reached_by_name" in facts["attempts"]:
            self._give(socket.AF_UNIX, f"\0{facts['abstract']}-reach")
        if "network-be_reached_without_binding" in facts["attempts"]:
            try:
                with open(f"{facts['work']}/network-be_reached_without_binding", "rb") as file:
                    self._give(socket.AF_INET, ("127.0.0.1", int(file.read())))
            except FileNotFoundError:
                return

    def _give(self, family: int, address: Any) -> None:
        with socket.socket(family) as caller:
            caller.settimeout(1)
            try:
                caller.connect(address)
                caller.send(self._secret)
            except ConnectionError:
                return  # nobody listens there, or not yet


def _open_to_all(address: str) -> None:
    if address.startswith("/"):
        os.chmod(address, 0o777)


def _bound(addresses: list[str], kind: int) -> list[socket.socket]:
    """A socket at each address, all with the same free port.

    :raises OSError: no such port was found.
    """
    for attempts_left in reversed(range(20)):
        made: list[socket.socket] = []
        try:
            for address in addresses:
                family = socket.AF_INET6 if ":" in address else socket.AF_INET
                made.append(socket.socket(family, kind))
                made[-1].bind((address, made[0].getsockname()[1]))
            return made
        except OSError as error:
            for used in made:
                used.close()
            if error.errno != errno.EADDRINUSE or not attempts_left:
                raise
    raise AssertionError("the loop returns or raises")


def _host_address() -> str | None:
    """The address that the host would use on its network; None without one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as question:
        try:
            # Nothing is sent: connecting a UDP socket only looks a route up (RFC 5737 address).
            question.connect(("192.0.2.1", 9))
        except OSError:
            return None
        address: str = question.getsockname()[0]
        return None if address.startswith("127.") else address
