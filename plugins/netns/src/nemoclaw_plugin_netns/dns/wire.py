"""DNS messages to and from bytes (RFC 1035, EDNS of RFC 6891). No socket, no clock, no state.

Strict: a message is understood to its last byte, or refused. Every loop is bounded by the length of
the message, and a compression pointer may only lead backwards, so none can be followed twice.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = range(6)
BADVERS = 16
"""An extended code: its upper bits travel in the OPT record (RFC 6891, 6.1.3)."""

A, NS, CNAME, SOA, PTR, TXT, AAAA, OPT = 1, 2, 5, 6, 12, 16, 28, 41
SVCB, HTTPS, ANY = 64, 65, 255
IN, ANY_CLASS = 1, 255

MAX_MESSAGE = 65535
MAX_NAME = 255
"""Octets of a name on the wire, its lengths and its root included (RFC 1035, 2.3.4)."""
MAX_RECORDS = 128
"""More records than any message that we have a use for."""

_HEADER = struct.Struct("!6H")
_FIXED = struct.Struct("!HHIH")  # of a record, after its name: type, class, TTL, length
_PAIR = struct.Struct("!HH")


class MessageError(ValueError):
    """Bytes that are no DNS message, or none that may be answered.

    ``rcode`` is what the sender should be told. ``None``: nothing, because an answer would go to
    somebody who did not ask, or could start a loop between two servers.
    """

    def __init__(self, reason: str, rcode: int | None = FORMERR) -> None:
        super().__init__(reason)
        self.rcode = rcode


class Name(NamedTuple):
    """A domain name as it was sent: its labels, letter case kept, the root left out."""

    labels: tuple[bytes, ...]

    @property
    def text(self) -> str:
        """In lower case, without the final dot, escaped as RFC 1035 5.1 says where it must be.

        The escape tells a dot inside a label from a dot between labels: ``a\\.b`` is one label.
        """
        return ".".join(_escape(label) for label in self.labels).lower()

    @property
    def is_hostname(self) -> bool:
        """Letters, digits, hyphens and underscores only, in at least one label."""
        return bool(self.labels) and not any(set(label) - _HOST for label in self.labels)

    @classmethod
    def of(cls, text: str) -> Name:
        """A host name that is known to be one, from its usual spelling.

        :raises MessageError: it is not ASCII, has an empty or long label, or is too long.
        """
        stripped = text[:-1] if text.endswith(".") else text
        try:
            labels = tuple(stripped.encode("ascii").split(b".")) if stripped else ()
        except UnicodeEncodeError:
            raise MessageError("a name that is not ASCII") from None
        if any(not 0 < len(label) < 64 for label in labels):
            raise MessageError("a label that is empty or longer than 63 octets")
        name = cls(labels)
        if len(name.encode()) > MAX_NAME:
            raise MessageError("a name longer than 255 octets")
        return name

    def encode(self) -> bytes:
        """On the wire, uncompressed."""
        return b"".join(bytes((len(label),)) + label for label in self.labels) + b"\0"


_HOST = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")


def _escape(label: bytes) -> str:
    out = []
    for octet in label:
        if octet in b'.\\"();@$':
            out.append("\\" + chr(octet))
        elif 0x20 < octet < 0x7F:
            out.append(chr(octet))
        else:
            out.append(f"\\{octet:03d}")
    return "".join(out)


class Question(NamedTuple):
    """What is asked, and the octets that asked it: an answer repeats them to the letter."""

    name: Name
    kind: int
    klass: int
    wire: bytes


class Record(NamedTuple):
    """A resource record. ``data`` is as sent; ``start`` is where it begins in the message."""

    name: Name
    kind: int
    klass: int
    ttl: int
    data: bytes
    start: int = 0


class Edns(NamedTuple):
    """The OPT record of a message (RFC 6891)."""

    size: int
    """Octets of UDP payload that the sender can take in."""
    version: int = 0
    dnssec_ok: bool = False
    options: tuple[tuple[int, bytes], ...] = ()
    extended: int = 0
    """Upper eight bits of the response code."""


class Message(NamedTuple):
    """A whole message, either way."""

    id: int
    flags: int
    questions: tuple[Question, ...]
    answers: tuple[Record, ...] = ()
    authority: tuple[Record, ...] = ()
    additional: tuple[Record, ...] = ()
    edns: Edns | None = None

    @property
    def is_response(self) -> bool:
        return bool(self.flags & 0x8000)

    @property
    def opcode(self) -> int:
        return self.flags >> 11 & 15

    @property
    def truncated(self) -> bool:
        return bool(self.flags & 0x0200)

    @property
    def rcode(self) -> int:
        return (self.flags & 15) | (self.edns.extended << 4 if self.edns else 0)


def read_name(data: bytes, offset: int) -> tuple[Name, int]:
    """A name that begins at an offset, and the offset after it.

    :raises MessageError: it leaves the message, points forward or at itself, or is too long.
    """
    labels: list[bytes] = []
    size, end, floor = 1, -1, offset
    while True:
        if offset >= len(data):
            raise MessageError("a name that leaves the message")
        length = data[offset]
        if length >= 0xC0:
            if offset + 1 >= len(data):
                raise MessageError("a pointer that leaves the message")
            target = (length & 0x3F) << 8 | data[offset + 1]
            if end < 0:
                end = offset + 2
            # Strictly backwards from where this run of labels began: it cannot go round.
            if target >= floor or target < _HEADER.size:
                raise MessageError("a pointer that does not lead backwards to a name")
            offset = floor = target
        elif length >= 0x40:
            raise MessageError("a label of an unknown kind")
        elif length == 0:
            return Name(tuple(labels)), (end if end >= 0 else offset + 1)
        else:
            size += length + 1
            if size > MAX_NAME:
                raise MessageError("a name longer than 255 octets")
            label = data[offset + 1 : offset + 1 + length]
            if len(label) != length:
                raise MessageError("a label that leaves the message")
            labels.append(label)
            offset += length + 1


def read_message(data: bytes) -> Message:
    """A message, checked to its last octet.

    :raises MessageError: with the response code to send, if any.
    """
    if len(data) < _HEADER.size:
        raise MessageError("shorter than a header", None)
    if len(data) > MAX_MESSAGE:
        raise MessageError("longer than a message can be", None)
    ident, flags, *counts = _HEADER.unpack_from(data)
    if sum(counts) > MAX_RECORDS:
        raise MessageError("too many records")
    offset = _HEADER.size
    questions = []
    for _ in range(counts[0]):
        start = offset
        name, offset = read_name(data, offset)
        if offset + 4 > len(data):
            raise MessageError("a question that leaves the message")
        kind, klass = _PAIR.unpack_from(data, offset)
        offset += 4
        questions.append(Question(name, kind, klass, data[start:offset]))
    sections: list[tuple[Record, ...]] = []
    for count in counts[1:]:
        records = []
        for _ in range(count):
            record, offset = _read_record(data, offset)
            records.append(record)
        sections.append(tuple(records))
    if offset != len(data):
        raise MessageError("octets after the last record")
    answers, authority, additional = sections
    if any(record.kind == OPT for record in answers + authority):
        raise MessageError("an OPT record outside the additional section")
    options = [record for record in additional if record.kind == OPT]
    if len(options) > 1:
        raise MessageError("more than one OPT record")
    edns = _read_edns(options[0]) if options else None
    rest = tuple(record for record in additional if record.kind != OPT)
    return Message(ident, flags, tuple(questions), answers, authority, rest, edns)


def _read_record(data: bytes, offset: int) -> tuple[Record, int]:
    name, offset = read_name(data, offset)
    if offset + _FIXED.size > len(data):
        raise MessageError("a record that leaves the message")
    kind, klass, ttl, length = _FIXED.unpack_from(data, offset)
    start = offset + _FIXED.size
    end = start + length
    if end > len(data):
        raise MessageError("the data of a record leaves the message")
    return Record(name, kind, klass, ttl, data[start:end], start), end


def _read_edns(record: Record) -> Edns:
    if record.name.labels:
        raise MessageError("an OPT record that is not the root's")
    options = []
    offset, data = 0, record.data
    while offset < len(data):
        if offset + 4 > len(data):
            raise MessageError("an option that leaves its record")
        code, length = _PAIR.unpack_from(data, offset)
        value = data[offset + 4 : offset + 4 + length]
        if len(value) != length:
            raise MessageError("the data of an option leaves its record")
        options.append((code, value))
        offset += 4 + length
    return Edns(
        size=record.klass,
        version=record.ttl >> 16 & 0xFF,
        dnssec_ok=bool(record.ttl & 0x8000),
        options=tuple(options),
        extended=record.ttl >> 24,
    )


def read_query(data: bytes) -> Message:
    """A question from a client: one, of opcode QUERY, with nothing answered yet.

    :raises MessageError: with the response code to send, if any. A response is never answered.
    """
    if len(data) >= _HEADER.size:
        flags, count = struct.unpack_from("!HH", data, 2)
        if flags & 0x8000:
            raise MessageError("a response where a query was due", None)
        if flags >> 11 & 15:
            # Other opcodes give the sections other meanings: they are not looked into.
            raise MessageError("an opcode other than QUERY", NOTIMP)
        if count != 1:
            raise MessageError("not exactly one question (RFC 9619)")
    message = read_message(data)
    if message.answers or message.authority:
        raise MessageError("a query that brings answers")
    return message


def write_query(ident: int, name: Name, kind: int, edns: Edns | None = None) -> bytes:
    """A recursive query of class IN."""
    question = name.encode() + _PAIR.pack(kind, IN)
    tail = _write_edns(edns) if edns else b""
    return _HEADER.pack(ident, 0x0100, 1, 0, 0, 1 if edns else 0) + question + tail


def write_response(
    query: Message,
    rcode: int,
    answers: tuple[tuple[int, int, bytes], ...] = (),
    *,
    edns: Edns | None = None,
    limit: int = 512,
) -> bytes:
    """The answer to a query: its question to the letter, then records of the same name.

    :param answers: type, TTL in seconds and data of each. Their name is a pointer to the
        question's, so letter case that a client randomised (draft-vixie-dnsext-dns0x20) comes back.
    :param edns: the OPT record to send. A query without one must get none.
    :param limit: octets. What does not fit is left out, and TC tells the client to ask over TCP.
    """
    question = query.questions[0]
    tail = _write_edns(edns._replace(extended=rcode >> 4)) if edns else b""
    records = [
        b"\xc0\x0c" + _FIXED.pack(kind, question.klass if question.klass != ANY_CLASS else IN, ttl,
                                  len(data)) + data
        for kind, ttl, data in answers
    ]  # fmt: skip
    flags = 0x8080 | (query.flags & 0x0110) | (rcode & 15)  # QR and RA; RD and CD as they came
    size = _HEADER.size + len(question.wire) + len(tail)
    if size + sum(map(len, records)) > limit:
        flags |= 0x0200
        records = []
    head = _HEADER.pack(query.id, flags, 1, len(records), 0, 1 if tail else 0)
    return b"".join((head, question.wire, *records, tail))


def write_error(data: bytes, rcode: int) -> bytes:
    """The answer to bytes that have a header and could not be read further: a header alone."""
    ident, flags = _PAIR.unpack_from(data)
    return _HEADER.pack(ident, 0x8080 | (flags & 0x7900) | (rcode & 15), 0, 0, 0, 0)


def _write_edns(edns: Edns) -> bytes:
    options = b"".join(_PAIR.pack(code, len(value)) + value for code, value in edns.options)
    ttl = edns.extended << 24 | edns.version << 16 | (0x8000 if edns.dnssec_ok else 0)
    return b"\0" + _FIXED.pack(OPT, edns.size, ttl, len(options)) + options
