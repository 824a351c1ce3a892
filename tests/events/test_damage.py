"""What a writer does about a log that is not as the last writer left it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from nemoclaw_hookspecs.errors import EventLogError

from nemoclaw_core.events.verify import verify

from .conftest import interrupted

if TYPE_CHECKING:
    from .conftest import Shelf


def damages(shelf: Shelf) -> list[str]:
    return [
        record["unmapped"]["damage"]
        for record in shelf.records()
        if record["metadata"]["event_code"] == "log-damaged"
    ]


def test_a_good_log_is_told_nothing_about(shelf: Shelf) -> None:
    shelf.fill(2)
    shelf.fill(0)
    shelf.open()
    assert damages(shelf) == []


def test_a_torn_last_record_is_removed_and_told(shelf: Shelf) -> None:
    shelf.fill(2)
    with shelf.log.open("ab") as file:
        file.write(b'{"time":17')
    shelf.open()
    assert damages(shelf) == ["torn"]
    assert verify(str(shelf.log)).ok


def test_a_crash_before_the_head_was_noted_is_no_damage(shelf: Shelf) -> None:
    shelf.fill(2)
    head = shelf.head.read_bytes()
    shelf.fill(1)
    shelf.head.write_bytes(head)
    assert verify(str(shelf.log)).ok
    shelf.fill(1)
    assert damages(shelf) == []
    assert verify(str(shelf.log)).ok


@pytest.mark.parametrize("before", [0, 1, 100])
@pytest.mark.parametrize("count", [1, 12, 25])
def test_a_crash_before_the_head_of_several_was_noted_is_no_damage(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, before: int, count: int
) -> None:
    shelf.fill(before)
    log = shelf.open()
    monkeypatch.setattr(os, "pwrite", interrupted)
    with pytest.raises(KeyboardInterrupt):
        log.append(*[shelf.launch() for _ in range(count)])
    log.close()
    monkeypatch.undo()
    assert len(shelf.records()) == before + count
    assert verify(str(shelf.log)).ok
    shelf.fill(1)
    assert damages(shelf) == []
    assert verify(str(shelf.log)).records == before + count + 1


def test_a_record_changed_before_its_head_was_noted_is_told(shelf: Shelf) -> None:
    shelf.fill(2)
    head = shelf.head.read_bytes()
    shelf.fill(2)
    lines = shelf.lines()
    lines[1] = lines[1].replace(b"program-1", b"program-9")
    shelf.write(lines)
    shelf.head.write_bytes(head)
    assert not verify(str(shelf.log)).ok
    shelf.open()
    assert damages(shelf) == ["altered"]


def test_lost_records_are_told(shelf: Shelf) -> None:
    shelf.fill(4)
    shelf.write(shelf.lines()[:2])
    shelf.open()
    assert damages(shelf) == ["lost"]
    assert "4 were written" in shelf.records()[-1]["message"]


def test_records_lost_while_it_is_open_are_told(shelf: Shelf) -> None:
    log = shelf.open()
    for _ in range(3):
        log.append(shelf.launch())
    shelf.write(shelf.lines()[:1])
    shelf.head.write_bytes(b"")
    log.append(shelf.launch())
    assert damages(shelf) == ["lost"]


def test_an_emptied_log_is_told(shelf: Shelf) -> None:
    shelf.fill(4)
    shelf.write([])
    shelf.open()
    assert damages(shelf) == ["lost"]


def test_a_removed_log_is_told(shelf: Shelf) -> None:
    shelf.fill(4)
    shelf.log.unlink()
    shelf.open()
    assert damages(shelf) == ["lost"]


def test_a_changed_last_record_is_told(shelf: Shelf) -> None:
    shelf.fill(3)
    lines = shelf.lines()
    shelf.write([*lines[:2], lines[2].replace(b"program-2", b"program-9")])
    shelf.open()
    assert damages(shelf) == ["altered"]


def test_another_last_line_is_told(shelf: Shelf) -> None:
    shelf.fill(3)
    shelf.write([*shelf.lines()[:2], b"{}"])
    shelf.fill(1)
    assert b'"damage":"altered"' in shelf.lines()[3]


@pytest.mark.parametrize("content", [b"", b"x", b"7" * 86, b"0" * 200])
def test_a_missing_or_damaged_head_is_told_and_replaced(shelf: Shelf, content: bytes) -> None:
    shelf.fill(3)
    shelf.head.write_bytes(content)
    shelf.fill(1)
    assert damages(shelf) == ["headless"]
    shelf.fill(1)
    assert damages(shelf) == ["headless"]
    assert shelf.head.stat().st_size == 86


def test_a_head_of_long_ago_is_told(shelf: Shelf) -> None:
    shelf.fill(1)
    head = shelf.head.read_bytes()
    shelf.fill(80)
    shelf.head.write_bytes(head)
    assert [problem.kind for problem in verify(str(shelf.log)).problems] == ["headless"]
    shelf.open()
    assert damages(shelf) == ["headless"]


def test_an_end_that_nemoclaw_did_not_write_is_refused(shelf: Shelf) -> None:
    shelf.fill(1)
    with shelf.log.open("ab") as file:
        file.write(b"x" * 70_000)
    before = shelf.log.read_bytes()
    with pytest.raises(EventLogError, match="did not write"):
        shelf.open()
    assert shelf.log.read_bytes() == before
