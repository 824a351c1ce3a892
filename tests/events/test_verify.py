"""What is found out about a log that somebody tampered with."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nemoclaw_hookspecs.errors import EventLogError

from nemoclaw_core.events import chain, locks
from nemoclaw_core.events.verify import VerifyResult, examine, verify

if TYPE_CHECKING:
    from .conftest import Shelf


def check(shelf: Shelf) -> VerifyResult:
    return verify(str(shelf.log))


def kinds(shelf: Shelf) -> list[tuple[str, int]]:
    return [(problem.kind, problem.line) for problem in check(shelf).problems]


@pytest.fixture
def full(shelf: Shelf) -> Shelf:
    """A log of six records."""
    shelf.fill(6)
    return shelf


def test_a_log_as_it_was_written_is_whole(full: Shelf) -> None:
    result = check(full)
    assert result.ok
    assert (result.records, result.problems, result.notes) == (6, (), ())
    assert result.digest == chain.digest(full.lines()[-1] + b"\n")


def test_an_empty_log_is_whole(shelf: Shelf) -> None:
    shelf.fill(0)
    assert check(shelf).ok
    assert check(shelf).digest == chain.START


def test_a_log_in_use_is_whole(full: Shelf) -> None:
    log = full.open()
    log.append(full.launch())
    assert check(full).records == 7
    assert check(full).ok


@pytest.mark.parametrize("line", range(5))
def test_a_changed_record_is_found(full: Shelf, line: int) -> None:
    lines = full.lines()
    lines[line] = lines[line].replace(b"/usr/bin/program", b"/usr/bin/Program")
    full.write(lines)
    # What shows it is the digest in the next record.
    assert kinds(full) == [("changed", line + 2)]


def test_a_changed_last_record_is_found(full: Shelf) -> None:
    lines = full.lines()
    lines[5] = lines[5].replace(b"/usr/bin/program", b"/usr/bin/Program")
    full.write(lines)
    assert kinds(full) == [("changed", 6)]
    assert "the last one, was changed" in str(check(full).problems[0])


def test_a_changed_digest_is_found(full: Shelf) -> None:
    lines = full.lines()
    lines[2] = lines[2].replace(chain.digest(lines[1] + b"\n").encode(), b"f" * 64)
    full.write(lines)
    assert kinds(full) == [("changed", 3), ("changed", 4)]


def test_a_first_record_that_was_not_the_first_is_found(full: Shelf) -> None:
    lines = full.lines()
    lines[0] = lines[0].replace(b"0" * 64, b"f" * 64)
    full.write(lines)
    assert kinds(full)[0] == ("changed", 1)


@pytest.mark.parametrize("line", range(5))
def test_a_deleted_record_is_found(full: Shelf, line: int) -> None:
    lines = full.lines()
    del lines[line]
    full.write(lines)
    assert kinds(full) == [("missing", line + 1)]
    assert f"record {line + 1} is missing" in str(check(full).problems[0])


def test_deleted_records_are_named(full: Shelf) -> None:
    lines = full.lines()
    full.write([lines[0], *lines[4:]])
    assert "records 2 to 4 are missing" in str(check(full).problems[0])


@pytest.mark.parametrize("kept", range(6))
def test_records_cut_off_the_end_are_found(full: Shelf, kept: int) -> None:
    full.write(full.lines()[:kept])
    assert kinds(full) == [("missing", kept + 1)]
    assert "at the end" in str(check(full).problems[0])


def test_a_cut_in_the_middle_of_a_record_is_found(full: Shelf) -> None:
    full.log.write_bytes(full.log.read_bytes()[:-10])
    assert kinds(full) == [("missing", 6)]


@pytest.mark.parametrize("line", range(5))
def test_swapped_records_are_found(full: Shelf, line: int) -> None:
    lines = full.lines()
    lines[line], lines[line + 1] = lines[line + 1], lines[line]
    full.write(lines)
    assert "moved" in [kind for kind, _ in kinds(full)]


def test_a_repeated_record_is_found(full: Shelf) -> None:
    lines = full.lines()
    full.write([*lines[:3], lines[2], *lines[3:]])
    assert kinds(full) == [("repeated", 4)]


def test_a_foreign_line_is_found(full: Shelf) -> None:
    lines = full.lines()
    full.write([*lines[:3], b'{"message":"all is well"}', *lines[3:]])
    assert kinds(full) == [("foreign", 4)]


@pytest.mark.parametrize("text", [b"", b"\r", b"\x00" * 10, b"[" * 100_000, b"\xff\xfe", b"null"])
def test_a_line_that_is_no_json_is_foreign(full: Shelf, text: bytes) -> None:
    full.write([*full.lines(), text])
    assert kinds(full) == [("foreign", 7)]


def test_a_record_that_was_made_up_is_found(full: Shelf) -> None:
    lines = full.lines()
    made = chain.link(full.launch("/bin/innocent"), 4, chain.digest(lines[2] + b"\n"))
    full.write([*lines[:3], made[:-1], *lines[4:]])
    assert kinds(full) == [("changed", 5)]


def test_records_added_at_the_end_are_told(full: Shelf) -> None:
    lines = full.lines()
    for number in (7, 8):
        previous = chain.digest(lines[-1] + b"\n")
        lines.append(chain.link(full.launch("/bin/innocent"), number, previous)[:-1])
    full.write(lines)
    # It cannot be told from a crash.
    assert check(full).ok
    assert "records 7 to 8 are not noted" in check(full).notes[0]


@pytest.mark.parametrize("content", [b"", b"nonsense"])
def test_a_missing_note_of_the_end_is_found(full: Shelf, content: bytes) -> None:
    full.head.write_bytes(content)
    assert kinds(full) == [("headless", 7)]
    full.head.unlink()
    assert kinds(full) == [("headless", 7)]


def test_an_old_note_of_the_end_is_found(shelf: Shelf) -> None:
    shelf.fill(3)
    head = shelf.head.read_bytes()
    shelf.fill(80)
    shelf.head.write_bytes(head)
    assert kinds(shelf) == [("headless", 84)]


def test_the_moment_between_a_record_and_its_note_is_no_problem(shelf: Shelf) -> None:
    shelf.fill(3)
    head = shelf.head.read_bytes()
    shelf.fill(1)
    shelf.head.write_bytes(head)
    result = check(shelf)
    assert result.ok
    assert "record 4 is not noted in events.head: a writer was killed" in result.notes[0]


def test_an_unfinished_record_is_no_problem(full: Shelf) -> None:
    with full.log.open("ab") as file:
        file.write(b'{"time":1')
    result = check(full)
    assert result.ok
    assert "9 bytes of a record that was not finished" in result.notes[0]


def test_an_end_that_is_no_record_is_found(full: Shelf) -> None:
    with full.log.open("ab") as file:
        file.write(b"x" * (chain.MAX_LINE + 1))
    assert kinds(full) == [("foreign", 7)]


def test_what_the_next_writer_found_stays_a_problem(full: Shelf) -> None:
    full.write(full.lines()[:4])
    full.fill(2)
    assert kinds(full) == [("reported", 5)]
    assert "it ends at record 4, and 6 were written" in str(check(full).problems[0])


def test_a_foreign_line_that_a_writer_went_on_from_is_told_once(full: Shelf) -> None:
    full.write([*full.lines(), b"hello"])
    full.fill(2)
    assert kinds(full) == [("foreign", 7), ("reported", 8)]


def test_a_fifo_in_place_of_the_log_does_not_hang(full: Shelf) -> None:
    full.log.unlink()
    os.mkfifo(full.log)
    with pytest.raises(EventLogError, match="regular file"):
        check(full)


def test_rewriting_everything_is_not_found(full: Shelf) -> None:
    # The limit of what a chain without a key can say; docs/events.md tells it.
    lines: list[bytes] = []
    previous = chain.START
    for number in range(1, 4):
        line = chain.link(full.launch("/bin/innocent"), number, previous)
        lines.append(line[:-1])
        previous = chain.digest(line)
    before = check(full).digest
    full.write(lines)
    full.head.write_bytes(chain.head(3, previous))
    assert check(full).ok
    assert check(full).digest != before


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(st.integers(0, 2**32))
def test_any_edit_is_found(full: Shelf, seed: int) -> None:
    chance = random.Random(seed)
    data = bytearray(full.log.read_bytes())
    original = bytes(data)
    start = chance.randrange(len(data))
    end = min(len(data), start + chance.randrange(0, 3000))
    data[start:end] = chance.randbytes(chance.randrange(0, 50)) * chance.randrange(0, 4)
    if bytes(data) == original:
        return
    assert not examine("events.jsonl", bytes(data), full.head.read_bytes()).ok


@given(st.binary(max_size=500), st.binary(max_size=100))
def test_it_never_crashes(data: bytes, head: bytes) -> None:
    examine("events.jsonl", data, head)


def test_a_writer_that_holds_the_lock_is_waited_for_not_for_ever(
    full: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_WAIT", 0.05)
    with full.log.open("r+b") as other:
        assert locks.try_lock(other.fileno(), locks.APPENDING, locks.EXCLUSIVE)
        with pytest.raises(EventLogError, match="has locked"):
            check(full)


def test_only_an_event_log_is_checked(full: Shelf) -> None:
    with pytest.raises(EventLogError, match="not an event log"):
        verify(str(full.head))
