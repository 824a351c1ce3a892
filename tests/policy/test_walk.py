"""Claims about following a path: it ends where the kernel would end, or says that it does not."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nemoclaw_core.observe import observe
from nemoclaw_core.policy.walk import Observer

from .conftest import CALM, Ground

PART = st.sampled_from(["a", "b", "c", "..", ".", "none"])
TARGET = st.tuples(st.lists(PART, min_size=1, max_size=4), st.sampled_from(["", "/"])).map(
    lambda each: "/".join(each[0]) + each[1]
)
TREE = st.dictionaries(
    st.sampled_from(["a", "b", "c", "a/b", "a/c", "b/a", "b/c", "a/b/c"]),
    st.one_of(st.just(None), st.just("file"), TARGET),
    max_size=8,
)


@settings(CALM, max_examples=300)
@given(TREE, TARGET)
def test_following_ends_where_the_kernel_ends(tree: dict[str, str | None], path: str) -> None:
    folder = Path(tempfile.mkdtemp()).resolve()
    try:
        root = folder / "x/y"
        root.mkdir(parents=True)
        for name in sorted(tree):
            here, kind = root / name, tree[name]
            if here.parent.is_symlink() or not here.parent.is_dir() or os.path.lexists(here):
                continue
            if kind is None:
                here.mkdir()
            elif kind == "file":
                here.write_text("")
            else:
                here.symlink_to(kind)
        walked = Observer().follow(f"{root}/{path}")
        try:
            real = os.path.realpath(f"{root}/{path}", strict=True)
            os.stat(f"{root}/{path}")
        except OSError:
            assert walked.loop or walked.entry.kind == "missing"
        else:
            assert walked.path == real
            assert not walked.loop
            assert walked.entry.kind == ("directory" if os.path.isdir(real) else "file")
    finally:
        shutil.rmtree(folder)


def test_what_is_behind_something_missing_is_missing(ground: Ground) -> None:
    (ground.root / "there").mkdir()
    (ground.root / "link").symlink_to("none/../there")
    walked = Observer().follow(f"{ground.root}/link")
    assert (walked.path, walked.entry.kind) == (f"{ground.root}/none", "missing")


@pytest.fixture
def closed(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that cannot be listed, also for root."""
    path = ground.work / "closed"
    path.mkdir()
    real = os.scandir

    def scandir(where: str) -> object:
        if where == str(path):
            raise PermissionError(13, "Permission denied", where)
        return real(where)

    monkeypatch.setattr("nemoclaw_core.globs.os.scandir", scandir)
    return path


def test_a_directory_that_cannot_be_listed_is_denied_whole(ground: Ground, closed: Path) -> None:
    policy = ground.filesystem("write = ['{workdir}']\ndeny = ['**/.env']")
    assert str(closed) in {rule.path for rule in policy.filesystem.rules if rule.access == "deny"}
    policy = ground.filesystem("read = ['**/.env']")
    assert policy.filesystem.rules == ()


def test_a_directory_that_can_be_listed_again_is_noticed(
    ground: Ground, closed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = observe(f"{ground.work}/**/.env", "glob")
    monkeypatch.undo()
    assert observe(f"{ground.work}/**/.env", "glob") != before


def test_a_failing_file_system_is_told(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    def scandir(where: str) -> object:
        raise OSError(5, "Input/output error", where)

    monkeypatch.setattr("nemoclaw_core.globs.os.scandir", scandir)
    told = ground.refused_filesystem("deny = ['**/.env']")
    assert '"**/.env" cannot be looked up: Input/output error' in told
