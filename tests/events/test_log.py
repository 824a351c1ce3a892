"""What an append promises, also where it fails or several write."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from nemoclaw_hookspecs.errors import EventLogError

from nemoclaw_core.events import locks
from nemoclaw_core.events import log as log_module
from nemoclaw_core.events.verify import verify

from .conftest import interrupted

if TYPE_CHECKING:
    from .conftest import Shelf


def broken(call: Callable[..., Any], number: int, *, times: int = 1) -> Callable[..., Any]:
    """``call``, failing the first ``times``."""
    left = [times]

    def failing(*arguments: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise OSError(number, os.strerror(number))
        return call(*arguments)

    return failing


def test_an_acknowledged_record_stands_in_the_file_before_the_log_is_closed(shelf: Shelf) -> None:
    log = shelf.open()
    log.append(shelf.launch("/bin/ls"))
    assert shelf.records()[0]["process"]["name"] == "ls"
    assert log.end == shelf.log.stat().st_size


def test_a_log_goes_on_where_it_ended(shelf: Shelf) -> None:
    shelf.fill(3)
    shelf.fill(2)
    assert [record["metadata"]["sequence"] for record in shelf.records()] == [1, 2, 3, 4, 5]
    assert verify(str(shelf.log)).ok


def test_nobody_else_can_read_it(shelf: Shelf) -> None:
    shelf.fill(1)
    assert shelf.folder.stat().st_mode & 0o777 == 0o700
    assert shelf.log.stat().st_mode & 0o777 == 0o600
    assert shelf.head.stat().st_mode & 0o777 == 0o600


def test_an_append_is_one_write(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    log = shelf.open()
    real, calls = os.write, []

    def counted(fd: int, data: bytes) -> int:
        calls.append(len(data))
        return real(fd, data)

    monkeypatch.setattr(os, "write", counted)
    log.append(shelf.launch())
    monkeypatch.undo()
    assert calls == [log.end]


def test_a_short_write_is_completed(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    log = shelf.open()
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:100]))
    for _ in range(3):
        log.append(shelf.launch())
    monkeypatch.undo()
    assert len(shelf.records()) == 3
    assert verify(str(shelf.log)).ok


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG])
@pytest.mark.parametrize("when", ["at once", "in the middle"])
def test_a_failed_write_leaves_nothing_behind(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, number: int, when: str
) -> None:
    log = shelf.open()
    log.append(shelf.launch())
    before = shelf.log.read_bytes(), shelf.head.read_bytes()
    real = os.write

    def failing(fd: int, data: bytes) -> int:
        if when == "at once" or len(data) < 600:
            raise OSError(number, os.strerror(number))
        return real(fd, data[:600])

    monkeypatch.setattr(os, "write", failing)
    with pytest.raises(EventLogError, match="could not be written") as caught:
        log.append(shelf.launch())
    monkeypatch.undo()
    assert caught.value.where == str(shelf.log)
    assert (shelf.log.read_bytes(), shelf.head.read_bytes()) == before
    log.append(shelf.launch())
    assert verify(str(shelf.log)).ok
    assert len(shelf.records()) == 2


def test_a_record_that_is_not_on_the_disk_is_taken_back(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = shelf.open(durable=True)
    log.append(shelf.launch())
    monkeypatch.setattr(os, "fdatasync", broken(os.fdatasync, errno.EIO))
    with pytest.raises(EventLogError):
        log.append(shelf.launch("/bin/lost"))
    log.append(shelf.launch("/bin/kept"))
    assert [record["process"]["name"] for record in shelf.records()] == ["true", "kept"]
    assert verify(str(shelf.log)).ok


def test_a_record_that_cannot_be_noted_as_the_last_is_taken_back(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = shelf.open()
    log.append(shelf.launch())
    monkeypatch.setattr(os, "pwrite", broken(os.pwrite, errno.EIO, times=2))
    with pytest.raises(EventLogError):
        log.append(shelf.launch("/bin/lost"))
    assert len(shelf.records()) == 1
    log.append(shelf.launch("/bin/kept"))
    assert [record["process"]["name"] for record in shelf.records()] == ["true", "kept"]
    assert verify(str(shelf.log)).ok


def test_a_record_that_cannot_be_taken_back_is_not_built_upon(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = shelf.open()
    log.append(shelf.launch())
    real = os.write

    def torn(fd: int, data: bytes) -> int:
        real(fd, data[:50])
        raise OSError(errno.EIO, "")

    monkeypatch.setattr(os, "write", torn)
    monkeypatch.setattr(os, "ftruncate", broken(os.ftruncate, errno.EIO))
    with pytest.raises(EventLogError):
        log.append(shelf.launch())
    monkeypatch.undo()
    log.append(shelf.launch("/bin/next"))
    assert shelf.codes() == ["process-launched", "log-damaged", "process-launched"]
    assert verify(str(shelf.log)).ok


def test_records_of_one_append_are_written_all_or_none(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = shelf.open()
    log.append(shelf.launch())
    before = shelf.log.read_bytes(), shelf.head.read_bytes()
    # More than one write: see chain.parts.
    many = [shelf.launch() for _ in range(80)]
    real, calls = os.write, []

    def full(fd: int, data: bytes) -> int:
        calls.append(len(data))
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "")
        return real(fd, data)

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(EventLogError):
        log.append(*many)
    monkeypatch.undo()
    assert max(calls) <= 32 * 1024
    assert (shelf.log.read_bytes(), shelf.head.read_bytes()) == before
    log.append(*many)
    log.append()
    assert verify(str(shelf.log)).records == 81
    assert verify(str(shelf.log)).ok


def test_an_interrupted_append_is_found_by_the_next(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = shelf.open()
    log.append(shelf.launch())
    monkeypatch.setattr(os, "pwrite", interrupted)
    with pytest.raises(KeyboardInterrupt):
        log.append(shelf.launch())
    monkeypatch.undo()
    log.append(shelf.launch())
    assert [record["metadata"]["sequence"] for record in shelf.records()] == [1, 2, 3]
    assert verify(str(shelf.log)).ok


def test_a_record_that_is_no_json_changes_nothing(shelf: Shelf) -> None:
    log = shelf.open()
    with pytest.raises(TypeError):
        log.append(shelf.launch() | {"unmapped": {"a": b"bytes"}})
    log.append(shelf.launch())
    assert verify(str(shelf.log)).records == 1


def test_threads_share_a_log(shelf: Shelf) -> None:
    log = shelf.open()

    def write() -> None:
        for _ in range(100):
            log.append(shelf.launch())

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verify(str(shelf.log)).records == 400
    assert verify(str(shelf.log)).ok


def test_two_writers_take_turns(shelf: Shelf) -> None:
    first, second = shelf.open(), shelf.open()
    for _ in range(3):
        first.append(shelf.launch())
        second.append(shelf.launch())
    first.close()
    second.append(shelf.end())
    assert verify(str(shelf.log)).records == 7
    assert verify(str(shelf.log)).ok


def test_a_writer_removes_what_another_left_unfinished(shelf: Shelf) -> None:
    log = shelf.open()
    log.append(shelf.launch())
    with shelf.log.open("ab") as file:
        file.write(b'{"time":17')
    log.append(shelf.launch())
    assert shelf.codes() == ["process-launched", "log-damaged", "process-launched"]
    assert shelf.records()[1]["unmapped"]["damage"] == "torn"
    result = verify(str(shelf.log))
    assert result.ok
    assert result.notes


def test_the_reservation_is_given_back(shelf: Shelf) -> None:
    log = shelf.open()
    log.append(shelf.launch())
    while_open = shelf.log.stat().st_blocks
    log.close()
    if while_open * 512 < 32 * 1024:
        pytest.skip("this file system does not reserve")
    assert shelf.log.stat().st_blocks * 512 <= 8192
    log.close()


def test_it_cannot_be_used_after_close(shelf: Shelf) -> None:
    log = shelf.open()
    log.close()
    assert log.closed
    with pytest.raises(EventLogError, match="closed"):
        log.append(shelf.launch())


def test_a_copy_of_the_process_cannot_write(shelf: Shelf) -> None:
    log = shelf.open()
    log.append(shelf.launch())
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()

    def child() -> None:
        try:
            log.append(shelf.launch())
        except EventLogError as error:
            queue.put(str(error))
        log.close()

    process = context.Process(target=child)
    process.start()
    process.join(10)
    assert "another process opened this log" in queue.get()
    log.append(shelf.end())
    assert verify(str(shelf.log)).records == 2


def test_a_log_that_was_removed_refuses_records(shelf: Shelf) -> None:
    log = shelf.open()
    log.append(shelf.launch())
    shelf.log.unlink()
    with pytest.raises(EventLogError, match="removed while it was in use"):
        log.append(shelf.end())


def test_a_lock_that_is_never_released_is_an_error(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = shelf.open()
    monkeypatch.setattr(locks, "_WAIT", 0.05)
    with shelf.log.open("r+b") as other:
        assert locks.try_lock(other.fileno(), locks.APPENDING, locks.EXCLUSIVE)
        with pytest.raises(EventLogError, match="has locked the event log"):
            log.append(shelf.launch())
    log.append(shelf.launch())


def test_a_file_system_without_locks_is_an_error(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "fcntl", broken(fcntl.fcntl, errno.ENOLCK, times=9))
    with pytest.raises(EventLogError, match="cannot be locked"):
        shelf.open()


def test_whether_a_writer_has_it_open_can_be_told(shelf: Shelf) -> None:
    log = shelf.open()
    with shelf.log.open("rb") as reader:
        assert locks.is_opened(reader.fileno())
        log.close()
        assert not locks.is_opened(reader.fileno())


def test_the_watcher_hears_of_each_record_and_of_the_end(shelf: Shelf) -> None:
    log = shelf.open()
    heard: list[tuple[int, bool]] = []
    log.watch(lambda: heard.append((log.end, log.closed)))
    log.append(shelf.launch())
    log.append(shelf.end())
    log.close()
    size = shelf.log.stat().st_size
    assert [each[0] for each in heard[1:]] == [size, size]
    assert [each[1] for each in heard] == [False, False, True]


def test_space_that_cannot_be_reserved_is_done_without(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "reserve", lambda *_: None)
    shelf.fill(2)
    assert verify(str(shelf.log)).ok
