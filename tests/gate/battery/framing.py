"""Request smuggling: the proxy sees one request, and the server two."""

from __future__ import annotations

from collections.abc import Callable

from .registry import Stage, attack, listen


def _smuggled(stage: Stage, place: str) -> bytes:
    return stage.head("/secret/x", place)


def _cl_te(name: str, claim: str, *fields: str) -> None:
    """A body by Content-Length for the proxy, and by chunks for the server."""

    @attack("framing", name, claim)
    def run(stage: Stage) -> str:
        place = f"judged.test:{stage.plain}"
        body = b"0\r\n\r\n" + _smuggled(stage, place)
        lines = (f"Content-Length: {len(body)}", *fields)
        head = stage.head(f"http://{place}/open/x", place, *lines, method="POST")
        return stage.ask(head + body)


_CHUNKED = "Transfer-Encoding: chunked"
_cl_te("cl_te", "Content-Length for the proxy, Transfer-Encoding for the server.", _CHUNKED)
_cl_te("te_te", "A Transfer-Encoding that only the server takes for one: `xchunked`.",
       "Transfer-Encoding: xchunked")  # fmt: skip
_cl_te("te_te_twice", "Two Transfer-Encodings, of which the server takes one.",
       "Transfer-Encoding: identity", _CHUNKED)  # fmt: skip
_cl_te("te_te_space", "Transfer-Encoding with a space before its colon.",
       "Transfer-Encoding : chunked")  # fmt: skip
_cl_te("te_te_tab", "A Transfer-Encoding behind a vertical tab.",
       "Transfer-Encoding: \x0bchunked")  # fmt: skip
_cl_te("obs_fold", "Transfer-Encoding on a folded line (obs-fold).",
       "Transfer-Encoding:\r\n chunked")  # fmt: skip
_cl_te("bare_lf", "Transfer-Encoding behind a bare line feed.", f"X-A: b\n{_CHUNKED}")
_cl_te("bare_cr", "Transfer-Encoding behind a bare carriage return.", f"X-A: b\r{_CHUNKED}")


def _te_front(name: str, claim: str) -> Callable[..., object]:
    return attack("framing", name, claim, front="te")


@_te_front("te_cl", "Transfer-Encoding for the proxy, Content-Length for the server.")
def te_cl(stage: Stage) -> str:
    place = f"judged.test:{stage.by_length}"
    inner = _smuggled(stage, place)
    size = f"{len(inner):x}\r\n"
    head = stage.head(
        f"http://{place}/open/x", place, f"Content-Length: {len(size)}", _CHUNKED, method="POST"
    )
    return stage.ask(head + size.encode() + inner + b"\r\n0\r\n\r\n")


@_te_front("chunk_extension", "A line feed in a chunk's extension, which the server takes for its "
           "end.")  # fmt: skip
def chunk_extension(stage: Stage) -> str:
    place = f"judged.test:{stage.plain}"
    head = stage.head(f"http://{place}/open/x", place, _CHUNKED, method="POST")
    # By CRLF: 5 bytes of data ("0\r\n\r\n") behind the extension "\nAAAAA", and then 0xDE more. By
    # LF: "AAAAA", the last chunk, and a request.
    line, _, rest = stage.head("/secret/x", place, method="DELETE").partition(b"\r\n")
    rest = rest.ljust(0xDE, b"\n")
    body = b"5;\nAAAAA\r\n0\r\n\r\n" + b"\r\n" + line + b"\r\n" + rest + b"\r\n0\r\n\r\n"
    return stage.ask(head + body)


@attack("framing")
def length_twice(stage: Stage) -> str:
    """Two Content-Lengths: the proxy takes the first, the server the last."""
    place = f"judged.test:{stage.by_length}"
    inner = _smuggled(stage, place)
    lines = (f"Content-Length: {len(inner)}", "Content-Length: 0")
    head = stage.head(f"http://{place}/open/x", place, *lines, method="POST")
    return stage.ask(head + inner)


@attack("framing")
def length_with_sign(stage: Stage) -> str:
    """A Content-Length that the proxy reads and the server does not: `+N`."""
    place = f"judged.test:{stage.by_length}"
    inner = _smuggled(stage, place)
    lines = (f"Content-Length: +{len(inner)}",)
    head = stage.head(f"http://{place}/open/x", place, *lines, method="POST")
    return stage.ask(head + inner)


@attack("framing")
def line_in_a_target(stage: Stage) -> str:
    """A second request inside of the target, behind bare line feeds."""
    place = f"judged.test:{stage.plain}"
    inner = f"GET /secret/x HTTP/1.1\nHost: {place}\nX-By: {stage.by}\n\n"
    target = f"http://{place}/open/x HTTP/1.1\nHost: {place}\n\n{inner}GET /open/x"
    return stage.ask(stage.head(target, place))


@attack("framing")
def length_for_one_hop(stage: Stage) -> str:
    """A Content-Length that Connection says to take away."""
    place = f"judged.test:{stage.plain}"
    inner = _smuggled(stage, place)
    lines = (f"Content-Length: {len(inner)}", "Connection: Content-Length")
    head = stage.head(f"http://{place}/open/x", place, *lines, method="POST")
    return stage.ask(head + inner)


@attack("framing", stopped="page of judged.test /open/x")
def upgrade(stage: Stage) -> str:
    """An upgrade to a WebSocket that the server does not make, and a request behind it."""
    place = f"judged.test:{stage.plain}"
    lines = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
             "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==")  # fmt: skip
    head = stage.head(f"http://{place}/open/x", place, *lines)
    with stage.dial() as connection:
        connection.sendall(head)
        said = listen(connection)
        connection.sendall(_smuggled(stage, place))
        return said + listen(connection)


@attack("framing", stopped="200 OK")
def trailer(stage: Stage) -> str:
    """A denied method in a trailer, behind the last chunk."""
    place = f"reads.test:{stage.plain}"
    head = stage.head(f"http://{place}/open/x", place, _CHUNKED)
    return stage.ask(head + b"0\r\nX-HTTP-Method-Override: DELETE\r\n\r\n")
