"""Frames of WebSocket: what a client's octets say, and what is refused."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nemoclaw_plugin_netns.proxy.watching import _whole
from nemoclaw_plugin_netns.proxy.websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    MALFORMED,
    NOT_UTF8,
    PING,
    TEXT,
    TOO_BIG,
    UNSUPPORTED,
    FrameError,
    Message,
    MessageReader,
    masked,
    read_header,
    write_close,
    write_frame,
)

LIMIT = 70_000


def frame(opcode: int, data: bytes, *, final: bool = True, reserved: int = 0) -> bytes:
    """A client's, in whichever way it should not be."""
    whole = bytearray(write_frame(opcode & 15, data, mask=True))
    whole[0] = (128 if final else 0) | reserved | opcode
    return bytes(whole)


def read(data: bytes, size: int = 0) -> tuple[list[Message], int]:
    """Messages, and the code of the refusal that ends them."""
    reader = MessageReader(LIMIT)
    found: list[Message] = []
    try:
        for at in range(0, len(data), size or len(data) or 1):
            for message in reader.feed(data[at : at + size] if size else data):
                found.append(message)
    except FrameError as error:
        return found, error.code
    return found, 0


@given(
    st.lists(st.tuples(st.text(max_size=40), st.integers(1, 4), st.booleans()), max_size=5),
    st.integers(0, 9),
)
def test_messages_are_put_together_however_they_were_cut(
    texts: list[tuple[str, int, bool]], size: int
) -> None:
    data, expected = b"", []
    for text, parts, pinged in texts:
        octets = text.encode()
        step = len(octets) // parts + 1
        for part in range(parts):
            opcode = CONTINUATION if part else TEXT
            piece = octets[part * step : (part + 1) * step]
            data += frame(opcode, piece, final=part == parts - 1)
            if pinged and part < parts - 1:
                data += frame(PING, b"p")
                expected.append(Message(PING, b"p"))
        expected.append(Message(TEXT, octets))
    assert read(data, size) == (expected, 0)


@pytest.mark.parametrize("length", [0, 125, 126, 65535, 65536, LIMIT])
def test_every_form_of_a_length_is_read(length: int) -> None:
    data = b"x" * length
    assert read(write_frame(TEXT, data, mask=True)) == ([Message(TEXT, data)], 0)
    header = read_header(write_frame(TEXT, data, mask=False))
    assert header is not None
    assert (header.length, header.masked, header.final) == (length, False, True)


GOOD = frame(TEXT, b"good")
REFUSED = {
    "binary": (frame(BINARY, b"x"), UNSUPPORTED),
    "not masked": (write_frame(TEXT, b"x", mask=False), MALFORMED),
    "compressed": (frame(TEXT, b"x", reserved=0x40), MALFORMED),
    "reserved bit": (frame(TEXT, b"x", reserved=0x10), MALFORMED),
    "unknown kind": (frame(3, b"x"), MALFORMED),
    "unknown control": (frame(11, b"x"), MALFORMED),
    "control in pieces": (frame(PING, b"x", final=False), MALFORMED),
    "control too long": (b"\x89\xfe\x00\x7e" + bytes(4 + 126), MALFORMED),
    "long form of a short length": (b"\x81\xfe\x00\x7d" + bytes(4 + 125), MALFORMED),
    "longest form of a short length": (b"\x81\xff" + bytes(7) + b"\1" + bytes(5), MALFORMED),
    "negative length": (b"\x81\xff" + b"\xff" * 8 + bytes(4), MALFORMED),
    "continues nothing": (frame(CONTINUATION, b"x"), MALFORMED),
    "begins inside": (frame(TEXT, b"a", final=False) + frame(TEXT, b"b"), MALFORMED),
    "too large": (b"\x81\xff" + struct.pack("!Q", LIMIT + 1) + bytes(4), TOO_BIG),
    "too large in pieces": (
        frame(TEXT, b"x" * LIMIT, final=False) + frame(CONTINUATION, b"y"),
        TOO_BIG,
    ),
    "not UTF-8": (frame(TEXT, b"\xff"), NOT_UTF8),
    "half a surrogate pair": (frame(TEXT, b"\xed\xa0\x80"), NOT_UTF8),
    "half a close code": (frame(CLOSE, b"\3"), MALFORMED),
    "reserved close code": (frame(CLOSE, b"\3\xed"), MALFORMED),
    "close reason not UTF-8": (frame(CLOSE, b"\3\xe8\xff"), NOT_UTF8),
}


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.parametrize("size", [0, 1])
def test_anything_else_is_refused_after_what_was_good(what: str, size: int) -> None:
    data, code = REFUSED[what]
    if size and len(data) > 1000:
        size = 999
    assert read(GOOD + data, size) == ([Message(TEXT, b"good")], code)


def test_nothing_is_read_behind_a_close() -> None:
    close = write_close(1000, "enough", mask=True)
    found, code = read(GOOD + close + GOOD + b"\xff\xff")
    assert (found[1].opcode, found[1].data, len(found), code) == (CLOSE, b"\3\xe8enough", 2, 0)


@given(st.binary(max_size=70), st.binary(min_size=4, max_size=4))
def test_masking_is_its_own_inverse(data: bytes, key: bytes) -> None:
    once = masked(data, key)
    assert once == bytes(each ^ key[at % 4] for at, each in enumerate(data))
    assert masked(once, key) == data


def test_a_reason_is_cut_between_characters() -> None:
    whole = write_close(1008, "é" * 100, mask=False)
    header = read_header(whole)
    assert header is not None
    assert header.length <= 125
    assert whole[4:].decode() == "é" * 61


def test_a_servers_frames_are_passed_on_whole_unless_they_are_large() -> None:
    small, large = (write_frame(TEXT, b"x" * n, mask=False) for n in (5, 50_000))
    assert _whole(b"") == (0, 0)
    assert _whole(small + small[:3]) == (len(small), 0)
    assert _whole(small[:3]) == (0, 0)
    assert _whole(small + large[:9]) == (len(small), 0)
    assert _whole(large[:9]) == (0, len(large))
    for bad in (b"\xff\x00", frame(TEXT, b"x")):
        assert _whole(small + bad) == (len(small), 0)
        with pytest.raises(FrameError):
            _whole(bad)
