"""The hash chain: how a record is tied to the one before it, and where the chain's head is noted.

A line of the log is one JSON object whose last member is ``metadata``, whose last two members are
``sequence`` and ``tags``. The tag ``previous_blake2b_256`` is the digest of the complete line
before, newline included, so that ``sed -n 3p events.jsonl | b2sum -l 256`` computes what line 4
must say. The fixed end lets the writer find its place again without a JSON parser.
"""

from __future__ import annotations

import os
from _blake2 import blake2b

from .encoder import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

MAX_LINE = 32 * 1024
"""Bytes that a record may take, newline included."""
START = "0" * 64
"""What the first record says about the one before it."""
TAG = "previous_blake2b_256"
HEAD_SIZE = 20 + 1 + 64 + 1

_SEQUENCE = b'"sequence":'
_TAGS = f',"tags":[{{"name":"{TAG}","value":"'.encode()
_CLOSE = b'"}]}}\n'
_HEXADECIMAL = frozenset(b"0123456789abcdef")


def digest(line: bytes) -> str:
    """BLAKE2b-256 (RFC 7693) of a complete line, in hexadecimal."""
    return blake2b(line, digest_size=32).hexdigest()


class Draft:
    """A record as the text of its line, up to its place in the chain. See :func:`draft`."""

    __slots__ = ("text",)

    def __init__(self, text: bytes) -> None:
        self.text = text


def draft(record: Mapping[str, Any]) -> Draft:
    """The text of ``record``, whatever its place will be.

    :raises ValueError: it has no metadata, or has a place in a chain already.
    :raises TypeError: it holds a value that JSON does not know.
    """
    metadata: Mapping[str, Any] | None = record.get("metadata")
    if not metadata or "sequence" in metadata or "tags" in metadata:
        raise ValueError("an event needs metadata, and none that places it in a log")
    others = dict(record)
    del others["metadata"]
    body = encode(others)
    comma = "," if len(body) > 2 else ""
    return Draft(f'{body[:-1]}{comma}"metadata":{encode(metadata)[:-1]}'.encode())


def link(record: Mapping[str, Any] | Draft, sequence: int, previous: str) -> bytes:
    """The line of ``record`` as number ``sequence`` of a log, after a line of digest ``previous``.

    :raises ValueError: ``record`` has no metadata, has a place in a chain already, or takes more
        than :data:`MAX_LINE` bytes.
    :raises TypeError: ``record`` holds a value that JSON does not know.
    """
    text = record.text if isinstance(record, Draft) else draft(record).text
    line = b'%b,"sequence":%d%b%b%b' % (text, sequence, _TAGS, previous.encode(), _CLOSE)
    if len(line) > MAX_LINE:
        raise ValueError(f"an event of {len(line)} bytes; {MAX_LINE} are the limit")
    return line


def place(line: bytes) -> tuple[int, str] | None:
    """The sequence number and previous digest that a line states, or None if it states none."""
    if not line.endswith(_CLOSE):
        return None
    end = len(line) - len(_CLOSE)
    previous = line[end - 64 : end]
    tags = end - 64 - len(_TAGS)
    if line[max(tags, 0) : end - 64] != _TAGS or not _HEXADECIMAL.issuperset(previous):
        return None
    # A quotation mark within a JSON string is escaped, so this finds a key, never a value.
    start = line.rfind(_SEQUENCE, 0, tags)
    number = line[start + len(_SEQUENCE) : tags] if start >= 0 else b""
    if not number.isdigit() or len(number) > 20:
        return None
    return int(number), previous.decode()


def last_line(fd: int, size: int) -> tuple[bytes, int] | None:
    """The last complete line among the first ``size`` bytes, and the number of bytes after it.

    The line is empty if there is none. None: the end is not what an append leaves, whole or torn,
    because the line or what follows it is longer than a record may be.
    """
    begin = max(0, size - 2 * MAX_LINE)
    data = os.pread(fd, size - begin, begin)
    end = data.rfind(b"\n") + 1
    start = data.rfind(b"\n", 0, max(end - 1, 0)) + 1
    torn = len(data) - end
    if end - start > MAX_LINE or torn > MAX_LINE or (start == 0 and begin > 0):
        return None
    return data[start:end], torn


def parts(lines: list[bytes]) -> list[list[bytes]]:
    """``lines`` in groups of at most :data:`MAX_LINE` bytes: what is written before a head is."""
    if len(lines) == 1:
        return [lines]
    found: list[list[bytes]] = []
    room = 0
    for line in lines:
        room -= len(line)
        if not found or room < 0:
            found.append([])
            room = MAX_LINE - len(line)
        found[-1].append(line)
    return found


def find(fd: int, size: int, sequence: int) -> str:
    """The digest of a record before the last :func:`parts` of a log of ``size`` bytes.

    Empty if it stands further back, or is not there; :data:`START` for record 0.
    """
    begin = max(0, size - 2 * MAX_LINE)
    if sequence == 0 and begin == 0:
        return START
    for line in os.pread(fd, size - begin, begin).splitlines(keepends=True):
        found = place(line)
        if found is not None and found[0] == sequence:
            return digest(line)
    return ""


def head(sequence: int, line_digest: str) -> bytes:
    """The content of ``events.head``: the number and digest of the last record, fixed size."""
    return b"%020d %s\n" % (sequence, line_digest.encode())


def parse_head(data: bytes) -> tuple[int, str] | None:
    """Sequence number and digest out of ``events.head``, or None if it is not one."""
    number, _, rest = data.partition(b" ")
    value = rest[:-1]
    if len(data) != HEAD_SIZE or not number.isdigit() or rest[-1:] != b"\n":
        return None
    if len(value) != 64 or not _HEXADECIMAL.issuperset(value):
        return None
    return int(number), value.decode()
