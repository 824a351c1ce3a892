"""Claims about which policy is meant: a name, a file, a file and a name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
from nemoclaw_hookspecs import PolicyError

from nemoclaw_core.launcher import anchors
from nemoclaw_core.observe import observe
from nemoclaw_core.policy import load
from nemoclaw_core.policy.files import SHIPPED
from nemoclaw_core.policy.locate import split_selector
from nemoclaw_core.policy.resolve import load_observed

from .conftest import Ground

NAMED = "version = 1\n[policy.{}]\nprocess.max_processes = {}\n"


@pytest.mark.parametrize(
    ("selector", "parts"),
    [
        (None, (None, "default")),
        ("strict", (None, "strict")),
        ("my.policy", (None, "my.policy")),
        ("policies.toml", ("policies.toml", "default")),
        ("./x", ("./x", "default")),
        ("x.toml:strict", ("x.toml", "strict")),
        ("/a:b/x.toml", ("/a:b/x.toml", "default")),
        ("/a:b/x.toml:c", ("/a:b/x.toml", "c")),
        ("dir/x:c", ("dir/x", "c")),
    ],
)
def test_a_selector_is_a_name_a_file_or_both(
    selector: str | None, parts: tuple[str | None, str]
) -> None:
    assert split_selector(selector) == parts


@pytest.mark.parametrize("selector", [":", "a:b", "x.toml:", "x.toml:a b", "a b", "x:y.z\n"])
def test_what_names_nothing_is_refused(selector: str) -> None:
    with pytest.raises(PolicyError, match="names no policy"):
        split_selector(selector)


def found(ground: Ground, selector: str | None) -> tuple[str, int]:
    policy = load(selector, context=ground.context)
    return policy.file, policy.process.max_processes


def test_a_name_is_looked_up_here_then_in_the_users_file_then_in_the_shipped_one(
    ground: Ground,
) -> None:
    assert found(ground, None) == (SHIPPED, 512)
    own = ground.write(NAMED.format("default", 7), folder=Path(ground.context.config_dir))
    assert found(ground, None) == (str(own), 7)
    here = ground.write(NAMED.format("default", 8), folder=Path(ground.context.cwd))
    assert found(ground, None) == (str(here), 8)
    assert found(ground, "default") == (str(here), 8)
    # Only the file that has the name counts.
    here.write_text(NAMED.format("other", 9))
    assert found(ground, None) == (str(own), 7)
    assert found(ground, "other") == (str(here), 9)
    assert found(ground, "readonly")[0] == SHIPPED


def test_a_file_is_read_from_the_current_directory(ground: Ground) -> None:
    path = ground.write(NAMED.format("x", 5), "mine.toml", Path(ground.context.cwd))
    assert found(ground, "mine.toml:x") == (str(path), 5)
    assert found(ground, "./../elsewhere/mine.toml:x") == (str(path), 5)
    assert found(ground, f"{path}:x") == (str(path), 5)


def refused(ground: Ground, selector: str) -> PolicyError:
    with pytest.raises(PolicyError) as caught:
        load(selector, context=ground.context)
    return caught.value


def test_an_unknown_name_is_told_with_the_nearest_and_all_there_are(ground: Ground) -> None:
    ground.write(NAMED.format("mine", 5), folder=Path(ground.context.cwd))
    error = refused(ground, "raedonly")
    assert error.what == 'there is no policy "raedonly"'
    assert error.remedy == "did you mean readonly? There is mine, base, default, readonly"
    assert f"{ground.context.cwd}/policies.toml" in str(error.where)
    error = refused(ground, f"{ground.context.cwd}/policies.toml:default")
    assert error.remedy == "name one that is there. There is mine"


def test_a_broken_file_is_never_passed_over(ground: Ground) -> None:
    """The next file may permit more than the one that cannot be read."""
    here = ground.write("version = 1\n[policy.default\n", folder=Path(ground.context.cwd))
    assert "is not TOML" in str(refused(ground, "default"))
    here.write_text(NAMED.format("default", "'x'"))
    assert "max_processes" in str(refused(ground, "readonly"))
    here.write_text(NAMED.format("default", 5))
    here.chmod(0o666)
    assert "anybody can write it" in str(refused(ground, "readonly"))
    here.unlink()
    here.symlink_to("nowhere")
    assert "no such policy file" in str(refused(ground, "default"))
    here.unlink()
    here.mkdir()
    (here / "x").touch()
    assert "is a directory" in str(refused(ground, "default"))


def anchored(path: Path) -> None:
    """Mark a directory as one that a running sandbox keeps, as its launcher does."""
    path.chmod(0o1755)
    assert anchors.is_empty_anchor(str(path))


def test_the_mount_point_that_a_running_sandbox_keeps_there_is_no_file(ground: Ground) -> None:
    here = Path(ground.context.cwd, "policies.toml")
    here.mkdir(mode=0o755)
    error = refused(ground, "default")
    anchored(here)
    assert found(ground, None)[0] == SHIPPED
    policy, observations = load_observed(None, ground.context)
    assert policy.file == SHIPPED
    # A plan that was made meanwhile holds as long as that is true, and no longer.
    assert {observe(path, what) == value for path, what, value in observations} == {True}
    here.chmod(0o755)
    assert {observe(path, what) == value for path, what, value in observations} == {True, False}
    assert str(refused(ground, "default")) == str(error)


def test_a_directory_in_the_place_of_a_policy_file_is_never_passed_over(ground: Ground) -> None:
    for folder in (ground.context.cwd, ground.context.config_dir):
        here = Path(folder, "policies.toml")
        here.mkdir()
        error = refused(ground, "default")
        assert error.what == "is a directory, where a policy file is looked for"
        assert error.where == str(here)
        assert f"rmdir {here}" in str(error.remedy)
        anchored(here)
        assert found(ground, None)[0] == SHIPPED
        (here / "x").touch()
        assert refused(ground, "default").what == error.what
        (here / "x").unlink()
        here.rmdir()


def test_only_what_is_surely_absent_is_passed_over(ground: Ground, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    context = attrs.evolve(ground.context, config_dir=str(tmp_path / "file/nemoclaw"))
    assert load(None, context=context).file == SHIPPED
    (tmp_path / "loop").symlink_to("loop")
    context = attrs.evolve(ground.context, config_dir=str(tmp_path / "loop"))
    with pytest.raises(PolicyError, match="cannot be looked for: Too many levels") as caught:
        load(None, context=context)
    assert "name the policy's file with --policy" in str(caught.value.remedy)


def test_a_context_is_absolute(ground: Ground) -> None:
    for name in ("workdir", "home", "cwd", "config_dir"):
        changed: dict[str, Any] = {name: "relative"}
        with pytest.raises(ValueError, match=f"{name} must be absolute"):
            attrs.evolve(ground.context, **changed)
