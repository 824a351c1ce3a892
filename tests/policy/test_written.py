"""Where an agent could write is known by every name of the place, and of root's agents to all."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from nemoclaw_hookspecs import NemoclawError
from nemoclaw_testing.forked import run_forked

from nemoclaw_core import trust, written
from nemoclaw_core.aliases import Aliases
from nemoclaw_core.written import Roots

from ..callers import User
from ..desks import place
from .conftest import Ground
from .test_trust import MINE, lines, plan, plant, refusal, used, view

CLONE_NEWNS, CLONE_NEWUSER, MS_BIND, MS_REC, MS_PRIVATE = (
    0x20000,
    0x10000000,
    0x1000,
    0x4000,
    1 << 18,
)


def mount(source: Path, target: Path, flags: int = MS_BIND) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(os.fsencode(source), os.fsencode(target), None, flags, None) != 0:
        raise OSError(ctypes.get_errno(), "mount", str(target))


def apart(function: Callable[[], None]) -> None:
    """Run a function where it can mount what it likes."""

    def run() -> None:
        uid = os.geteuid()
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(CLONE_NEWNS | (CLONE_NEWUSER if uid else 0)) != 0:
            pytest.skip(f"no mount namespace here: {os.strerror(ctypes.get_errno())}")
        if uid:
            Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        mount(Path("none"), Path("/"), MS_REC | MS_PRIVATE)
        function()

    run_forked(run)


@pytest.fixture
def alias(ground: Ground) -> Path:
    """Where some of the work directory is mounted a second time."""
    path = ground.root / "a b\\c"
    path.mkdir()
    return path


@pytest.mark.parametrize("part", ["", "below"])
@pytest.mark.parametrize("first", ["mount", "note"])
def test_a_second_mount_of_a_noted_tree_is_noted(
    ground: Ground, alias: Path, part: str, first: str
) -> None:
    """The attack: what the agent planted is met by the other name."""
    plant(ground.work / "below/further")

    def attack() -> None:
        if first == "note":
            trust.record_writable(view(ground.work))
        mount(ground.work / part, alias)
        there = alias / ("further" if part else "below/further")
        assert (there / "policies.toml").exists()
        if first == "mount":
            assert used(ground, there) == 999, "it works before"
            trust.record_writable(view(ground.work))
        assert "is not used" in refusal(ground, there)
        (ground.work / "below/link").symlink_to(ground.home)
        link = there.parent / "link"
        assert trust.Way(str(link)).planted() is not None
        told = ground.refused_filesystem(f"read = ['{link}']")
        assert "an earlier agent could write" in told

    apart(attack)


def test_what_was_noted_by_the_second_name_is_known_by_the_first(
    ground: Ground, alias: Path
) -> None:
    plant(ground.work / "below")

    def attack() -> None:
        mount(ground.work, alias)
        trust.record_writable(view(alias))
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.umount2(os.fsencode(alias), 2) == 0

    apart(attack)
    assert "is not used" in refusal(ground, ground.work / "below")


def test_other_mounts_are_no_names(ground: Ground, alias: Path) -> None:
    for name in ("one", "one/in", "one-two"):
        (ground.root / name).mkdir()

    def look() -> None:
        mount(ground.root / "one", alias)
        names = Aliases().names
        assert set(names(str(ground.root / "one/in"))) == {
            str(ground.root / "one/in"),
            f"{alias}/in",
        }
        assert set(names(f"{alias}/in")) == set(names(str(ground.root / "one/in")))
        for other in ("one-two", "work", "."):
            path = os.path.normpath(ground.root / other)
            assert names(path) == [path]
        assert names("/") == ["/"]

    apart(look)


def test_what_was_guarded_is_guarded_by_its_other_name(ground: Ground, alias: Path) -> None:
    plant(ground.work, MINE)

    def look() -> None:
        mount(ground.work, alias)
        trust.record_writable(view(ground.work))
        assert used(ground, alias) == 7

    apart(look)


def test_two_slashes_in_front_change_nothing(ground: Ground) -> None:
    trust.record_writable(view(ground.work))
    assert list(written.above("//a/b")) == ["//a", "//"]
    assert trust.Way(f"/{ground.work}/x").path == f"{ground.work}/x"
    assert trust.Way(f"/{ground.work}/x").astray("/etc") == str(ground.work)


# --- root's agents


@pytest.fixture
def shared(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The machine's notes, in a place of this test's."""
    path = ground.root / "var/nemoclaw/writable-roots"
    path.parent.parent.mkdir()
    monkeypatch.setattr(written, "SHARED", str(path))
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(ground.home))
    return path


def need_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("this is about root alone")


def test_roots_notes_are_read_by_every_user(
    shared: Path, ground: Ground, users: dict[str, User]
) -> None:
    need_root()
    other = users["user"]
    plant(ground.work / "below")
    mask = os.umask(0o077)
    try:
        trust.record_writable(view(ground.work))
    finally:
        os.umask(mask)
    assert shared.read_text() == f"\nguarded {ground.work}\n"
    assert shared.stat().st_mode & 0o777 == 0o644
    assert shared.parent.stat().st_mode & 0o777 == 0o755
    with place(other, "shared") as home:
        # pytest's directories are root's alone.
        copy = home / "writable-roots"
        copy.write_text(shared.read_text())

        def look() -> None:
            other.become()
            os.environ["HOME"] = str(home)
            written.SHARED = "/nowhere"
            assert Roots().around(f"{ground.work}/below") is None, "it works before"
            written.SHARED = str(copy)
            assert Roots().around(f"{ground.work}/below") == str(ground.work)
            os.environ["XDG_STATE_HOME"] = str(home / "state")
            assert Roots().around(f"{ground.work}/below") == str(ground.work)
            assert trust.record_writable(view(Path("/a"))) == (str(ground.work), "/a")
            assert copy.read_text().count("\n") == 2

        run_forked(look)


def test_what_root_noted_before_is_shared_with_the_next_start(shared: Path, ground: Ground) -> None:
    need_root()
    trust.record_writable(view(ground.work))
    shared.unlink()
    trust.record_writable(view(ground.work))
    trust.record_writable(view(ground.work))
    assert shared.read_text() == f"\nguarded {ground.work}\n"


def test_a_state_directory_of_its_own_keeps_roots_notes(
    shared: Path, ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(ground.root / "state"))
    trust.record_writable(view(ground.work))
    assert not shared.parent.exists()
    assert lines(trust.ROOTS) == [f"guarded {ground.work}"]


@pytest.mark.parametrize("kind", ["writable by others", "of somebody else", "a link"])
def test_shared_notes_that_others_could_write_stop_everything(
    shared: Path, ground: Ground, kind: str
) -> None:
    shared.parent.mkdir()
    shared.write_text(f"\nguarded {ground.work}\n")
    shared.chmod(0o644)
    if kind == "writable by others":
        shared.chmod(0o666)
    elif kind == "a link":
        shared.symlink_to(shared.rename(shared.with_name("aside")))
    elif os.geteuid() == 0:
        os.chown(shared, 12345, 0)
    with pytest.raises(NemoclawError, match="writable-roots"):
        used(ground, ground.root / "elsewhere")


def test_a_directory_that_others_can_write_is_not_used(shared: Path, ground: Ground) -> None:
    need_root()
    shared.parent.mkdir()
    shared.parent.chmod(0o777)
    with pytest.raises(NemoclawError, match="only root can write"):
        trust.record_writable(view(ground.work))


def test_roots_agents_cannot_change_them(ground: Ground, shared: Path) -> None:
    need_root()
    trust.record_writable(plan(ground.work))
    policy = ground.filesystem(f"write = ['{ground.root}/var']")
    denied = [rule.path for rule in policy.filesystem.rules if rule.access == "deny"]
    assert str(shared.parent) in denied
