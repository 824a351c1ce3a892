"""The chunked coding (RFC 9112 section 7.1), read strictly. Extensions and trailers are dropped."""

from __future__ import annotations

from .head import HeadError

LAST = b"0\r\n\r\n"
_HEX = b"0123456789abcdefABCDEF"
_LINE = 4096
"""Octets of a chunk's line, and of all trailers together."""


class ChunkedReader:
    """Takes octets as they come and gives the body's."""

    __slots__ = ("_data", "_left", "_state", "_trailers", "done", "rest")

    def __init__(self) -> None:
        self._data = b""
        self._left = 0
        self._state = 0  # 0 size line, 1 data, 2 CRLF after data, 3 trailers
        self._trailers = 0
        self.done = False
        self.rest: bytes = b""
        """What follows the body, once it is done."""

    def feed(self, data: bytes) -> list[bytes]:
        """Pieces of the body that ``data`` holds.

        :raises HeadError: this is not the chunked coding.
        """
        if self._data:
            data = self._data + data
        pieces: list[bytes] = []
        at = 0
        size = len(data)
        while not self.done:
            if self._state == 1:
                if at >= size:
                    break
                piece = data[at : at + self._left]
                at += len(piece)
                self._left -= len(piece)
                pieces.append(piece)
                if self._left:
                    break
                self._state = 2
            elif self._state == 2:
                if size - at < 2:
                    break
                if data[at : at + 2] != b"\r\n":
                    raise HeadError("a chunk is longer than its size says")
                at += 2
                self._state = 0
            else:
                end = data.find(b"\n", at)
                if end < 0:
                    if size - at > _LINE:
                        raise HeadError("a line of the chunked coding is too long")
                    break
                line = data[at:end]
                at = end + 1
                self._line(line)
        self._data = data[at:] if not self.done else b""
        if self.done:
            self.rest = data[at:]
        return pieces

    def _line(self, line: bytes) -> None:
        if line[-1:] != b"\r" or b"\r" in line[:-1]:
            raise HeadError("a line of the chunked coding does not end with CRLF")
        line = line[:-1]
        if self._state == 3:
            self._trailers += len(line)
            if not line:
                self.done = True
            elif self._trailers > _LINE:
                raise HeadError("the trailers are too large")
            return
        if len(line) > _LINE:
            raise HeadError("a line of the chunked coding is too long")
        number, _, extension = line.partition(b";")
        if not number or number.translate(None, _HEX) or len(number) > 15:
            raise HeadError("a chunk's size is not a number")
        if extension.translate(None, _EXTENSION):
            raise HeadError("a control character in a chunk extension")
        self._left = int(number, 16)
        self._state = 1 if self._left else 3


_EXTENSION = b"\t" + bytes(range(0x20, 0x7F)) + bytes(range(0x80, 0x100))


def write_chunk(data: bytes) -> bytes:
    """One chunk. ``data`` is not empty: an empty chunk would be the last."""
    return b"%x\r\n%b\r\n" % (len(data), data)
