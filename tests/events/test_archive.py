"""Listing logs, and removing old ones."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nemoclaw_core.events import archive
from nemoclaw_core.events.cursor import PREFIX
from nemoclaw_core.events.log import EventLog

if TYPE_CHECKING:
    from .conftest import Shelf


def age(folder: Path, days: float) -> None:
    """Make everything of a folder look ``days`` old."""
    then = time.time() - days * 86400
    for path in (*folder.iterdir(), folder):
        os.utime(path, (then, then))


def write(shelf: Shelf, name: str, days: float = 0) -> Path:
    log = EventLog.open(name, directory=str(shelf.directory))
    log.append(shelf.launch())
    log.close()
    age(shelf.directory / name, days)
    return shelf.directory / name


def names(shelf: Shelf) -> list[str]:
    return [entry.name for entry in archive.entries(str(shelf.directory))]


def prune(shelf: Shelf, days: float) -> dict[str, str]:
    return dict(archive.prune(days, str(shelf.directory)))


def test_the_log_that_was_written_last_is_listed_first(shelf: Shelf) -> None:
    write(shelf, "old", 2)
    write(shelf, "new", 0)
    write(shelf, "middle", 1)
    assert names(shelf) == ["new", "middle", "old"]


def test_an_entry_says_how_many_records_there_are_and_whether_it_is_in_use(shelf: Shelf) -> None:
    shelf.fill(3)
    log = shelf.open()
    (entry,) = archive.entries(str(shelf.directory))
    assert (entry.name, entry.records, entry.running) == ("box", 3, True)
    assert entry.path == str(shelf.log)
    log.close()
    (entry,) = archive.entries(str(shelf.directory))
    assert not entry.running


def test_what_is_no_sandbox_is_not_listed(shelf: Shelf) -> None:
    (shelf.directory / "run").mkdir()
    (shelf.directory / ".hidden").mkdir()
    (shelf.directory / "empty").mkdir(mode=0o700)
    shelf.fill(1)
    assert names(shelf) == ["box"]


def test_without_a_directory_there_is_nothing(tmp_path: Path) -> None:
    assert archive.entries(str(tmp_path / "none")) == []
    assert list(archive.prune(0, str(tmp_path / "none"))) == []


def test_old_logs_of_ended_sandboxes_are_removed(shelf: Shelf) -> None:
    write(shelf, "old", 8)
    write(shelf, "new", 6)
    (shelf.directory / "old" / "output.log").write_text("hello")
    age(shelf.directory / "old", 8)
    assert prune(shelf, 7) == {"old": ""}
    assert names(shelf) == ["new"]
    assert not (shelf.directory / "old").exists()


def test_a_log_in_use_is_not_removed(shelf: Shelf) -> None:
    log = shelf.open()
    log.append(shelf.launch())
    age(shelf.folder, 30)
    assert prune(shelf, 7) == {}
    log.append(shelf.end())
    assert len(shelf.records()) == 2


def test_a_log_that_was_used_since_is_not_removed(shelf: Shelf) -> None:
    write(shelf, "box", 30)
    os.utime(shelf.folder / "events.jsonl")
    assert prune(shelf, 7) == {}


def test_a_folder_with_something_else_in_it_stays(shelf: Shelf) -> None:
    folder = write(shelf, "old")
    (folder / "notes.txt").write_text("mine")
    age(folder, 30)
    assert "notes.txt is not nemoclaw's" in prune(shelf, 7)["old"]
    assert (folder / "notes.txt").read_text() == "mine"
    assert (folder / "events.jsonl").exists()


def test_a_folder_with_events_that_wait_for_a_plugin_stays(shelf: Shelf) -> None:
    folder = write(shelf, "old")
    (folder / f"{PREFIX}collector").write_text("0")
    age(folder, 30)
    assert prune(shelf, 7) == {"old": "events wait for collector"}
    assert (folder / "events.jsonl").exists()


def test_a_link_is_not_followed(shelf: Shelf, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    target.mkdir(mode=0o700)
    (target / "events.jsonl").write_text("")
    age(target, 30)
    (shelf.directory / "link").symlink_to(target)
    assert "symbolic link" in prune(shelf, 7)["link"]
    assert (target / "events.jsonl").exists()


@pytest.mark.parametrize(("old", "gone"), [(0.0, False), (1.0, True)])
def test_a_sandbox_that_is_being_started_keeps_its_folder(
    shelf: Shelf, old: float, gone: bool
) -> None:
    folder = shelf.directory / "young"
    folder.mkdir(mode=0o700)
    (folder / "output.log").write_text("")
    age(folder, old)
    assert prune(shelf, 0) == ({"young": ""} if gone else {})
    assert folder.exists() is not gone


def test_a_log_is_made_again_after_its_removal(shelf: Shelf) -> None:
    write(shelf, "box", 30)
    prune(shelf, 7)
    shelf.fill(1)
    assert [record["metadata"]["sequence"] for record in shelf.records()] == [1]
