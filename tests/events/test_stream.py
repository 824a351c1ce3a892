"""What waits in a log for a sink."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from nemoclaw_hookspecs.errors import EventLogError

from nemoclaw_core.events import locks
from nemoclaw_core.events.stream import Stream

if TYPE_CHECKING:
    from .conftest import Shelf


@pytest.fixture
def left(shelf: Shelf) -> Shelf:
    """A log of two records, the second of which waits for the sink ``taker``."""
    shelf.fill(1)
    log = shelf.open()
    Stream.of("box", "taker", log, str(shelf.directory)).release()
    log.append(shelf.end())
    log.close()
    return shelf


def left_behind(shelf: Shelf) -> Stream | None:
    return Stream.left_behind("box", "taker", str(shelf.directory))


def test_what_waits_is_offered_until_it_was_taken(left: Shelf) -> None:
    for _ in range(2):
        stream = left_behind(left)
        assert stream is not None
        ((after, line),) = stream.lines()
        assert line == left.lines()[1] + b"\n"
        stream.release()
    stream = left_behind(left)
    assert stream is not None
    for _ in stream.lines():
        stream.advance(after)
    assert stream.finish()
    assert left_behind(left) is None


def test_one_courier_has_it_at_a_time(left: Shelf) -> None:
    first = left_behind(left)
    assert first is not None
    assert left_behind(left) is None
    first.release()
    second = left_behind(left)
    assert second is not None
    second.release()


def test_a_record_that_is_being_written_is_waited_for(
    left: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_WAIT", 0.05)
    stream = left_behind(left)
    assert stream is not None
    with left.log.open("r+b") as writer:
        assert locks.try_lock(writer.fileno(), locks.APPENDING, locks.EXCLUSIVE)
        with pytest.raises(EventLogError, match="has locked"):
            list(stream.lines())
    assert len(list(stream.lines())) == 1
    stream.release()


def test_the_cursor_of_a_log_that_was_opened_again_is_left_to_its_writer(left: Shelf) -> None:
    stream = left_behind(left)
    assert stream is not None
    writer = left.open()
    for after, _ in stream.lines():
        stream.advance(after)
    assert stream.finish()
    writer.append(left.launch())
    mine = Stream.of("box", "taker", writer, str(left.directory))
    assert [line for _, line in mine.lines()] == [left.lines()[2] + b"\n"]
    mine.release()
