"""Claims about patterns that stand for more than a sandbox can be built with."""

from __future__ import annotations

from pathlib import Path

import pytest

from nemoclaw_core import globs
from nemoclaw_core.policy import crowds, permits

from .conftest import Ground

DENY = "write = ['{workdir}']\ndeny = ['**/.env']"


def spread(root: Path, count: int) -> None:
    for number in range(count):
        (root / f"{number}").mkdir(parents=True)
        (root / f"{number}/.env").write_text("")


def test_too_many_matches_are_refused_and_it_says_where_they_are(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crowds, "MOST", 40)
    spread(ground.work / "src", 3)
    assert ground.filesystem(DENY)
    spread(ground.work / "junk/pile", 20)
    told = ground.refused_filesystem(DENY)
    assert "matches 23 paths" in told
    assert f'most of them in "{ground.work}/junk/pile"' in told
    assert len(told) < 600


def test_the_directories_on_the_way_count(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path in a writable tree is held in place by a mount on each."""
    (ground.work / "a/b/c/d").mkdir(parents=True)
    (ground.work / "a/b/c/d/.env").write_text("")
    monkeypatch.setattr(crowds, "MOST", 5)
    assert ground.filesystem(DENY)
    monkeypatch.setattr(crowds, "MOST", 4)
    assert "matches 1 paths" in ground.refused_filesystem(DENY)


def test_what_lies_too_deep_is_denied_whole_and_the_user_is_told(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(globs, "DEEPEST", str(ground.work).count("/") + 2)
    (ground.work / "a/b/c/d").mkdir(parents=True)
    (ground.work / "a/x/y/z").mkdir(parents=True)
    policy = ground.filesystem(DENY)
    for path in ("a/b/c", "a/b/c/d/.env", "a/x/y"):
        assert permits(policy, f"{ground.work}/{path}") is None
    assert permits(policy, f"{ground.work}/a/b/other") == "write"
    (note,) = policy.filesystem.notes
    assert f'"{ground.work}/a/b/c" and 1 more: each is nested too deep' in note
    assert '"**/.env"' in note
    assert "filesystem.deny[0]" in note


def test_nothing_is_said_where_nothing_is_hidden(ground: Ground) -> None:
    (ground.work / "a").mkdir()
    assert ground.filesystem(DENY).filesystem.notes == ()


def test_what_lies_too_deep_is_not_granted(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(globs, "DEEPEST", str(ground.work).count("/") + 1)
    (ground.work / "a/b/lib").mkdir(parents=True)
    (ground.work / "lib").mkdir()
    policy = ground.filesystem("read = ['**/lib']")
    assert permits(policy, f"{ground.work}/lib") == "read"
    assert permits(policy, f"{ground.work}/a/b/lib") is None


def test_directories_that_cannot_be_looked_into_count(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attack: thousands of directories of mode 0, each of which is denied whole."""
    monkeypatch.setattr(crowds, "MOST", 40)
    pile = ground.work / "junk/pile"
    pile.mkdir(parents=True)
    shut = [f"{pile}/{number}" for number in range(50)]

    def expand(pattern: str, unlistable: list[str] | None = None) -> list[str]:
        assert unlistable is not None
        unlistable += shut
        return []

    monkeypatch.setattr(globs, "expand", expand)
    told = ground.refused_filesystem(DENY)
    assert "50 directories cannot be looked into" in told
    assert f'most of them in "{pile}"' in told
    # Where they would be granted, they are just not.
    assert ground.filesystem("read = ['**/lib']")
