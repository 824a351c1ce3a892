"""Millions of mangled inputs for the parsers that read what the agent sends.

    python plugins/netns/fuzz/fuzz_parsers.py --cases 1000000

Inputs are seeds that were cut, spliced and overwritten, and their offspring: what made a parser say
something new is mangled further. Each input must end in a result or in the parser's own error, the
same in pieces as whole, without a hang (ten seconds for a thousand inputs) and without growth.
A failure prints the input and how to come back to it.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import random
import resource
import struct
import sys
import time
from collections.abc import Callable, Hashable

from h2.events import DataReceived, RequestReceived
from hpack import Encoder
from nemoclaw_hookspecs.egress import EgressRequest
from nemoclaw_plugin_netns.dns.responder import Responder
from nemoclaw_plugin_netns.dns.synthetic import SyntheticAddresses
from nemoclaw_plugin_netns.dns.wire import (
    Edns,
    MessageError,
    Name,
    read_message,
    write_query,
)
from nemoclaw_plugin_netns.proxy.channel import Channel
from nemoclaw_plugin_netns.proxy.head import HeadError
from nemoclaw_plugin_netns.proxy.hello import HelloError, HelloReader, NotTls, is_retry
from nemoclaw_plugin_netns.proxy.http2_answers import send_json
from nemoclaw_plugin_netns.proxy.http2_connection import Connection as Http2
from nemoclaw_plugin_netns.proxy.http2_fields import read_request
from nemoclaw_plugin_netns.proxy.http2_guard import Violation
from nemoclaw_plugin_netns.proxy.limits import Limits
from nemoclaw_plugin_netns.proxy.socks import SocksServer
from nemoclaw_plugin_netns.proxy.table import Table
from nemoclaw_plugin_netns.proxy.target import Origin
from nemoclaw_plugin_netns.proxy.websocket import (
    TEXT,
    FrameError,
    Message,
    MessageReader,
    masked,
    write_frame,
)

Target = Callable[[bytes, random.Random], Hashable]
"""Feeds one input to a parser, asserts on what comes out, and returns which kind that was."""


def pieces(data: bytes, dice: random.Random) -> list[bytes]:
    cuts = sorted(dice.randrange(len(data) + 1) for _ in range(dice.randrange(1, 6)))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


# ---- DNS -----------------------------------------------------------------------------------------


class _Gate:
    sandbox = "fuzz"
    generation = 1

    def changed(self, host: str) -> bool:
        return True

    def resolvable(self, name: str) -> bool:
        assert name == name.lower()
        assert name.isascii()
        assert name.isprintable()
        return name.endswith("org")

    def denied(self, request: EgressRequest, rule: str, reason: str) -> None:
        assert len(request.host) < 1200
        assert request.host.isprintable()


_responder = Responder(
    _Gate(),  # type: ignore[arg-type]
    SyntheticAddresses(capacity=256, floor=0),
    search=("corp.example",),
)


def dns(data: bytes, dice: random.Random) -> Hashable:
    try:
        message = read_message(data)
        outcome: Hashable = len(message.questions), len(message.answers), bool(message.edns)
    except MessageError as error:
        outcome = str(error)
    stream = dice.random() < 0.5
    answer = _responder.answer(data, stream=stream)
    if answer is None:
        return outcome, None
    assert answer[:2] == data[:2]
    assert len(answer) <= (65535 if stream else 1232)
    read = read_message(answer)
    assert read.is_response
    for record in read.answers:
        assert record.name == read.questions[0].name
    return outcome, read.rcode, len(read.answers)


def _dns_seeds() -> list[bytes]:
    names = ["api.example.org", "localhost", "1.0.18.198.in-addr.arpa", "a.b.corp.example", "x"]
    edns = (None, Edns(1232), Edns(4096, dnssec_ok=True, options=((10, bytes(8)), (12, bytes(20)))))
    queries = [
        write_query(7, Name.of(name), kind, each)
        for name in names
        for kind in (1, 12, 28, 65, 255)
        for each in edns
    ]
    record = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + bytes(4)
    answered = struct.pack("!6H", 7, 0x8180, 1, 2, 0, 0) + queries[0][12:] + record * 2
    return [*queries, answered]


# ---- TLS -----------------------------------------------------------------------------------------


def hello(data: bytes, dice: random.Random) -> Hashable:
    second = dice.random() < 0.2

    def run(parts: list[bytes]) -> Hashable:
        reader = HelloReader(second=second, limit=4096)
        try:
            for part in parts:
                found = reader.feed(part)
                assert len(reader._body) <= 4096
                assert len(reader._head) < 5
                assert found is reader.hello
        except (HelloError, NotTls) as error:
            return str(error)
        return reader.hello

    whole = run([data])
    assert run(pieces(data, dice)) == whole, "pieces differ from the whole"
    if isinstance(whole, tuple):
        assert whole[0] is None or (whole[0].isascii() and whole[0] == whole[0].lower())
        return "hello", whole[0] is None, len(whole[1]), whole[2]
    return whole


def retry(data: bytes, dice: random.Random) -> Hashable:
    try:
        outcome: Hashable = is_retry(data)
    except HelloError:
        return "refused"
    if outcome is True:
        assert is_retry(data + b"more") is True
    return outcome


def _vector(width: int, data: bytes) -> bytes:
    return len(data).to_bytes(width, "big") + data


def _hello_seeds() -> list[bytes]:
    name = _vector(2, b"\0" + _vector(2, b"api.example.org"))
    alpn = _vector(2, _vector(1, b"h2") + _vector(1, b"http/1.1"))
    listed = [(0x0A0A, b""), (0, name), (16, alpn), (43, b"\4\3\4\3\3"), (0xFE0D, bytes(60))]
    seeds = []
    for count in range(len(listed) + 1):
        extensions = b"".join(
            struct.pack("!H", kind) + _vector(2, data) for kind, data in listed[:count]
        )
        body = b"\3\3" + bytes(32) + _vector(1, bytes(32)) + _vector(2, b"\x13\1\x13\2") + b"\1\0"
        message = b"\1" + _vector(3, body + _vector(2, extensions))
        for size in (16384, 40):
            seeds.append(
                b"".join(
                    b"\x16\3\1" + _vector(2, message[at : at + size])
                    for at in range(0, len(message), size)
                )
            )
    early = b"\x14\3\3\0\1\1\x17\3\3\0\4data"
    return [*seeds, early + seeds[-1], b"\x15\3\1\0\2\1\0" + seeds[-1], b"GET / HTTP/1.1\r\n\r\n"]


def _retry_seeds() -> list[bytes]:
    magic = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
    first = b"\x16\3\3\0\x5a\2\0\0\x56\3\3"
    return [first + magic + bytes(40), first + bytes(72), b"\x15\3\3\0\2\1\x70" + first + magic]


# ---- SOCKS ---------------------------------------------------------------------------------------


def socks(data: bytes, dice: random.Random) -> Hashable:
    def run(parts: list[bytes]) -> tuple[Hashable, SocksServer]:
        server, sent, rest = SocksServer(), b"", b""
        for part in parts:
            if server.state == "reading":
                sent += server.feed(part)
                assert len(server._buffer) <= 600 + len(part)
            else:
                rest += part
        assert len(sent) <= 12
        # What came behind the request is the caller's, whichever way it was cut.
        kept = server.rest + rest if server.state == "requested" else b""
        return (server.state, server.request, server.reason, sent, kept), server

    whole, server = run([data])
    assert run(pieces(data, dice))[0] == whole, "pieces differ from the whole"
    if server.request is not None:
        assert server.request.host
        assert server.request.host.isascii()
        assert server.request.host.isprintable()
        assert 0 <= server.request.port <= 65535
    return server.state, server.reason, server.request is not None


_SOCKS_SEEDS = [
    b"\5\1\0\5\1\0\3\x0fapi.example.org\x01\xbbrest",
    b"\5\3\0\1\2\5\1\0\1\xc6\x12\0\1\0\x50",
    b"\5\1\0\5\1\0\4" + bytes(15) + b"\1\0\x50",
    b"\5\1\0\5\3\0\1" + bytes(6),
    b"\4\1\0\x50\xc6\x12\0\1user\0",
    b"\4\1\0\x50\0\0\0\1\0api.example.org\0",
    b"\4\1\0\x50\0\0\0\1" + b"u" * 500,
    b"\5\1\2",
]

# ---- HTTP/2 --------------------------------------------------------------------------------------


class _Nowhere(Channel):
    """Takes everything, and counts it."""

    sent = 0

    def write(self, data: bytes) -> None:
        self.sent += len(data)

    def finish(self) -> None: ...

    end_writing = reset = _pause_reading = _resume_reading = finish


_loop = asyncio.new_event_loop()
_table = Table(_loop)
_limits = Limits(header_bytes=4096, header_count=16)
_origin = Origin("api.example.org", 443, True)


def http2(data: bytes, dice: random.Random) -> Hashable:
    """A client's octets, up to the requests that a session would see."""

    def run(parts: list[bytes]) -> tuple[Hashable, Hashable]:
        """What came of it; and what must not depend on how it was cut."""
        seen: list[Hashable] = []
        refused: list[int] = []
        answered: list[int] = []

        def begin(event: RequestReceived) -> None:
            try:
                request = read_request(event.headers, _origin, _limits.header_count)
            except HeadError as error:
                seen.append(error.reason)
                refused.append(event.stream_id)
                return
            for name, value in request.fields:
                assert name.islower() or not name.isalpha()
                assert not set(value) & {0, 10, 13}
            assert not set(request.target) & set(b" \r\n#\0")
            assert request.method != "CONNECT"
            seen.append((request.method, len(request.fields), request.length))
            answered.append(event.stream_id)

        def body(event: DataReceived) -> None:
            seen.append("data")
            connection.acknowledge(event.flow_controlled_length, event.stream_id)

        channel = _Nowhere(_loop)
        connection = Http2(
            channel, _loop, _table, _limits,
            server=True, stream_window=65535,
            handlers={RequestReceived: begin, DataReceived: body}, goodbye=lambda: None,
        )  # fmt: skip
        try:
            for part in parts:
                for each in connection.guard.feed(part, 0):
                    connection._receive(each)
                connection.flush()
        except Violation as error:
            return error.reason, "ended"  # which of several faults is found first depends
        for stream in refused:  # not before: what a frame means depends on what was answered
            send_json(connection, stream, 400, {})
        for stream in answered:
            connection.send_headers(stream, [(b":status", b"200")], end=True)
        connection.close()
        assert channel.sent < 4096 + 20 * len(data)
        return tuple(seen[:8]), (tuple(seen), connection.guard.in_block, connection.guard.goodbye)

    outcome, whole = run([data])
    assert run(pieces(data, dice))[1] == whole, "pieces differ from the whole"
    _loop.call_soon(_loop.stop)  # what was to be flushed soon
    _loop.run_forever()
    return outcome


def _http2_seeds() -> list[bytes]:
    def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
        return len(payload).to_bytes(3, "big") + struct.pack("!BBI", kind, flags, stream) + payload

    encoder = Encoder()
    head = [
        (b":method", b"POST"),
        (b":scheme", b"https"),
        (b":authority", b"api.example.org"),
        (b":path", b"/a/b?c"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        (b"cookie", b"a=1"),
        (b"content-length", b"4"),
    ]
    first, again = encoder.encode(head), encoder.encode(head)
    start = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, struct.pack("!HIHI", 3, 9, 4, 99))
    seeds = [
        start + frame(1, 4, 1, first) + frame(0, 1, 1, b"body") + frame(1, 5, 3, again),
        start
        + frame(1, 0, 1, first[:9])
        + frame(9, 0, 1, first[9:12])
        + frame(9, 4, 1, first[12:]),
        start
        + frame(1, 0x2D, 1, b"\2" + bytes(4) + b"\7" + first + bytes(2))
        + frame(3, 0, 1, bytes(4)),
        start + frame(1, 4, 1, first) + frame(0, 8, 1, b"\1ab\0") + frame(1, 5, 1, b"\x40\1x\1y"),
        start + frame(8, 0, 0, b"\0\0\1\0") + frame(6, 0, 0, bytes(8)) + frame(2, 0, 3, bytes(5)),
        start + frame(7, 0, 0, bytes(8) + b"bye") + frame(0x10, 0, 0, b"x") + frame(4, 1, 0),
        start + frame(1, 5, 1, b"\x3f\xe1\x1f" + first) + frame(1, 5, 5, b"\x82\x84\x87\xbe\xbf"),
    ]
    return [*seeds, b"".join(seed[:-9] for seed in seeds), seeds[0][:40]]


# ---- WebSocket -----------------------------------------------------------------------------------

_LARGEST = 2048


def websocket(data: bytes, dice: random.Random) -> Hashable:
    def run(parts: list[bytes]) -> tuple[list[Message], int, bool]:
        reader, found = MessageReader(_LARGEST), list[Message]()
        try:
            for part in parts:
                for message in reader.feed(part):
                    found.append(message)
                assert len(reader._data) <= _LARGEST + 14 + len(part)
                assert reader._text is None or len(reader._text) <= _LARGEST
        except FrameError as error:
            return found, error.code, False
        return found, 0, reader.closed

    found, code, closed = run([data])
    assert run(pieces(data, dice)) == (found, code, closed), "pieces differ from the whole"
    # What is written anew is read as the same messages, and nothing else.
    again = b"".join(write_frame(opcode, text, mask=True) for opcode, text in found)
    assert run([again]) == (found, 0, closed)
    for opcode, text in found:
        assert len(text) <= (_LARGEST if opcode == TEXT else 125)
        if opcode == TEXT:
            text.decode()
    return tuple(opcode for opcode, _ in found[:6]), code, closed


def _websocket_seeds() -> list[bytes]:
    key = b"\0\0\0\0"
    text, more, end = b"\x01\x82" + key + b"ab", b"\0\x81" + key + b"c", b"\x80\x81" + key + b"d"
    ping, close = b"\x89\x82" + key + b"hi", b"\x88\x85" + key + b"\3\xe8bye"
    long = b"\x81\xfe\0\x80" + key + b"l" * 128
    return [
        text + more + ping + end,
        b"\x81\x85" + b"\1\2\3\4" + masked(b"hello", b"\1\2\3\4") + close,
        long + ping + close + text,
        b"\x81\xff" + bytes(6) + b"\xff\xff" + key,
        b"\x82\x81" + key + b"b",
        b"\xc1\x81" + key + b"z",
        b"\x81\x84" + key + "\U0001f40d".encode(),
    ]


TARGETS: dict[str, tuple[Target, list[bytes]]] = {
    "dns": (dns, _dns_seeds()),
    "hello": (hello, _hello_seeds()),
    "http2": (http2, _http2_seeds()),
    "retry": (retry, _retry_seeds()),
    "socks": (socks, _SOCKS_SEEDS),
    "websocket": (websocket, _websocket_seeds()),
}

# ---- the mill ------------------------------------------------------------------------------------

_OCTETS = (0, 1, 2, 3, 4, 5, 12, 0x16, 0x2E, 0x3F, 0x40, 0x7F, 0x80, 0xC0, 0xFE, 0xFF)


def mangle(corpus: list[bytes], dice: random.Random) -> bytes:
    """Some input, changed a little or a lot."""
    if dice.random() < 0.02:
        return dice.randbytes(dice.randrange(200))
    data = bytearray(dice.choice(corpus))
    for _ in range(dice.choice((0, 1, 1, 1, 2, 3, 8))):
        at = dice.randrange(len(data) + 1)
        match dice.randrange(8):
            case 0 if data:
                data[at % len(data)] ^= 1 << dice.randrange(8)
            case 1 if data:
                data[at % len(data)] = dice.choice(_OCTETS)
            case 2:
                data[at:at] = dice.randbytes(dice.choice((1, 1, 2, 4, 16)))
            case 3:
                del data[at : at + dice.choice((1, 1, 2, 4, 16))]
            case 4:
                del data[at:]
            case 5:
                other = dice.choice(corpus)
                data[at:] = other[dice.randrange(len(other) + 1) :]
            case 6:
                end = at + dice.randrange(40)
                data[at:at] = data[at:end] * dice.choice((1, 1, 2, 20))
            case _ if data:
                at %= len(data)
                data[at] = (data[at] + dice.choice((-1, 1))) % 256
            case _:
                pass
    return bytes(data[:8192])


def run(name: str, cases: int, seed: int) -> None:
    """One parser's share; ends the process at the first failure."""
    target, seeds = TARGETS[name]
    corpus = list(seeds)
    seen: set[Hashable] = set()
    start = time.monotonic()
    memory = 0
    for case in range(cases):
        if case % 1000 == 0:
            faulthandler.dump_traceback_later(10, exit=True)
            if case == min(cases // 10, 50_000):
                memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        dice = random.Random(f"{seed}/{name}/{case}")
        data = mangle(corpus, dice)
        try:
            outcome = target(data, dice)
        except Exception:
            print(f"{name}: --seed {seed}, case {case}: {data.hex()}", file=sys.stderr)
            raise
        if outcome not in seen and len(seen) < 2000:
            seen.add(outcome)
            corpus.append(data)
    faulthandler.cancel_dump_traceback_later()
    taken = time.monotonic() - start
    growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
    print(
        f"{name}: {cases:,} cases, {len(seen)} kinds of outcome, {taken:.0f} s, "
        f"{growth / 1024:.1f} MiB of growth"
    )
    if growth > 32 * 1024:
        sys.exit(f"{name}: memory grows")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=1_000_000, help="over all parsers")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--target", choices=TARGETS, action="append")
    options = parser.parse_args()
    targets = options.target or list(TARGETS)
    for name in targets:
        run(name, -(-options.cases // len(targets)), options.seed)


if __name__ == "__main__":
    main()
