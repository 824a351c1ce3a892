"""Places that are nobody's business: the proxy itself, another sandbox, nemoclaw."""

from __future__ import annotations

import socket

from .registry import SECONDS, Stage, Stopped, attack, listen


@attack("places")
def loop(stage: Stage) -> str:
    """Send the proxy to itself, by a name that a wildcard allows."""
    _host, port = stage.fronts[stage.front]
    place = f"judged.test:{stage.plain}"
    inner = stage.head(f"http://{place}/open/nested", place, "Connection: close")
    return stage.ask(inner, stage.tunnel(f"loop.wild.test:{port}"))


@attack("places", policy="wide")
def loop_by_address(stage: Stage) -> str:
    """Send the proxy to itself, by its address in another spelling."""
    _host, port = stage.fronts[stage.front]
    place = f"judged.test:{stage.plain}"
    inner = stage.head(f"http://{place}/open/nested", place, "Connection: close")
    return stage.ask(inner, stage.tunnel(f"127.1:{port}"))


@attack("places", evidence="said", stopped="refused")
def neighbour(stage: Stage) -> str:
    """Read what a server in another sandbox says on its loopback."""
    with socket.create_connection(("127.0.0.1", stage.neighbour), SECONDS) as connection:
        connection.sendall(b"GET /secret.txt HTTP/1.0\r\n\r\n")
        return listen(connection)


@attack("places", evidence="said", policy="wide")
def neighbour_by_proxy(stage: Stage) -> str:
    """The same through the proxy."""
    with stage.tunnel(f"127.1:{stage.neighbour}") as connection:
        connection.sendall(b"GET /secret.txt HTTP/1.0\r\n\r\n")
        return listen(connection)


@attack("places", evidence="done", stopped="No such file")
def control_socket(stage: Stage) -> str:
    """Connect to the control socket of a sandbox."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(SECONDS)
        connection.connect(stage.control)
    return "connected"


@attack("places", stopped="credential-elsewhere")
def placeholder(stage: Stage) -> str:
    """Send the placeholder of a key to another allowed host, and have it replaced."""
    place = f"judged.test:{stage.plain}"
    said = stage.ask(stage.head(f"http://{place}/open/x", place, f"X-Api-Key: {stage.placeholder}"))
    if "200" not in said:
        raise Stopped(said)
    return said
