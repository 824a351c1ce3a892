"""Whose files a log is made of: nothing of somebody else is written to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from nemoclaw_hookspecs.errors import EventLogError, UsageError

from nemoclaw_core.events.log import EventLog

if TYPE_CHECKING:
    from .conftest import Shelf


def test_a_name_that_leaves_the_directory_is_refused(shelf: Shelf) -> None:
    with pytest.raises(UsageError):
        EventLog.open("../box", directory=str(shelf.directory))


def test_a_symbolic_link_in_place_of_the_folder_is_refused(shelf: Shelf, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    shelf.folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EventLogError, match="symbolic link"):
        shelf.open()


@pytest.mark.parametrize("which", ["log", "head"])
def test_a_symbolic_link_in_place_of_a_file_is_refused(
    shelf: Shelf, tmp_path: Path, which: str
) -> None:
    shelf.folder.mkdir(mode=0o700)
    target = tmp_path / "precious"
    target.write_text("precious")
    getattr(shelf, which).symlink_to(target)
    with pytest.raises(EventLogError, match="not a regular file"):
        shelf.open()
    assert target.read_text() == "precious"


def test_a_hard_link_in_place_of_the_log_is_refused(shelf: Shelf, tmp_path: Path) -> None:
    shelf.folder.mkdir(mode=0o700)
    target = tmp_path / "precious"
    target.write_text("precious\n")
    os.link(target, shelf.log)
    with pytest.raises(EventLogError, match="one name"):
        shelf.open()
    assert target.read_text() == "precious\n"


def test_a_fifo_in_place_of_the_log_does_not_hang(shelf: Shelf) -> None:
    shelf.folder.mkdir(mode=0o700)
    os.mkfifo(shelf.log)
    with pytest.raises(EventLogError, match="regular file"):
        shelf.open()


def test_a_log_that_others_can_write_is_refused(shelf: Shelf) -> None:
    shelf.fill(1)
    shelf.log.chmod(0o622)
    with pytest.raises(EventLogError, match="written by others"):
        shelf.open()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_log_of_somebody_else_is_refused(shelf: Shelf) -> None:
    shelf.fill(1)
    os.chown(shelf.log, 65534, 65534)
    with pytest.raises(EventLogError, match="belongs to uid 65534"):
        shelf.open()


def test_a_directory_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EventLogError, match="cannot be opened"):
        EventLog.open("box", directory=str(tmp_path / "file" / "state"))
