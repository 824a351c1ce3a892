"""What may reach the HTTP/2 state machine: frames of the kinds in use, and not too many (RFC 9113).

A few octets of a frame can make their receiver remember or answer something. Whoever sends them
without end (pings, settings, resets, empty frames, one header block in thousands of pieces) makes
it work and grow, at no cost. So frames are counted here by their nine octets of header before
anything is made of them: what real traffic needs is covered by the traffic itself, the rest by a
small budget. Frames that mean nothing to us (priorities, extensions) end here.
"""

from __future__ import annotations

from typing import NamedTuple

from h2.exceptions import (
    DenialOfServiceError,
    FlowControlError,
    FrameTooLargeError,
    InvalidBodyLengthError,
    ProtocolError,
    StreamClosedError,
    TooManyStreamsError,
)

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE = range(9)
CONTINUATION = 9
MAX_FRAME = 16384
"""Octets of a frame's payload; the value that every peer must be able to keep to."""

NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR = range(4)
FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL = 6, 7, 8
ENHANCE_YOUR_CALM, HTTP_1_1_REQUIRED = 11, 13

_PREFACE = 24
_HEAD = 9
_END_STREAM, _END_HEADERS = 1, 4
_DROPPED = frozenset((PRIORITY, GOAWAY))
_BUDGET = 1000
_PER_SECOND = 100
_RESETS = 200
_RESETS_PER_SECOND = 20
_SETTINGS = 100
_SETTINGS_OCTETS = 240
_SLICE = 32
"""Header blocks that are worked on before others get their turn."""

_FAULTS: tuple[tuple[type[ProtocolError], str], ...] = (
    (DenialOfServiceError, "the header fields are too large"),
    (FrameTooLargeError, "a frame is too large"),
    (TooManyStreamsError, "too many streams at once"),
    (InvalidBodyLengthError, "a body is not as long as its Content-Length says"),
    (StreamClosedError, "a frame on a stream that has ended"),
    (FlowControlError, "more was sent than may be"),
)


class Violation(Exception):
    """A peer breaks the protocol, or wears us out: its connection ends.

    :param reason: for people, and for the event. Holds nothing of what was sent.
    :param code: for GOAWAY.
    """

    def __init__(self, reason: str, code: int = PROTOCOL_ERROR) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code


class Goodbye(NamedTuple):
    """A GOAWAY frame (RFC 9113 section 6.8): no more streams, and which were looked at."""

    last_stream: int
    code: int


class FrameGuard:
    """One direction of one connection, in pieces of any size.

    :param server: the peer is a client, which begins with the preface.
    :param header_bytes: of a header block as it is sent, over all of its frames.
    :param now: seconds of a clock, see :meth:`feed`.
    """

    __slots__ = (
        "_block",
        "_budget",
        "_collected",
        "_drop",
        "_head",
        "_header_bytes",
        "_kind",
        "_left",
        "_now",
        "_preface",
        "_resets",
        "_settings",
        "goodbye",
        "in_block",
    )

    def __init__(self, *, server: bool, header_bytes: int, now: int = 0) -> None:
        self.in_block = 0
        """The stream whose header block has begun and not ended; 0: none."""
        self.goodbye: Goodbye | None = None
        """The last one that was received."""
        self._preface = _PREFACE if server else 0
        self._header_bytes = header_bytes
        self._now = now
        self._head = b""
        self._left = 0
        self._kind = -1
        self._drop = False
        self._block = 0
        self._collected = b""
        self._budget = _BUDGET
        self._resets = _RESETS
        self._settings = _SETTINGS

    def earn(self, frames: int) -> None:
        """Real traffic: it takes control frames to keep it up."""
        self._budget = min(_BUDGET, self._budget + frames)

    def answered(self) -> None:
        """A stream has come to its end: another one may be given up."""
        self._resets = min(_RESETS, self._resets + 1)

    def abandoned(self) -> None:
        """The peer has given a stream up.

        :raises Violation: it does so all the time (CVE-2023-44487).
        """
        self._resets -= 1
        if self._resets < 0:
            raise Violation("too many streams are begun and given up", ENHANCE_YOUR_CALM)

    def fault(self) -> None:
        """A stream was malformed.

        :raises Violation: one too many.
        """
        self._spend(20)

    def feed(self, data: bytes, now: int) -> list[bytes]:
        """Octets as they arrive; what the state machine is to see of them, in slices.

        :raises Violation: what was sent may not be, or is too much.
        """
        if now != self._now:
            passed = now - self._now
            self._now = now
            self._budget = min(_BUDGET, self._budget + passed * _PER_SECOND)
            self._resets = min(_RESETS, self._resets + passed * _RESETS_PER_SECOND)
        kept: list[bytes] = []
        start = at = 0
        size = len(data)
        blocks = 0
        if self._preface:
            at = min(self._preface, size)
            self._preface -= at
        while at < size:
            if self._left:
                count = min(self._left, size - at)
                if self._drop:
                    if self._kind == GOAWAY:
                        self._collected += data[at : at + min(count, 8 - len(self._collected))]
                    start = at + count
                at += count
                self._left -= count
                if not self._left and self._drop:
                    self._end_dropped()
                continue
            if self._head or size - at < _HEAD:  # its header is in pieces: kept until it is whole
                if start < at:
                    kept.append(data[start:at])
                count = min(_HEAD - len(self._head), size - at)
                self._head += data[at : at + count]
                start = at = at + count
                if len(self._head) < _HEAD:
                    break
                head, self._head = self._head, b""
                self._begin(head)
                if not self._drop:
                    kept.append(head)
                continue
            self._begin(data[at : at + _HEAD])
            if self._drop:
                if start < at:
                    kept.append(data[start:at])
                start = at + _HEAD
            elif self._kind == HEADERS:
                blocks += 1
                if blocks == _SLICE:
                    blocks = 0
                    if start < at:
                        kept.append(data[start:at])
                    start = at
            at += _HEAD
        if start == 0 and not kept:
            return [data]
        if start < size:
            kept.append(data[start:])
        return kept

    def _begin(self, head: bytes) -> None:
        """A frame's header: length, type, flags, stream (RFC 9113 section 4.1)."""
        length = head[0] << 16 | head[1] << 8 | head[2]
        kind = head[3]
        flags = head[4]
        stream = int.from_bytes(head[5:9], "big") & 0x7FFFFFFF
        if length > MAX_FRAME:
            raise Violation("a frame is too large", FRAME_SIZE_ERROR)
        if self.in_block and (kind != CONTINUATION or stream != self.in_block):
            raise Violation("a header block is interrupted")
        self._kind = kind
        self._left = length
        self._drop = kind > CONTINUATION or kind in _DROPPED
        if kind == DATA:
            if length:
                self.earn(2)
            elif not flags & _END_STREAM:
                self._spend(1)
        elif kind in (HEADERS, CONTINUATION):
            self._begin_block(kind, length, stream, bool(flags & _END_HEADERS))
        elif kind == SETTINGS:
            self._spend(1)
            if not flags & 1:  # of those that are no acknowledgement, peers send a handful
                self._settings -= 1
            if self._settings < 0 or length > _SETTINGS_OCTETS:
                raise Violation("too many settings", ENHANCE_YOUR_CALM)
        elif kind == PUSH_PROMISE:
            raise Violation("a push that was not asked for")
        else:
            self._spend(1)
            if kind == GOAWAY and (length < 8 or stream):
                raise Violation("malformed GOAWAY", FRAME_SIZE_ERROR)

    def _begin_block(self, kind: int, length: int, stream: int, whole: bool) -> None:
        if kind == HEADERS:
            self.earn(4)
            self._block = 0
        else:
            if not self.in_block:
                raise Violation("a header block continues that has not begun")
            self._spend(1)
        self._block += length
        if self._block > self._header_bytes:
            raise Violation("the header fields are too large", ENHANCE_YOUR_CALM)
        self.in_block = 0 if whole else stream

    def _end_dropped(self) -> None:
        if self._kind == GOAWAY:
            last = int.from_bytes(self._collected[:4], "big") & 0x7FFFFFFF
            self.goodbye = Goodbye(last, int.from_bytes(self._collected[4:8], "big"))
            self._collected = b""

    def _spend(self, frames: int) -> None:
        self._budget -= frames
        if self._budget < 0:
            raise Violation("too many control frames", ENHANCE_YOUR_CALM)


def explain(error: ProtocolError) -> str:
    """In words that quote nothing: h2's own hold names and values of fields."""
    for kind, reason in _FAULTS:
        if isinstance(error, kind):
            return reason
    return "malformed HTTP/2"
