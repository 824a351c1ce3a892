"""The attack: an agent writes a policy file below its work directory, where nothing keeps it from
doing so, and its user later starts nemoclaw there."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
from nemoclaw_hookspecs import (
    BindMount,
    EnterView,
    LandlockRule,
    LandlockRuleset,
    Mask,
    NemoclawError,
    Operation,
    Plan,
    PolicyError,
    Step,
    UsageError,
)

from nemoclaw_core import names, seal, trust
from nemoclaw_core.cli import policy as command
from nemoclaw_core.events.record import Context as EventContext
from nemoclaw_core.observe import digest
from nemoclaw_core.policy import load
from nemoclaw_core.policy.files import SHIPPED
from nemoclaw_core.supervisor.session import Session

from .conftest import Ground

MINE = "version = 1\n[policy.default]\nprocess.max_processes = 7\n"
PLANTED = "version = 1\n[policy.default]\nprocess.max_processes = 999\n"
WRITE_FILE, READ_FILE, MAKE_REG = 1 << 1, 1 << 2, 1 << 8


@pytest.fixture
def state(ground: Ground) -> Path:
    """Where nemoclaw keeps its notes; ``ground`` has seen to it that this is nobody's own."""
    return Path(os.environ["XDG_STATE_HOME"]) / "nemoclaw"


def plan(workdir: Path, *operations: Operation) -> dict[str, Any]:
    """An encoded plan with these operations."""
    steps = tuple(Step(plugin="x", operation=each) for each in operations)
    return seal.encode(Plan(policy="p", steps=steps, layers=(), workdir=str(workdir)))


def view(workdir: Path, *operations: Operation) -> dict[str, Any]:
    """The plan of an everyday start: the work directory can be written, its policy file cannot."""
    own = Mask(target=f"{workdir}/policies.toml", kind="missing")
    return plan(workdir, written(workdir), own, EnterView(), *operations)


def written(path: Path) -> BindMount:
    return BindMount(source=str(path), target=str(path), kind="directory", read_only=False)


def plant(folder: Path, text: str = PLANTED) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "policies.toml"
    path.write_text(text)
    path.chmod(0o644)
    return path


def used(ground: Ground, cwd: Path, selector: str | None = None) -> int:
    """``max_processes`` of the policy that a start in ``cwd`` uses."""
    context = attrs.evolve(ground.context, cwd=str(cwd))
    return load(selector, context=context).process.max_processes


def refusal(ground: Ground, cwd: Path) -> str:
    with pytest.raises(PolicyError) as caught:
        used(ground, cwd)
    return str(caught.value)


def test_without_the_note_the_planted_file_is_used(ground: Ground) -> None:
    """The proof that the tests below can fail."""
    plant(ground.work / "below")
    assert used(ground, ground.work / "below") == 999


def test_a_file_below_what_a_sandbox_could_write_is_not_used(ground: Ground) -> None:
    trust.record_writable(view(ground.work))
    path = plant(ground.work / "below/further")
    told = refusal(ground, path.parent)
    assert f"{path}: is not used" in told
    assert f"a sandbox could write to {ground.work}" in told
    assert f"look at it, then `nemoclaw policy trust {path}`" in told


def test_it_is_not_passed_over_for_the_next_file(ground: Ground) -> None:
    trust.record_writable(view(ground.work))
    path = plant(ground.work / "below", "version = 1\n[policy.other]\n")
    with pytest.raises(PolicyError, match="is not used"):
        used(ground, path.parent, "strict")


def test_it_is_not_even_parsed(ground: Ground) -> None:
    trust.record_writable(view(ground.work))
    path = plant(ground.work / "below", "not a policy")
    assert "is not used" in refusal(ground, path.parent)


def test_naming_the_file_is_the_users_own_choice(ground: Ground) -> None:
    trust.record_writable(view(ground.work))
    path = plant(ground.work / "below")
    assert used(ground, path.parent, "./policies.toml") == 999
    assert used(ground, ground.work, str(path)) == 999


def test_the_work_directorys_own_file_needs_no_trust(ground: Ground) -> None:
    plant(ground.work, MINE)
    trust.record_writable(view(ground.work))
    assert used(ground, ground.work) == 7


def test_a_place_that_no_sandbox_could_write_needs_no_trust(ground: Ground) -> None:
    trust.record_writable(view(ground.work))
    for name in ("elsewhere", "work-2"):
        plant(ground.root / name, MINE)
        assert used(ground, ground.root / name) == 7


def test_the_users_own_file_is_used_below_a_written_home(ground: Ground) -> None:
    plant(Path(ground.context.config_dir), MINE)
    trust.record_writable(view(ground.home))
    assert used(ground, ground.root / "elsewhere") == 7


def test_the_users_own_file_elsewhere_is_no_agents(ground: Ground) -> None:
    """The attack: the starts before knew nothing of the directory that this one's XDG_CONFIG_HOME
    names, so an agent could write there."""
    path = plant(ground.home / "mine/nemoclaw")
    context = attrs.evolve(ground.context, config_dir=str(path.parent))
    assert load(context=context).process.max_processes == 999
    trust.record_writable(view(ground.home))
    with pytest.raises(PolicyError, match="an agent may have written it"):
        load(context=context)
    trust.trust(str(path), digest(path.read_bytes()))
    assert load(context=context).process.max_processes == 999


def test_a_work_directory_below_another_ones_is_not_its_own_master(ground: Ground) -> None:
    inner = ground.work / "inner"
    plant(inner, MINE)
    trust.record_writable(view(inner))
    assert used(ground, inner) == 7
    trust.record_writable(view(ground.work))
    assert "could write to" in refusal(ground, inner)


def test_a_work_directory_that_another_sandbox_could_write_openly(ground: Ground) -> None:
    other = ground.root / "elsewhere"
    plant(ground.work, MINE)
    trust.record_writable(view(ground.work))
    trust.record_writable(view(other, written(ground.work)))
    assert "could write to" in refusal(ground, ground.work)
    trust.record_writable(view(ground.work))
    assert "could write to" in refusal(ground, ground.work), "a later start takes nothing back"


def test_what_is_read_only_or_a_device_is_not_written(ground: Ground) -> None:
    other = ground.root / "elsewhere"
    trust.record_writable(
        view(
            ground.work,
            BindMount(source=str(other), target=str(other), kind="directory"),
            BindMount(source="/dev/x", target="/dev/x", kind="device", read_only=False),
        )
    )
    plant(other, MINE)
    assert used(ground, other) == 7
    assert lines(trust.ROOTS) == [f"guarded {ground.work}"]


def test_a_single_file_that_could_be_written_is_not_used(ground: Ground) -> None:
    path = str(plant(ground.root / "elsewhere"))
    assert used(ground, ground.root / "elsewhere") == 999
    file = BindMount(source=path, target=path, kind="file", read_only=False)
    trust.record_writable(view(ground.work, file))
    assert "could write to" in refusal(ground, ground.root / "elsewhere")


def test_without_a_view_the_landlock_rules_say_what_could_be_written(ground: Ground) -> None:
    other = ground.root / "elsewhere"
    rules = (
        LandlockRule(path=str(ground.work), access=WRITE_FILE | MAKE_REG),
        LandlockRule(path=str(other), access=READ_FILE),
        LandlockRule(path="/dev/null", access=WRITE_FILE),
    )
    handled = WRITE_FILE | READ_FILE | MAKE_REG
    trust.record_writable(plan(ground.work, LandlockRuleset(handled_fs=handled, rules=rules)))
    assert lines(trust.ROOTS) == [f"open {ground.work}"]
    plant(ground.work)
    assert "could write to" in refusal(ground, ground.work), "nothing guarded it"
    plant(other, MINE)
    assert used(ground, other) == 7


@pytest.mark.parametrize("operations", [(), (LandlockRuleset(handled_fs=0, handled_net=1),)])
def test_without_either_the_work_directory_could_be_written(
    ground: Ground, operations: tuple[Operation, ...]
) -> None:
    trust.record_writable(plan(ground.work, *operations))
    plant(ground.work / "below")
    assert "could write to" in refusal(ground, ground.work / "below")


@pytest.mark.parametrize("spelling", ["link", "link/../work/below", "elsewhere/../work/./below"])
def test_another_spelling_of_the_directory_changes_nothing(ground: Ground, spelling: str) -> None:
    trust.record_writable(view(ground.work))
    plant(ground.work / "below")
    (ground.root / "link").symlink_to(ground.work / "below")
    target = ground.root / spelling.replace("link/..", "elsewhere/..")
    assert "could write to" in refusal(ground, target)


def test_a_link_of_the_users_own_into_such_a_place_is_not_followed(ground: Ground) -> None:
    here = ground.root / "elsewhere"
    (here / "policies.toml").symlink_to(plant(ground.work / "below"))
    assert used(ground, here) == 999
    trust.record_writable(view(ground.work))
    assert "could write to" in refusal(ground, here)


def test_a_link_planted_in_such_a_place_does_not_launder_another_file(ground: Ground) -> None:
    wide = plant(ground.root / "wide")
    (ground.work / "below").mkdir()
    (ground.work / "below/policies.toml").symlink_to(wide)
    assert used(ground, ground.work / "below") == 999
    trust.record_writable(view(ground.work))
    trust.trust(str(wide), digest(PLANTED.encode()))
    assert "could write to" in refusal(ground, ground.work / "below")


def test_trusted_until_it_is_edited(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trust.record_writable(view(ground.work))
    path = plant(ground.work / "below", MINE)
    other = plant(ground.work / "other", MINE)
    assert "is not used" in refusal(ground, path.parent)
    monkeypatch.chdir(path.parent)
    assert command.main(["trust", "--yes", "policies.toml"]) == 0
    told = capsys.readouterr().out
    assert f"{path}: trusted (default)" in told
    assert digest(MINE.encode()) in told
    assert used(ground, path.parent) == 7
    assert "is not used" in refusal(ground, other.parent), "trust is for one path"
    plant(path.parent, PLANTED)
    assert "is not used" in refusal(ground, path.parent)


def test_trusted_by_another_spelling_of_its_directory(ground: Ground) -> None:
    trust.record_writable(view(ground.work))
    path = plant(ground.work / "below", MINE)
    (ground.root / "link").symlink_to(path.parent)
    assert trust.trust(f"{ground.root}/link/policies.toml", digest(MINE.encode())) == str(path)
    assert used(ground, path.parent) == 7


def test_an_earlier_version_is_not_trusted_any_more(ground: Ground) -> None:
    trust.record_writable(view(ground.work))
    path = plant(ground.work / "below", PLANTED)
    trust.trust(str(path), digest(PLANTED.encode()))
    assert used(ground, path.parent) == 999
    plant(path.parent, MINE)
    trust.trust(str(path), digest(MINE.encode()))
    assert used(ground, path.parent) == 7
    plant(path.parent, PLANTED)
    assert "is not used" in refusal(ground, path.parent)


def test_only_what_would_be_found_and_is_valid_can_be_trusted(ground: Ground) -> None:
    odd = ground.write(MINE, name="other.toml")
    with pytest.raises(UsageError, match="--policy"):
        command.main(["trust", "--yes", str(odd)])
    with pytest.raises(PolicyError):
        command.main(["trust", "--yes", str(plant(ground.work, "not a policy"))])
    assert lines(trust.TRUSTED) == []


def lines(name: str) -> list[str]:
    path = Path(os.environ["XDG_STATE_HOME"]) / "nemoclaw" / name
    return path.read_text().split("\n")[1:-1:2] if path.exists() else []


def test_what_is_known_is_not_noted_again(ground: Ground) -> None:
    for _ in range(3):
        trust.record_writable(view(ground.work, written(ground.work / ".git")))
    trust.record_writable(view(ground.work / "inner"))
    assert lines(trust.ROOTS) == [f"guarded {ground.work}"]
    trust.record_writable(plan(ground.work, written(ground.work), EnterView()))
    trust.record_writable(view(ground.work))
    assert lines(trust.ROOTS) == [f"guarded {ground.work}", f"open {ground.work}"]


@pytest.mark.parametrize("name", ["a b", "a\nb", "a\\nb", "a\\\nopen x", "\udcff", "é"])
def test_any_file_name_is_noted_as_it_is(ground: Ground, name: str) -> None:
    trust.record_writable(view(ground.root / name))
    below = plant(ground.root / name / "below")
    assert "is not used" in refusal(ground, below.parent)
    beside = plant(ground.root / (name + "x"), MINE)
    assert used(ground, beside.parent) == 7
    trust.trust(str(below), digest(PLANTED.encode()))
    assert used(ground, below.parent) == 999


def test_the_root_as_a_written_tree_covers_everything(ground: Ground) -> None:
    trust.record_writable(plan(Path("/"), written(Path("/")), EnterView()))
    plant(ground.work)
    assert "could write to /" in refusal(ground, ground.work)


def test_the_notes_are_the_owners_alone(ground: Ground, state: Path) -> None:
    trust.record_writable(view(ground.work))
    trust.trust(str(plant(ground.work)), "0")
    for name in (trust.ROOTS, trust.TRUSTED):
        assert (state / name).stat().st_mode & 0o777 == 0o600
        with pytest.raises(UsageError):
            names.check_name(name)


@pytest.mark.parametrize("name", [trust.ROOTS, trust.TRUSTED])
@pytest.mark.parametrize("kind", ["writable by others", "a link", "a second name", "a directory"])
def test_notes_that_cannot_be_relied_on_stop_everything(
    ground: Ground, state: Path, name: str, kind: str
) -> None:
    trust.record_writable(view(ground.work))
    path = plant(ground.work / "below")
    trust.trust(str(path), digest(PLANTED.encode()))
    assert used(ground, path.parent) == 999
    spoil(state / name, kind)
    with pytest.raises(NemoclawError, match=name):
        used(ground, path.parent)
    if name == trust.ROOTS:
        with pytest.raises(NemoclawError, match=name):
            trust.record_writable(view(ground.root / "elsewhere"))


def spoil(path: Path, kind: str) -> None:
    if kind == "writable by others":
        path.chmod(0o666)
        return
    aside = path.with_name("aside")
    if kind == "a second name":
        os.link(path, aside)
        return
    path.rename(aside)
    if kind == "a link":
        path.symlink_to(aside)
    else:
        path.mkdir()


def test_a_line_that_was_cut_short_does_not_hide_the_next(ground: Ground, state: Path) -> None:
    trust.record_writable(view(ground.root / "elsewhere"))
    with (state / trust.ROOTS).open("a") as file:
        file.write("\nguard")
    trust.record_writable(view(ground.work))
    plant(ground.work / "below")
    assert "could write to" in refusal(ground, ground.work / "below")


def test_open_stays_open_when_another_start_notes_its_guard_later(
    ground: Ground, state: Path
) -> None:
    trust.record_writable(plan(ground.work, written(ground.work), EnterView()))
    with (state / trust.ROOTS).open("a") as file:
        file.write(f"\nguarded {ground.work}\n")
    plant(ground.work)
    assert "could write to" in refusal(ground, ground.work)


def test_starts_at_the_same_time_lose_nothing(ground: Ground) -> None:
    folders = [ground.root / f"w{index}" for index in range(8)]
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=trust.record_writable, args=(view(f),)) for f in folders]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert sorted(lines(trust.ROOTS)) == [f"guarded {folder}" for folder in folders]


class Spy:
    """In the place of the launcher and of the log of a session."""

    def __init__(self, spawn: Callable[[], None]) -> None:
        self._spawn = spawn
        self.spawned = False

    def append(self, *records: Mapping[str, Any]) -> None:
        """Take a record and forget it."""

    def spawn(
        self, name: str, remove: tuple[str, ...], written: tuple[str, ...] = ()
    ) -> tuple[int, None]:
        self.spawned = True
        self._spawn()
        return 0, None


def session(spy: Any, encoded: dict[str, Any]) -> Session:
    return Session(spy, encoded, EventContext("x"), spy)


def test_a_session_notes_it_before_anything_is_started(ground: Ground) -> None:
    seen: list[str] = []
    session(Spy(lambda: seen.extend(lines(trust.ROOTS))), view(ground.work))
    assert seen == [f"guarded {ground.work}"]


def test_a_session_that_cannot_note_it_starts_nothing(ground: Ground, state: Path) -> None:
    (state / trust.ROOTS).mkdir(parents=True, mode=0o700)
    state.chmod(0o700)
    spy = Spy(lambda: None)
    with pytest.raises(NemoclawError, match=trust.ROOTS):
        session(spy, view(ground.work))
    assert not spy.spawned


def test_nothing_heavy_is_imported_on_the_way_of_a_start() -> None:
    program = (
        "import sys; before = set(sys.modules); import nemoclaw_core.trust; "
        "print(*(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    heavy = {"json", "re", "typing", "enum", "hashlib", "attr", "attrs", "pathlib", "shlex"}
    assert not heavy & set(done.stdout.split())


def test_no_file_at_all_is_no_problem(ground: Ground) -> None:
    trust.record_writable(view(ground.work))
    context = attrs.evolve(ground.context, cwd=str(ground.work))
    assert load(None, context=context).file == SHIPPED
