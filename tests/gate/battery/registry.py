"""What an attack is, and the decorator that registers one."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

CLASSES = {
    "hosts": "host-mismatch",
    "literals": "address",
    "paths": "path|malformed-path",
    "framing": "malformed_request",
    "names": "",
    "load": "malformed-body",
    "callers": "binary|caller-unknown",
    "places": "address",
}
"""Of each class, by what its attacks are stopped if they do not say otherwise: a pattern that is
found in what the attacker is told."""
SECONDS = 20
"""A socket waits no longer."""


class Stopped(Exception):
    """What was wanted was refused, or not there."""


@dataclass(frozen=True)
class Attack:
    """One way to get past a gate.

    It *worked* when the servers saw what no rule allows; the attacker's own word counts only where
    ``evidence`` says so.
    """

    name: str
    """``CLASS-NAME``; a request says it in ``X-By``."""
    claim: str
    """What it tries to do."""
    run: Callable[[Stage], str]
    policy: str = "narrow"
    """``narrow`` names hosts, ``wide`` allows every name that leads to an address of its own."""
    front: str = ""
    """The naive proxy that it is for, where that is not one with the policy's name."""
    evidence: str = "served"
    """``served``: a server was asked for what no rule allows; ``query``: a name server was asked;
    ``said``: the neighbour's secret was read; ``done``: the attacker says so."""
    stopped: str = ""
    """By what it is stopped inside, where that is not the class's."""
    limit: str = ""
    """It works inside too, and why that cannot be helped."""
    alone: bool = False
    """Nothing else can be done meanwhile."""

    @property
    def told(self) -> str:
        """A pattern of what the attacker is told inside."""
        return self.stopped or CLASSES[self.name.partition("-")[0]]


@dataclass
class Stage:
    """Where an attack finds what it needs."""

    facts: dict[str, Any]
    by: str = ""
    front: str = ""
    seen: bytes = field(default=b"", repr=False)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.facts[name]
        except KeyError:
            raise AttributeError(name) from None

    def dial(self) -> socket.socket:
        """A connection to the proxy."""
        host, port = self.facts["fronts"][self.front]
        return socket.create_connection((host, port), SECONDS)

    def head(self, target: str, host: str, *more: str, method: str = "GET") -> bytes:
        """A request's head, by which servers know the attack."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", f"X-By: {self.by}", *more]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape")

    def ask(self, data: bytes, on: socket.socket | None = None) -> str:
        """Send to the proxy, and read until nothing more comes.

        :raises Stopped: it was refused.
        """
        with on or self.dial() as connection:
            connection.sendall(data)
            said = listen(connection)
        if not said.startswith("HTTP/1.1 2"):
            raise Stopped(said[:600])
        return said

    def tunnel(self, place: str) -> socket.socket:
        """What CONNECT leads to.

        :raises Stopped: the proxy refuses.
        """
        connection = self.dial()
        connection.sendall(f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\n".encode())
        said = b""
        while b"\r\n\r\n" not in said:
            piece = connection.recv(1)
            if not piece:
                break
            said += piece
        if b" 200 " not in said.partition(b"\r\n")[0]:
            said += connection.recv(4096)
            connection.close()
            raise Stopped(said.decode(errors="replace"))
        return connection


def listen(connection: socket.socket, quiet: float = 0.4) -> str:
    """What comes until the end, or until nothing has come for a while after something did."""
    said = b""
    try:
        while len(said) < 1 << 20:
            piece = connection.recv(65536)
            if not piece:
                break
            said += piece
            connection.settimeout(quiet)
    except (TimeoutError, ConnectionError):
        pass
    return said.decode(errors="replace")


ATTACKS: dict[str, Attack] = {}


def attack(
    kind: str, name: str = "", claim: str = "", **more: Any
) -> Callable[[Callable[[Stage], str]], Callable[[Stage], str]]:
    """Register a function; its name and docstring, unless others are given."""

    def register(function: Callable[[Stage], str]) -> Callable[[Stage], str]:
        full = f"{kind}-{name or function.__name__}"
        said = claim or (function.__doc__ or "").partition("\n")[0]
        ATTACKS[full] = Attack(name=full, claim=said, run=function, **more)
        return function

    return register
