"""Claims about what is told of the places beside denied paths."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nemoclaw_core.observe import observe
from nemoclaw_core.policy import contents, load_observed

from .conftest import Ground

BODY = "compatibility = 'best-effort'\nwrite = ['{workdir}']\n"


def told(ground: Ground, rest: str) -> dict[str, dict[str, str]]:
    found = ground.filesystem(BODY + rest).filesystem.contents
    base = str(ground.work)
    return {path.replace(base, "W"): dict(inside) for path, inside in found.items()}


@pytest.fixture
def world(ground: Ground) -> Ground:
    for name in ("a/b/c", "a/x", "z"):
        (ground.work / name).mkdir(parents=True)
    (ground.work / "a/b/file").write_text("")
    (ground.work / "a/link").symlink_to("x")
    os.mkfifo(ground.work / "a/fifo")
    return ground


def test_every_directory_on_the_way_is_told(world: Ground) -> None:
    expected = {
        "W": {"a": "directory", "z": "directory"},
        "W/a": {"b": "directory", "x": "directory", "fifo": "file"},
        "W/a/b": {"c": "directory", "file": "file"},
    }
    assert told(world, "deny = ['a/b/c']") == expected
    assert told(world, "deny = ['a/b/new/er']") == expected
    assert told(world, "read = ['a/b/file']") == expected


def test_nothing_but_the_work_directory_is_told_where_nothing_is_denied(world: Ground) -> None:
    # A policy file of the next start could be made there.
    assert list(told(world, "")) == ["W"]
    assert told(world, "deny = ['/etc']").keys() == {"W"}


def test_a_strict_policy_needs_none(world: Ground) -> None:
    policy = world.filesystem("write = ['{workdir}']\ndeny = ['a/b/c']")
    assert policy.filesystem.contents == {}


def test_too_many_entries_are_not_told(world: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "MOST_ENTRIES", 5)
    assert list(told(world, "deny = ['a/b/c']")) == ["W"]


def test_an_entry_that_comes_or_changes_is_noticed(world: Ground) -> None:
    text = f"version = 1\n[policy.default.filesystem]\n{BODY}deny = ['a/b/c']\n"
    path = world.write(text)
    _, observations = load_observed(str(path), world.context)

    def holds() -> bool:
        return all(observe(each, what) == value for each, what, value in observations)

    assert holds()
    (world.work / "a/x/deeper").mkdir()
    assert holds(), "what is granted whole may change"
    new = Path(world.work, "a/new")
    new.mkdir()
    assert not holds()
    new.rmdir()
    assert holds()
    (world.work / "a/b/file").unlink()
    (world.work / "a/b/file").mkdir()
    assert not holds()


def test_only_a_policy_file_has_something_else_that_guards_it(world: Ground) -> None:
    private = (f"{world.work}/state",)
    policy = world.filesystem(BODY + "deny = ['a/new']", private_paths=private)
    fallbacks = {rule.path: rule.fallback for rule in policy.filesystem.rules}
    assert "`nemoclaw policy trust`" in fallbacks.pop(f"{world.work}/policies.toml")
    assert {f"{world.work}/state", f"{world.work}/a/new"} <= fallbacks.keys()
    assert set(fallbacks.values()) == {""}


def test_a_policy_file_that_is_there_or_is_denied_by_the_user_has_not(world: Ground) -> None:
    path = f"{world.work}/policies.toml"
    policy = world.filesystem(BODY + "deny = ['policies.toml']")
    assert {rule.fallback for rule in policy.filesystem.rules if rule.path == path} == {""}
    Path(path).write_text("version = 1\n")
    policy = world.filesystem(BODY)
    assert {rule.fallback for rule in policy.filesystem.rules if rule.path == path} == {""}


def test_the_users_own_policy_file_is_used_without_being_vouched_for(world: Ground) -> None:
    config = str(world.work / "a")
    policy = world.filesystem(BODY, config_dir=config, private_paths=())
    rules = {rule.path: rule for rule in policy.filesystem.rules}
    assert rules[f"{config}/policies.toml"].kind == "missing"
    assert rules[f"{config}/policies.toml"].fallback == ""
