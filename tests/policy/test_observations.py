"""Claims about what a cached plan depends on: whatever changes a policy changes an observation."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from nemoclaw_hookspecs import Policy

from nemoclaw_core.observe import LARGEST, observe
from nemoclaw_core.policy import load_observed

from .conftest import Ground

POLICY = """version = 1
[policy.default]
extends = ["base"]
[policy.default.filesystem]
read = ["{home}/lib", "/nowhere?"]
write = ["{workdir}"]
deny = ["**/.env", ".git/hooks"]
"""


def load(ground: Ground) -> tuple[Policy, list[tuple[str, str, str]]]:
    policy, observations = load_observed(None, ground.context)
    return policy, list(observations)


@pytest.fixture
def world(ground: Ground) -> Ground:
    (ground.home / "lib-1").mkdir()
    (ground.home / "lib").symlink_to("lib-1")
    (ground.work / "src").mkdir()
    ground.write(POLICY, folder=Path(ground.context.cwd))
    return ground


def holds(observations: list[tuple[str, str, str]]) -> bool:
    return all(observe(path, what) == value for path, what, value in observations)


def test_observations_hold_while_nothing_changes(world: Ground) -> None:
    policy, observations = load(world)
    assert holds(observations)
    assert len(set(observations)) == len(observations)
    (world.work / "src/file").write_text("an agent's work changes nothing")
    assert holds(observations)
    assert load(world)[0] == policy


def relink(ground: Ground) -> None:
    (ground.home / "lib").unlink()
    (ground.home / "lib").symlink_to(".ssh")


CHANGES: list[Callable[[Ground], object]] = [
    lambda ground: Path(ground.context.cwd, "policies.toml").write_text(POLICY + "\n"),
    lambda ground: Path(ground.context.cwd, "policies.toml").unlink(),
    lambda ground: (ground.work / "src/.env").write_text(""),
    lambda ground: (ground.work / ".git").mkdir(),
    lambda ground: (ground.work / "policies.toml").write_text(""),
    lambda ground: (ground.home / "lib-1").rename(ground.home / "lib-2"),
    lambda ground: (ground.work / "src/.env").symlink_to("/etc"),
    relink,
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_that_matters_is_noticed(world: Ground, change: Callable[[Ground], None]) -> None:
    _, observations = load(world)
    change(world)
    assert not holds(observations)


def test_a_policy_file_that_appears_where_it_is_looked_up_first_is_noticed(ground: Ground) -> None:
    own = ground.write(POLICY, folder=Path(ground.context.config_dir))
    (ground.home / "lib").mkdir()
    policy, observations = load(ground)
    assert policy.file == str(own)
    ground.write(POLICY, folder=Path(ground.context.cwd))
    assert not holds(observations)


def test_values_say_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    (tmp_path / "d").mkdir()
    (tmp_path / "l").symlink_to("a:b")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "fifo")
    ids = f"{os.geteuid()}:{os.stat(tmp_path / 'f').st_gid}"
    assert observe(str(tmp_path / "f"), "lstat") == f"file:{ids}"
    assert observe(str(tmp_path / "d"), "lstat") == f"directory:{ids}"
    assert observe(str(tmp_path / "l"), "lstat") == f"link:a:b:{ids}"
    assert observe("/dev/null", "lstat") == "device:0:0"
    assert observe(str(tmp_path / "none"), "lstat") == "missing"
    assert observe(str(tmp_path / "f/x"), "lstat") == "missing"
    assert observe(str(tmp_path / "loop/x"), "lstat") == "unreadable"
    assert len(observe(str(tmp_path / "f"), "file")) == 64
    assert observe(str(tmp_path / "fifo"), "lstat") == f"fifo:{ids}"
    for name in ("none", "d", "fifo", "loop"):
        assert observe(str(tmp_path / name), "file") == "none"
    with pytest.raises(ValueError, match="no such observation"):
        observe("/", "stat")


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    """The attack: `truncate -s 8G policies.toml`, where the next start looks for one."""
    path = tmp_path / "policies.toml"
    path.write_bytes(b"x" * LARGEST)
    assert len(observe(str(path), "file")) == 64
    for size in (LARGEST + 1, 1 << 43):
        os.truncate(path, size)
        before = observe(str(path), "file")
        assert before.startswith(f"large:{size}:")
        with path.open("r+b") as file:
            file.write(b"other")
        os.utime(path, (1, 1))
        assert observe(str(path), "file") != before


def test_names_with_line_ends_cannot_pose_as_two(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    (tmp_path / "b").write_text("")
    two = observe(f"{tmp_path}/*", "glob")
    (tmp_path / "a").unlink()
    (tmp_path / "b").unlink()
    (tmp_path / "a\nb").write_text("")
    assert observe(f"{tmp_path}/*", "glob") != two


def test_looking_again_imports_nothing_heavy() -> None:
    code = (
        "import sys; before = set(sys.modules); import nemoclaw_core.observe; "
        "print(*sorted(set(sys.modules) - before))"
    )
    start = f"import sys; sys.path[:0] = {sys.path!r}; {code}"
    command = [sys.executable, "-I", "-S", "-c", start]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert "nemoclaw_core.observe" in out
    heavy = {"re", "json", "enum", "typing", "fnmatch", "hashlib", "attr", "nemoclaw_core.policy"}
    assert not heavy & set(out)
