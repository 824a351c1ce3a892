"""How a record is tied to the one before it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemoclaw_core.events import chain

if TYPE_CHECKING:
    from .conftest import Shelf

DIGESTS = st.binary(min_size=32, max_size=32).map(bytes.hex)


def test_each_record_carries_the_digest_of_the_line_before(shelf: Shelf) -> None:
    shelf.fill(4)
    previous = "0" * 64
    for number, line in enumerate(shelf.lines(), 1):
        metadata = json.loads(line)["metadata"]
        assert metadata["sequence"] == number
        assert metadata["tags"] == [{"name": "previous_blake2b_256", "value": previous}]
        previous = hashlib.blake2b(line + b"\n", digest_size=32).hexdigest()
    assert shelf.head.read_text() == f"{4:020d} {previous}\n"


@pytest.mark.skipif(shutil.which("b2sum") is None, reason="needs b2sum of GNU coreutils")
def test_a_person_can_check_it_with_b2sum(shelf: Shelf) -> None:
    shelf.fill(3)
    command = f"sed -n 2p {shelf.log} | b2sum -l 256"
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, check=True, timeout=30
    )
    stated = shelf.records()[2]["metadata"]["tags"][0]["value"]
    assert done.stdout.split()[0] == stated


@given(
    st.dictionaries(st.text(), st.text(), max_size=4),
    st.integers(min_value=0, max_value=10**19),
    DIGESTS,
)
def test_a_line_tells_its_place(extra: dict[str, str], sequence: int, previous: str) -> None:
    record: dict[str, Any] = {**extra, "metadata": {"version": "1.8.0", **extra}}
    record["metadata"].pop("sequence", None)
    record["metadata"].pop("tags", None)
    line = chain.link(record, sequence, previous)
    assert chain.place(line) == (sequence, previous)
    assert json.loads(line)["metadata"]["sequence"] == sequence


@given(st.binary(max_size=300))
def test_what_is_no_record_has_no_place(data: bytes) -> None:
    assert chain.place(data) is None


def test_a_text_that_looks_like_a_place_is_none(shelf: Shelf) -> None:
    imitation = '","sequence":9,"tags":[{"name":"previous_blake2b_256","value":"' + "f" * 64
    record = shelf.launch(imitation)
    assert chain.place(chain.link(record, 3, "a" * 64)) == (3, "a" * 64)


def test_a_record_that_has_a_place_already_is_refused(shelf: Shelf) -> None:
    record = shelf.launch()
    record["metadata"]["sequence"] = 1
    with pytest.raises(ValueError, match="places it in a log"):
        chain.link(record, 1, chain.START)


def test_a_record_that_is_too_long_is_refused(shelf: Shelf) -> None:
    record = shelf.launch() | {"unmapped": {"text": "x" * chain.MAX_LINE}}
    with pytest.raises(ValueError, match="limit"):
        chain.link(record, 1, chain.START)


@given(st.integers(min_value=0, max_value=10**19), DIGESTS)
def test_a_head_is_read_back(sequence: int, digest: str) -> None:
    head = chain.head(sequence, digest)
    assert len(head) == chain.HEAD_SIZE
    assert chain.parse_head(head) == (sequence, digest)


@given(st.binary(max_size=100))
def test_what_is_no_head_is_none(data: bytes) -> None:
    assert chain.parse_head(data) is None


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", (b"", 0)),
        (b"a\n", (b"a\n", 0)),
        (b"a\nbc\n", (b"bc\n", 0)),
        (b"a\nbc\nto", (b"bc\n", 2)),
        (b"to", (b"", 2)),
        (b"\n", (b"\n", 0)),
        (b"\n\n", (b"\n", 0)),
        (b"x" * 90_000 + b"\n" + b"a\n", (b"a\n", 0)),
        (b"a\n" + b"x" * chain.MAX_LINE, (b"a\n", chain.MAX_LINE)),
        (b"a\n" + b"x" * (chain.MAX_LINE + 1), None),
        (b"x" * 200_000, None),
        (b"a\n" + b"x" * 40_000 + b"\n", None),
    ],
)
def test_the_last_line_is_found(
    tmp_path: Path, content: bytes, expected: tuple[bytes, int] | None
) -> None:
    file = tmp_path / "log"
    file.write_bytes(content)
    descriptor = os.open(file, os.O_RDONLY)
    try:
        assert chain.last_line(descriptor, len(content)) == expected
    finally:
        os.close(descriptor)
