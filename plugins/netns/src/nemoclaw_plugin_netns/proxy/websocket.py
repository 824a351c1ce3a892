"""Frames of WebSocket (RFC 6455 section 5), read strictly, and written anew.

No extension is known here: whoever reads frames has seen to it that none was agreed on.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import NamedTuple

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
GOING_AWAY, MALFORMED, UNSUPPORTED, NOT_UTF8, POLICY, TOO_BIG, TRY_LATER, BAD_GATEWAY = (
    1001, 1002, 1003, 1007, 1008, 1009, 1013, 1014,
)  # fmt: skip
"""Codes of a close frame (RFC 6455 section 7.4.1, and IANA's registry)."""
_CODES = frozenset((1000, 1001, 1002, 1003, *range(1007, 1015)))
_CONTROL = 125
"""Octets of the longest control frame."""


class FrameError(ValueError):
    """What the peer sends is not WebSocket, or not what is taken here.

    :param code: of the close frame that says so.
    :param reason: for people, and for the event. Holds nothing of the message.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Header(NamedTuple):
    """What a frame begins with."""

    size: int
    """Octets of the header itself."""
    final: bool
    opcode: int
    masked: bool
    length: int
    """Octets of the payload, which follows."""


class Message(NamedTuple):
    """A whole text message, or a control frame."""

    opcode: int
    data: bytes


def read_header(data: bytes | bytearray | memoryview, at: int = 0) -> Header | None:
    """The header that begins at a position; ``None``: not all of it has arrived.

    :raises FrameError: it is none.
    """
    have = len(data) - at
    if have < 2:
        return None
    first, second = data[at], data[at + 1]
    opcode, final, masked, length = first & 15, first >= 128, second >= 128, second & 127
    if first & 0x70:
        raise FrameError(MALFORMED, "a reserved bit is set")
    if opcode not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG):
        raise FrameError(MALFORMED, "a frame of no known kind")
    if opcode >= CLOSE and (length > _CONTROL or not final):
        raise FrameError(MALFORMED, "a control frame is too long, or in pieces")
    size = 2
    if length == 126:
        size = 4
        if have < size:
            return None
        (length,) = struct.unpack_from("!H", data, at + 2)
        if length < 126:
            raise FrameError(MALFORMED, "a length is not written in the shortest way")
    elif length == 127:
        size = 10
        if have < size:
            return None
        (length,) = struct.unpack_from("!Q", data, at + 2)
        if not 65536 <= length < 1 << 63:
            raise FrameError(MALFORMED, "a length is not written in the shortest way")
    size += 4 if masked else 0
    return Header(size, final, opcode, masked, length) if have >= size else None


class MessageReader:
    """Takes a client's octets as they come and gives whole messages.

    :param limit: octets of the longest.
    """

    __slots__ = ("_data", "_limit", "_text", "closed")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._data = bytearray()
        self._text: bytearray | None = None
        self.closed = False
        """A close frame has come; what follows is not looked at."""

    @property
    def held(self) -> int:
        """Octets of messages that have not arrived whole."""
        return len(self._data) + len(self._text or b"")

    @property
    def between(self) -> bool:
        """Whether everything that came was a whole message."""
        return not self._data and self._text is None

    def feed(self, data: bytes) -> Iterator[Message]:
        """The messages that ``data`` completes, in their order; control frames come before a
        message in whose middle they were. To be used up before more is fed.

        :raises FrameError: this is not WebSocket, not a client's, too large, or not text.
        """
        self._data += data
        while not self.closed:
            header = read_header(self._data)
            if header is None:
                break
            self._check(header)
            end = header.size + header.length
            if len(self._data) < end:
                break
            mask = bytes(self._data[header.size - 4 : header.size])
            payload = masked(bytes(self._data[header.size : end]), mask)
            del self._data[:end]
            if header.opcode >= CLOSE:
                if header.opcode == CLOSE:
                    _check_close(payload)
                    self.closed = True
                    self._data.clear()
                yield Message(header.opcode, payload)
                continue
            text = bytearray() if self._text is None else self._text
            text += payload
            self._text = None if header.final else text
            if header.final:
                yield Message(TEXT, _utf8(bytes(text)))

    def _check(self, header: Header) -> None:
        """Before its payload has arrived."""
        if not header.masked:
            raise FrameError(MALFORMED, "a client's frame is not masked")
        if header.opcode >= CLOSE:
            return
        if header.opcode == BINARY:
            raise FrameError(UNSUPPORTED, "a rule looks into messages, and this one is binary")
        if (header.opcode == CONTINUATION) != (self._text is not None):
            raise FrameError(MALFORMED, "a message begins inside of another, or in its middle")
        if header.length + len(self._text or b"") > self._limit:
            raise FrameError(TOO_BIG, "a message is larger than a rule looks into")


def write_frame(opcode: int, data: bytes, *, mask: bool) -> bytes:
    """One frame for all of a message.

    :param mask: for a server.
    """
    length = len(data)
    second = 128 if mask else 0
    if length < 126:
        head = bytes((128 | opcode, second | length))
    elif length < 65536:
        head = struct.pack("!BBH", 128 | opcode, second | 126, length)
    else:
        head = struct.pack("!BBQ", 128 | opcode, second | 127, length)
    if not mask:
        return head + data
    key = os.urandom(4)
    return head + key + masked(data, key)


def write_close(code: int, reason: str, *, mask: bool) -> bytes:
    """A close frame. What does not fit of the reason is cut."""
    text = reason.encode()[: _CONTROL - 2].decode(errors="ignore")
    return write_frame(CLOSE, struct.pack("!H", code) + text.encode(), mask=mask)


def masked(data: bytes, key: bytes) -> bytes:
    """Each octet with one of the key's four, which is its own inverse."""
    size = len(data)
    keys = (key * (size // 4 + 1))[:size]
    mixed = int.from_bytes(data, "little") ^ int.from_bytes(keys, "little")
    return mixed.to_bytes(size, "little")


def _check_close(payload: bytes) -> None:
    if not payload:
        return
    if len(payload) < 2:
        raise FrameError(MALFORMED, "a close frame has half a code")
    (code,) = struct.unpack_from("!H", payload)
    if code not in _CODES and not 3000 <= code < 5000:
        raise FrameError(MALFORMED, "a close frame has a code that nobody may send")
    _utf8(payload[2:])


def _utf8(data: bytes) -> bytes:
    try:
        data.decode()
    except UnicodeDecodeError:
        raise FrameError(NOT_UTF8, "a text is not UTF-8") from None
    return data
