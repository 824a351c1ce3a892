"""The attack: an agent takes the policy file away that the user's next start would find, so that
the start falls back to another one, which permits more."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
from nemoclaw_hookspecs import NemoclawError, PolicyError

from nemoclaw_core import planning, trust
from nemoclaw_core.cli import policy as command
from nemoclaw_core.observe import digest, observe
from nemoclaw_core.policy import load, load_observed

from .conftest import Ground
from .test_trust import MINE, plant, refusal, used, view

SHIPPED = 512
"""``max_processes`` of the policy that ships."""


@pytest.fixture
def path(ground: Ground) -> Path:
    """A policy file below a work directory, in use."""
    return plant(ground.work / "below", MINE)


def test_without_a_note_the_next_file_is_used(ground: Ground, path: Path) -> None:
    """The proof that the tests below can fail."""
    trust.record_writable(view(ground.work))
    path.unlink()
    assert used(ground, path.parent) == SHIPPED


@pytest.mark.parametrize("how", ["unlink", "move the directory", "an empty directory"])
@pytest.mark.parametrize("noted", ["vouched for", "used"])
def test_a_file_that_was_in_use_is_missed(ground: Ground, path: Path, noted: str, how: str) -> None:
    if noted == "used":
        trust.record_used(str(path))
    trust.record_writable(view(ground.work))
    if noted == "vouched for":
        trust.trust(str(path), digest(MINE.encode()))
    if how == "unlink":
        path.unlink()
    else:
        path.parent.rename(ground.work / "aside")
        path.parent.mkdir()
    if how == "an empty directory":
        path.mkdir()
        with pytest.raises(PolicyError):
            used(ground, path.parent)
        return
    told = refusal(ground, path.parent)
    assert "is not there any more" in told
    assert f"a sandbox could write to {ground.work}" in told
    assert f"nemoclaw policy trust --forget {path}" in told
    plant(path.parent, MINE)
    if noted == "vouched for":
        assert used(ground, path.parent) == 7


def test_forgetting_it_lets_the_next_one_be_used(ground: Ground, path: Path) -> None:
    trust.record_used(str(path))
    trust.trust(str(path), digest(MINE.encode()))
    trust.record_writable(view(ground.work))
    path.unlink()
    assert command.main(["trust", "--forget", str(path)]) == 0
    assert used(ground, path.parent) == SHIPPED
    trust.record_used(str(plant(path.parent, MINE)))
    path.unlink()
    assert "is not there any more" in refusal(ground, path.parent)


def test_a_file_where_no_sandbox_could_write_may_be_taken_away(ground: Ground) -> None:
    path = plant(ground.root / "elsewhere", MINE)
    trust.record_used(str(path))
    trust.record_writable(view(ground.work))
    path.unlink()
    assert used(ground, path.parent) == SHIPPED


def test_the_work_directorys_own_file_is_the_users_to_take_away(ground: Ground) -> None:
    path = plant(ground.work, MINE)
    trust.record_used(str(path))
    trust.record_writable(view(ground.work))
    path.unlink()
    assert used(ground, ground.work) == SHIPPED


def test_naming_a_policy_file_asks_for_no_other(ground: Ground, path: Path) -> None:
    trust.record_used(str(path))
    trust.record_writable(view(ground.work))
    path.unlink()
    other = ground.write(MINE)
    assert used(ground, path.parent, str(other)) == 7


def test_a_plan_without_the_file_is_compiled_anew_when_one_was_used(
    ground: Ground, path: Path
) -> None:
    """The file comes and goes between two starts without it."""
    content = path.read_bytes()
    trust.record_writable(view(ground.work))
    path.unlink()
    context = attrs.evolve(ground.context, cwd=str(path.parent))
    _, observations = load_observed(None, context)
    path.write_bytes(content)
    trust.trust(str(path), digest(content))
    path.unlink()
    assert any(observe(each, what) != value for each, what, value in observations)


def test_a_start_notes_the_file_that_it_found(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = ground.root / "elsewhere"
    path = plant(here, 'version = 1\n[policy.default]\nextends = ["default"]\n')
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(ground.home))
    try:
        planning.load_plan(None, str(ground.work), use_cache=False)
    except NemoclawError as error:
        pytest.skip(f"no agent starts on this host: {error}")
    trust.record_writable(view(here.parent))
    path.unlink()
    with pytest.raises(PolicyError, match="is not there any more"):
        load(None, context=attrs.evolve(ground.context, cwd=str(here)))
