"""Claims about noticing that a policy file has changed."""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from pathlib import Path

import pytest

from nemoclaw_core.supervisor.inotify import FileWatch


def rewrite(file: Path) -> None:
    file.write_text("another")


def replace(file: Path) -> None:
    other = file.with_name("other")
    other.write_text("another")
    os.replace(other, file)


def remove_first(file: Path) -> None:
    file.unlink()
    file.write_text("another")


def move_away_first(file: Path) -> None:
    file.rename(file.with_name("policies.toml~"))
    file.write_text("another")


WAYS = [rewrite, replace, remove_first, move_away_first]


def noticed(watch: FileWatch) -> bool:
    """Whether something was reported, and the file is another one."""
    poll = select.poll()
    poll.register(watch.descriptor, select.POLLIN)
    if not poll.poll(2000):
        return False
    watch.drain()
    return watch.has_changed()


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_change_is_noticed_however_it_is_made(
    tmp_path: Path, way: Callable[[Path], None]
) -> None:
    file = tmp_path / "policies.toml"
    file.write_text("one")
    watch = FileWatch(str(file))
    try:
        for _ in range(2):
            way(file)
            assert noticed(watch)
            assert not watch.has_changed()
    finally:
        watch.close()


def test_a_link_is_followed_to_where_it_leads(tmp_path: Path) -> None:
    # As a mounted Kubernetes ConfigMap is changed: file -> ..data/file, ..data -> a directory.
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "policies.toml").write_text(name)
    (tmp_path / "..data").symlink_to("first")
    file = tmp_path / "policies.toml"
    file.symlink_to("..data/policies.toml")
    watch = FileWatch(str(file))
    try:
        (tmp_path / "..new").symlink_to("second")
        os.replace(tmp_path / "..new", tmp_path / "..data")
        assert noticed(watch)
        (tmp_path / "second/policies.toml").write_text("written in place")
        assert noticed(watch)
    finally:
        watch.close()


def test_other_files_and_a_file_that_is_gone_change_nothing(tmp_path: Path) -> None:
    file = tmp_path / "policies.toml"
    file.write_text("one")
    watch = FileWatch(str(file))
    try:
        (tmp_path / "notes").write_text("x")
        assert not noticed(watch)
        file.unlink()
        assert not noticed(watch)
        file.write_text("one")
        assert noticed(watch)
    finally:
        watch.close()


def test_a_directory_that_is_gone_is_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "policies.toml").write_text("one")
    watch = FileWatch(str(folder / "policies.toml"))
    try:
        (folder / "policies.toml").unlink()
        folder.rmdir()
        with pytest.raises(FileNotFoundError):
            watch.has_changed()
        folder.mkdir()
        (folder / "policies.toml").write_text("two")
        assert watch.has_changed()
    finally:
        watch.close()
    with pytest.raises(FileNotFoundError):
        FileWatch(str(tmp_path / "nowhere" / "policies.toml"))
