"""Sinks get every event of a log at least once and in order, and hold nobody up."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from nemoclaw_hookspecs import Event
from nemoclaw_hookspecs.errors import EventLogError, PluginError

from nemoclaw_core.events.bus import EventBus
from nemoclaw_core.events.log import EventLog

if TYPE_CHECKING:
    from .conftest import Shelf

Start = Callable[..., EventBus]


class Taker:
    """A sink that remembers, and fails as often as it is told."""

    def __init__(self, failures: int = 0) -> None:
        self.events: list[Event] = []
        self.failures = failures
        self.hang: threading.Event | None = None

    def __call__(self, event: Event) -> None:
        if self.hang is not None:
            self.hang.wait()
        if self.failures:
            self.failures -= 1
            # As the plugin manager raises it.
            cause = ValueError("sk-canary-of-the-plugin")
            raise PluginError(f"plugin 'taker' failed in on_event: {cause}", plugin="x") from cause
        self.events.append(event)

    def numbers(self, sandbox: str = "box") -> list[int]:
        """Sequence numbers of what was taken of one log."""
        return [
            event.record["metadata"]["sequence"]
            for event in self.events
            if event.sandbox == sandbox
        ]


@pytest.fixture
def start(shelf: Shelf) -> Iterator[Start]:
    started: list[EventBus] = []

    def begin(**sinks: Any) -> EventBus:
        bus = EventBus(sinks, sinks.__getitem__, directory=str(shelf.directory))
        started.append(bus)
        return bus

    yield begin
    for bus in started:
        bus.close(0)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


def waiting(shelf: Shelf) -> list[str]:
    """Files that say that events wait for a sink."""
    return sorted(
        str(path.relative_to(shelf.directory)) for path in shelf.directory.glob("*/sink.*")
    )


def test_a_sink_gets_every_event_as_it_stands_in_the_log(shelf: Shelf, start: Start) -> None:
    taker = Taker()
    bus, log = start(taker=taker), shelf.open()
    bus.attach("box", log, shelf.context)
    log.append(shelf.launch())
    wait_for(lambda: len(taker.events) == 1)
    log.append(shelf.end())
    log.close()
    assert bus.close() == ()
    assert [dict(event.record) for event in taker.events] == shelf.records()
    event = taker.events[0]
    assert (event.sandbox, event.class_uid) == ("box", 1007)
    assert event.time == event.record["time"]
    assert waiting(shelf) == []


def test_what_was_logged_before_a_sink_came_is_not_its_own(shelf: Shelf, start: Start) -> None:
    shelf.fill(3)
    taker = Taker()
    bus, log = start(taker=taker), shelf.open()
    bus.attach("box", log, shelf.context)
    log.append(shelf.launch())
    log.close()
    assert bus.close() == ()
    assert taker.numbers() == [4]


def test_an_event_is_on_disk_before_a_sink_hears_of_it(shelf: Shelf, start: Start) -> None:
    seen: list[int] = []
    bus, log = start(sink=lambda event: seen.append(len(shelf.lines()))), shelf.open()
    bus.attach("box", log, shelf.context)
    log.append(shelf.launch())
    log.close()
    assert bus.close() == ()
    assert seen == [1]


def test_a_record_that_was_taken_back_is_not_delivered(
    shelf: Shelf, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    taker = Taker(failures=1000)
    bus, log = start(taker=taker), shelf.open(durable=True)
    bus.attach("box", log, shelf.context)
    log.append(shelf.launch("/bin/kept"))

    def fails(descriptor: int) -> None:
        taker.failures = 0
        wait_for(lambda: bool(taker.events))  # it looks while the line stands in the file
        raise OSError(5, "")

    wait_for(lambda: "plugin-failed" in shelf.codes())
    monkeypatch.setattr("os.fdatasync", fails)
    with pytest.raises(EventLogError):
        log.append(shelf.launch("/bin/taken-back"))
    monkeypatch.undo()
    log.append(shelf.end())
    log.close()
    assert bus.close() == ()
    assert [dict(event.record) for event in taker.events] == shelf.records()


def test_a_sink_that_fails_is_offered_the_event_again(shelf: Shelf, start: Start) -> None:
    taker = Taker(failures=2)
    bus, log = start(taker=taker), shelf.open()
    bus.attach("box", log, shelf.context)
    for _ in range(3):
        log.append(shelf.launch())
    wait_for(lambda: len(taker.events) >= 3)
    log.close()
    assert bus.close() == ()
    # Its failure is an event itself, told once.
    assert taker.numbers() == [1, 2, 3, 4]
    (told,) = [record for record in shelf.records() if "app" in record]
    assert told["metadata"]["event_code"] == "plugin-failed"
    assert told["status_code"] == "ValueError"
    assert b"canary" not in shelf.log.read_bytes()


def test_a_sink_that_fails_holds_up_no_other(shelf: Shelf, start: Start) -> None:
    bad, good = Taker(failures=1000), Taker()
    bus, log = start(bad=bad, good=good), shelf.open()
    bus.attach("box", log, shelf.context)
    log.append(shelf.launch())
    wait_for(lambda: len(good.events) == 2)
    log.close()
    assert bus.close() == ("bad",)
    assert waiting(shelf) == ["box/sink.bad"]


def test_a_sink_that_hangs_holds_nobody_up(shelf: Shelf, start: Start) -> None:
    stuck, good = Taker(), Taker()
    stuck.hang = threading.Event()
    bus, log = start(stuck=stuck, good=good), shelf.open()
    bus.attach("box", log, shelf.context)
    began = time.monotonic()
    for _ in range(50):
        log.append(shelf.launch())
    assert time.monotonic() - began < 1
    log.close()
    began = time.monotonic()
    assert bus.close(0.3) == ("stuck",)
    assert 0.2 < time.monotonic() - began < 2
    assert good.numbers() == list(range(1, 51))
    assert waiting(shelf) == ["box/sink.stuck"]
    stuck.hang.set()


def test_what_a_sink_did_not_take_is_delivered_by_the_next_start(
    shelf: Shelf, start: Start
) -> None:
    taker = Taker(failures=1000)
    bus, log = start(taker=taker), shelf.open()
    bus.attach("box", log, shelf.context)
    log.append(shelf.launch())
    log.append(shelf.end())
    log.close()
    assert bus.close() == ("taker",)

    taker.failures = 0
    bus = start(taker=taker)
    other = EventLog.open("other", directory=str(shelf.directory))
    bus.attach("other", other, shelf.context)
    other.append(shelf.launch())
    other.close()
    assert bus.close() == ()
    assert taker.numbers("other") == [1]
    assert taker.numbers()[:2] == [1, 2]
    assert waiting(shelf) == []


def test_a_short_start_delivers_all_that_waits(shelf: Shelf, start: Start) -> None:
    taker = Taker(failures=1000)
    for number in range(4):
        bus, log = (
            start(taker=taker),
            EventLog.open(f"old-{number}", directory=str(shelf.directory)),
        )
        bus.attach(f"old-{number}", log, shelf.context)
        log.append(shelf.launch())
        log.close()
        assert bus.close(0.05) == ("taker",)
    taker.failures = 0

    def load(name: str) -> Taker:
        time.sleep(0.1)  # the start has ended before the sink is there
        return taker

    bus, log = EventBus(["taker"], load, directory=str(shelf.directory)), shelf.open()
    bus.attach("box", log, shelf.context)
    log.append(shelf.launch())
    log.close()
    assert bus.close() == ()
    wait_for(lambda: waiting(shelf) == [])
    assert {event.sandbox for event in taker.events} == {"box", "old-0", "old-1", "old-2", "old-3"}


def test_a_folder_that_cannot_be_trusted_is_passed_over(
    shelf: Shelf, start: Start, tmp_path: Path
) -> None:
    taker = Taker(failures=1000)
    for name in ("old", "planted"):
        bus, log = start(taker=taker), EventLog.open(name, directory=str(shelf.directory))
        bus.attach(name, log, shelf.context)
        log.append(shelf.launch())
        log.close()
        assert bus.close(0.05) == ("taker",)
    (shelf.directory / "planted").rename(tmp_path / "elsewhere")
    (shelf.directory / "link").symlink_to(tmp_path / "elsewhere")
    taker.failures = 0
    bus, log = start(taker=taker), shelf.open()
    bus.attach("box", log, shelf.context)
    log.append(shelf.launch())
    log.close()
    assert bus.close() == ()
    wait_for(lambda: not (shelf.directory / "old" / "sink.taker").exists())
    assert {event.sandbox for event in taker.events} == {"box", "old"}


def test_two_writers_of_one_log_lose_no_event(shelf: Shelf, start: Start) -> None:
    first, second = Taker(), Taker()
    first.hang = threading.Event()
    one, other = start(taker=first), start(taker=second)
    log, later = shelf.open(), shelf.open()
    one.attach("box", log, shelf.context)
    log.append(shelf.launch())
    other.attach("box", later, shelf.context)
    later.append(shelf.launch())
    later.close()
    assert other.close(0.3) == ("taker",)
    assert second.events == []
    log.append(shelf.end())
    log.close()
    first.hang.set()
    assert one.close() == ()
    assert first.numbers() == [1, 2, 3]
    assert waiting(shelf) == []


def test_the_same_sandbox_goes_on_with_what_waits(shelf: Shelf, start: Start) -> None:
    taker = Taker(failures=1000)
    bus, log = start(taker=taker), shelf.open()
    bus.attach("box", log, shelf.context)
    log.append(shelf.launch())
    log.close()
    assert bus.close() == ("taker",)
    taker.failures = 0
    bus, log = start(taker=taker), shelf.open()
    bus.attach("box", log, shelf.context)
    log.append(shelf.end())
    log.close()
    assert bus.close() == ()
    assert [dict(event.record) for event in taker.events] == shelf.records()


def test_two_processes_do_not_deliver_the_same_log(shelf: Shelf, start: Start) -> None:
    first, second = Taker(), Taker()
    one, other = start(taker=first), start(taker=second)
    log = shelf.open()
    one.attach("box", log, shelf.context)
    other.attach("other", EventLog.open("other", directory=str(shelf.directory)), shelf.context)
    for _ in range(20):
        log.append(shelf.launch())
    log.close()
    assert one.close() == ()
    assert other.close() == ()
    assert first.numbers() == list(range(1, 21))
    assert second.events == []


def test_a_start_that_is_refused_for_its_name_disturbs_nothing(shelf: Shelf, start: Start) -> None:
    first, second = Taker(), Taker()
    one, other = start(taker=first), start(taker=second)
    log = shelf.open()
    one.attach("box", log, shelf.context)
    log.append(shelf.launch())
    refused = shelf.open()
    other.attach("box", refused, shelf.context)
    refused.close()
    assert other.close() == ()
    log.append(shelf.end())
    log.close()
    assert one.close() == ()
    assert first.numbers() == [1, 2]
    assert shelf.codes() == ["process-launched", "process-ended"]
    assert waiting(shelf) == []


def test_a_sink_may_be_asynchronous(shelf: Shelf, start: Start) -> None:
    taken: list[tuple[int, object]] = []

    async def sink(event: Event) -> None:
        await asyncio.sleep(0)
        taken.append((event.record["metadata"]["sequence"], asyncio.get_running_loop()))

    bus, log = start(sink=sink), shelf.open()
    bus.attach("box", log, shelf.context)
    for _ in range(3):
        log.append(shelf.launch())
    log.close()
    assert bus.close() == ()
    assert [number for number, _ in taken] == [1, 2, 3]
    assert len({loop for _, loop in taken}) == 1, "a sink keeps what belongs to its event loop"


def test_an_asynchronous_sink_that_hangs_is_given_up(
    shelf: Shelf, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nemoclaw_core.events.bus._ANSWER", 0.05)
    tried: list[int] = []

    async def sink(event: Event) -> None:
        tried.append(1)
        if len(tried) == 1:
            await asyncio.sleep(60)

    bus, log = start(sink=sink), shelf.open()
    bus.attach("box", log, shelf.context)
    log.append(shelf.launch())
    wait_for(lambda: len(tried) > 1)
    log.close()
    assert bus.close() == ()


def test_a_sink_that_cannot_be_loaded_leaves_the_events_waiting(shelf: Shelf, start: Start) -> None:
    def load(name: str) -> Any:
        raise ImportError("sk-canary")

    bus, log = EventBus(["gone"], load, directory=str(shelf.directory)), shelf.open()
    bus.attach("box", log, shelf.context)
    log.append(shelf.launch())
    wait_for(lambda: "plugin-failed" in shelf.codes())
    log.close()
    assert bus.close() == ("gone",)
    assert waiting(shelf) == ["box/sink.gone"]
    assert b"canary" not in shelf.log.read_bytes()


def test_many_logs_of_one_process_share_a_thread(shelf: Shelf, start: Start) -> None:
    taker = Taker()
    bus = start(taker=taker)
    before = threading.active_count()
    logs = []
    for number in range(20):
        log = EventLog.open(f"box-{number}", directory=str(shelf.directory))
        bus.attach(f"box-{number}", log, shelf.context)
        log.append(shelf.launch())
        logs.append(log)
    assert threading.active_count() <= before + 1
    for log in logs:
        log.append(shelf.end())
        log.close()
    assert bus.close() == ()
    for number in range(20):
        assert taker.numbers(f"box-{number}") == [1, 2]
    assert waiting(shelf) == []


@pytest.mark.parametrize("content", ["x", "00000000000000000003", "99999999999999999999"])
def test_a_damaged_cursor_stops_nothing(shelf: Shelf, start: Start, content: str) -> None:
    shelf.fill(3)
    (shelf.folder / "sink.taker").write_text(content)
    (shelf.folder / "sink.taker").chmod(0o600)
    taker = Taker()
    bus, log = start(taker=taker), shelf.open()
    bus.attach("box", log, shelf.context)
    log.append(shelf.launch())
    log.close()
    assert bus.close() == ()
    assert taker.numbers() == [1, 2, 3, 4]
    assert waiting(shelf) == []


def test_a_crash_while_a_cursor_was_made_offers_nothing_old(shelf: Shelf, start: Start) -> None:
    shelf.fill(3)
    (shelf.folder / "sink.taker").touch(0o600)
    taker = Taker()
    bus, log = start(taker=taker), shelf.open()
    bus.attach("box", log, shelf.context)
    log.append(shelf.launch())
    log.close()
    assert bus.close() == ()
    assert taker.numbers() == [4]


def test_a_line_that_is_no_record_is_passed_over(shelf: Shelf, start: Start) -> None:
    taker = Taker(failures=1000)
    bus, log = start(taker=taker), shelf.open()
    bus.attach("box", log, shelf.context)
    log.append(shelf.launch())
    log.close()
    bus.close()
    shelf.write([b"nonsense", *shelf.lines()])
    taker.failures = 0
    bus, log = start(taker=taker), EventLog.open("other", directory=str(shelf.directory))
    bus.attach("other", log, shelf.context)
    log.close()
    assert bus.close() == ()
    assert taker.numbers()[:1] == [1]
    assert waiting(shelf) == []


def test_a_start_is_refused_when_it_cannot_be_noted_that_events_wait(
    shelf: Shelf, start: Start
) -> None:
    shelf.fill(1)
    (shelf.folder / "sink.taker").mkdir()
    bus, log = start(taker=Taker()), shelf.open()
    with pytest.raises(EventLogError):
        bus.attach("box", log, shelf.context)
