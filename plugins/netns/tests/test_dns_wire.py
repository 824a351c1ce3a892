"""DNS messages: what is understood, what is refused, and with which code."""

from __future__ import annotations

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from nemoclaw_plugin_netns.dns.wire import (
    AAAA,
    FORMERR,
    NOERROR,
    NOTIMP,
    A,
    Edns,
    MessageError,
    Name,
    read_message,
    read_name,
    read_query,
    write_error,
    write_query,
    write_response,
)

QUESTION = b"\x07example\x03org\x00\x00\x01\x00\x01"


def header(flags: int = 0x0100, *counts: int) -> bytes:
    return struct.pack("!6H", 0xBEEF, flags, *(counts or (1,)), *[0] * (4 - len(counts or (1,))))


def opt(data: bytes = b"", size: int = 1232, ttl: int = 0) -> bytes:
    return b"\0" + struct.pack("!HHIH", 41, size, ttl, len(data)) + data


def test_a_query_is_read_to_the_letter() -> None:
    query = read_query(header() + b"\x07eXaMple\x03oRg\x00\x00\x1c\x00\x01")
    (question,) = query.questions
    assert query.id == 0xBEEF
    assert question.name.text == "example.org"
    assert question.name.labels == (b"eXaMple", b"oRg")
    assert (question.kind, question.klass) == (AAAA, 1)
    assert query.edns is None


def test_edns_is_read_with_its_options() -> None:
    data = header(0x0100, 1, 0, 0, 1) + QUESTION + opt(b"\0\x0a\0\x02hi\0\x0c\0\0", 4096, 0x8000)
    assert read_query(data).edns == Edns(4096, 0, True, ((10, b"hi"), (12, b"")))


MALFORMED: dict[str, tuple[bytes, int | None]] = {
    "empty": (b"", None),
    "shorter than a header": (header()[:11], None),
    "a response": (header(0x8100) + QUESTION, None),
    "a response that is malformed too": (header(0x8100, 9), None),
    "an update": (header(0x2800) + QUESTION, NOTIMP),
    "a notify": (header(0x2000) + QUESTION, NOTIMP),
    "no question": (header(0x0100, 0, 0, 0, 0), FORMERR),
    "two questions": (header(0x0100, 2) + QUESTION * 2, FORMERR),
    "a question that is missing": (header(), FORMERR),
    "a question cut in its name": (header() + QUESTION[:6], FORMERR),
    "a question cut after its name": (header() + QUESTION[:-2], FORMERR),
    "octets after the end": (header() + QUESTION + b"\0", FORMERR),
    "an answer": (
        header(0x0100, 1, 1) + QUESTION + b"\xc0\x0c\0\x01\0\x01" + bytes(4) + b"\0\x04" + bytes(4),
        FORMERR,
    ),
    "a pointer to itself": (header() + b"\xc0\x0c\0\x01\0\x01", FORMERR),
    "a pointer forward": (header() + b"\xc0\x0e\x01a\0\0\x01\0\x01", FORMERR),
    "a pointer into the header": (header() + b"\xc0\x02\0\x01\0\x01", FORMERR),
    "a pointer round and round": (header() + b"\x01a\xc0\x0c\0\x01\0\x01", FORMERR),
    "half a pointer": (header() + b"\xc0", FORMERR),
    "a label of type 01": (header() + b"\x41" + b"a" * 65 + b"\0\0\x01\0\x01", FORMERR),
    "a label of type 10": (header() + b"\x81" + b"a" * 65 + b"\0\0\x01\0\x01", FORMERR),
    "a name of 256 octets": (header() + (b"\x3f" + b"a" * 63) * 4 + b"\0\0\x01\0\x01", FORMERR),
    "more records than there is use for": (header(0x0100, 1, 0, 0, 1000) + QUESTION, FORMERR),
    "two OPT": (header(0x0100, 1, 0, 0, 2) + QUESTION + opt() * 2, FORMERR),
    "an OPT with a name": (header(0x0100, 1, 0, 0, 1) + QUESTION + b"\x01a" + opt(), FORMERR),
    "an OPT as authority": (header(0x0100, 1, 0, 1, 0) + QUESTION + opt(), FORMERR),
    "half an option": (header(0x0100, 1, 0, 0, 1) + QUESTION + opt(b"\0\x0a"), FORMERR),
    "an option too long": (header(0x0100, 1, 0, 0, 1) + QUESTION + opt(b"\0\x0a\0\x09a"), FORMERR),
    "a record too long": (
        header(0x0100, 1, 0, 0, 1) + QUESTION + b"\0\0\x10\0\x01" + bytes(4) + b"\0\x09a",
        FORMERR,
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_malformed_is_refused_with_the_right_code(name: str) -> None:
    data, rcode = MALFORMED[name]
    with pytest.raises(MessageError) as caught:
        read_query(data)
    assert caught.value.rcode == rcode


def test_a_name_of_255_octets_is_the_longest() -> None:
    longest = (b"\x3f" + b"a" * 63) * 3 + b"\x3d" + b"a" * 61 + b"\0"
    assert len(longest) == 255
    name, end = read_name(longest, 0)
    assert end == 255
    assert Name.of(name.text).encode() == longest


def test_pointers_that_lead_backwards_are_followed() -> None:
    data = bytes(12) + b"\x03org\0\x07example\xc0\x0c\x03api\xc0\x11"
    name, end = read_name(data, 27)
    assert name.text == "api.example.org"
    assert end == len(data)


def test_a_long_chain_of_pointers_ends() -> None:
    """Each pointer leads to the one before it: as many steps as a message can hold, and no more."""
    data = bytes(12) + b"\0" + b"".join(struct.pack("!H", 0xC000 | at) for at in
                                        [12, *range(13, 16383, 2)])  # fmt: skip
    assert read_name(data, 16383)[0].labels == ()


def test_a_dot_inside_a_label_is_not_a_dot_between_labels() -> None:
    name, _ = read_name(b"\x0eapi.github.com\0", 0)
    assert name.text == "api\\.github\\.com"
    assert not name.is_hostname


@pytest.mark.parametrize(
    "labels",
    [(b"a b",), (b"a\0b", b"org"), (b"caf\xc3\xa9",), (b"a\nb",), (b"*", b"example", b"org"), ()],
)
def test_what_is_no_host_name_is_known_as_such(labels: tuple[bytes, ...]) -> None:
    name = Name(labels)
    assert not name.is_hostname
    assert name.text.isascii()
    assert name.text.isprintable()


@pytest.mark.parametrize("text", ["a..b", ".a", "a" * 64, "é.org", ".".join(["a" * 63] * 4)])
def test_a_name_that_cannot_be_written_is_refused(text: str) -> None:
    with pytest.raises(MessageError):
        Name.of(text)


def test_an_answer_repeats_the_question_to_the_letter() -> None:
    asked = read_query(write_query(7, Name.of("eXaMpLe.OrG"), A, Edns(4096, dnssec_ok=True)))
    data = write_response(
        asked, NOERROR, ((A, 60, b"\xc6\x12\0\1"),), edns=Edns(1232, dnssec_ok=True)
    )
    answer = read_message(data)
    assert answer.is_response
    assert (answer.id, answer.rcode, answer.truncated) == (7, NOERROR, False)
    assert answer.flags == 0x8180  # a response; recursion was desired, and is available
    assert answer.questions == asked.questions
    (record,) = answer.answers
    assert record.name.labels == (b"eXaMpLe", b"OrG")
    assert (record.kind, record.ttl, record.data) == (A, 60, b"\xc6\x12\0\1")
    assert answer.edns == Edns(1232, dnssec_ok=True)


def test_what_does_not_fit_is_left_out_and_tc_says_so() -> None:
    asked = read_query(write_query(7, Name.of("example.org"), A))
    records = tuple((A, 60, bytes(4)) for _ in range(40))
    small = read_message(write_response(asked, NOERROR, records, limit=512))
    assert small.truncated
    assert small.answers == ()
    large = read_message(write_response(asked, NOERROR, records, limit=65535))
    assert not large.truncated
    assert len(large.answers) == 40


def test_extended_codes_travel_in_the_opt_record() -> None:
    asked = read_query(write_query(7, Name.of("example.org"), A, Edns(512, version=1)))
    assert read_message(write_response(asked, 16, edns=Edns(1232))).rcode == 16


def test_an_error_is_a_header_alone() -> None:
    answer = read_message(write_error(header(0x2900) + b"garbage", NOTIMP))
    assert (answer.id, answer.rcode, answer.opcode, answer.questions) == (0xBEEF, NOTIMP, 5, ())


@given(st.binary(max_size=600))
@example(header() + QUESTION)
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        message = read_query(data)
        answer = write_response(message, NOERROR, edns=message.edns)
    except MessageError as error:
        if error.rcode is None:
            return
        answer = write_error(data, error.rcode)
    assert read_message(answer).is_response


LABEL = st.binary(min_size=1, max_size=63)


@given(st.lists(LABEL, max_size=8), st.integers(0, 65535), st.booleans())
def test_a_query_that_is_written_is_read_back(
    labels: list[bytes], kind: int, with_edns: bool
) -> None:
    name = Name(tuple(labels))
    edns = Edns(1232, options=((10, b"12345678"),)) if with_edns else None
    data = write_query(1, name, kind, edns)
    if len(name.encode()) > 255:
        with pytest.raises(MessageError):
            read_query(data)
        return
    query = read_query(data)
    assert query.questions[0].name == name
    assert query.questions[0].kind == kind
    assert query.edns == edns
