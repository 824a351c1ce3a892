"""The launcher process, driven as its supervisor drives it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nemoclaw_core.launcher import wire
from nemoclaw_core.supervisor.launcher import Launcher


def step(op: str, **fields: Any) -> dict[str, Any]:
    return {"op": op, "plugin": "test", "origin": "", **fields}


def bind(path: str, *, read_only: bool) -> dict[str, Any]:
    return step(
        "bind_mount", source=path, target=path, kind="directory", read_only=read_only, owner=None
    )


@pytest.fixture
def work() -> Iterator[Path]:
    found = Path(tempfile.mkdtemp(prefix="nemoclaw-launcher-", dir="/var/tmp"))
    yield found
    shutil.rmtree(found)


def plan_for(work: Path, *more: dict[str, Any]) -> dict[str, Any]:
    """A plan with a mask of a missing path, and whatever comes after it."""
    spaces = ["mount", "pid"] if os.getuid() == 0 else ["user", "mount", "pid"]
    return {
        "steps": [
            step("unshare", namespaces=spaces),
            bind("/usr", read_only=True),
            step("proc", target="/proc", masked=[]),
            bind(str(work), read_only=False),
            bind(f"{work}/.git", read_only=False),
            step("mask", target=f"{work}/.git/hooks", kind="missing"),
            *more,
            step("enter_view"),
        ]
    }


def reports(launcher: Launcher) -> list[tuple[int, int, int, str]]:
    """What a sandbox reports until it is ready, or gone."""
    _, channel = launcher.spawn(f"test{os.getpid()}")
    found = []
    while (report := wire.receive_report(channel)) is not None:
        found.append(report[:4])
        if report[0] == wire.READY:
            break
    channel.close()
    return found


def test_a_mask_of_a_missing_path_is_made_and_goes(work: Path, tmp_path: Path) -> None:
    launcher = Launcher.execute()
    launcher.prepare(plan_for(work), (str(tmp_path),))
    assert reports(launcher)[-1][0] == wire.READY
    assert (work / ".git/hooks").is_dir()
    launcher.close()
    assert list(work.iterdir()) == []
    assert list(tmp_path.iterdir()) == []


def test_a_preparation_that_fails_leaves_nothing_behind(work: Path, tmp_path: Path) -> None:
    """The masks before the failure are mounted by then; they are in the way of the clean-up."""
    missing = f"{work}/a/b/c/d"
    launcher = Launcher.execute()
    launcher.prepare(plan_for(work, bind(missing, read_only=True)), (str(tmp_path),))
    (report,) = reports(launcher)
    assert report[0] == wire.FAILED
    assert report[1] == 6, "the step that failed"
    launcher.close()
    assert list(work.iterdir()) == []
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_plan_is_reported_by_each_spawn() -> None:
    launcher = Launcher.execute()
    launcher.prepare({"steps": [step("exec")]})
    for _ in range(2):
        (report,) = reports(launcher)
        assert report[0] == wire.FAILED
        assert "there is no operation 'exec'" in report[3]
    launcher.close()


def test_without_a_plan_nothing_is_built() -> None:
    launcher = Launcher.execute()
    assert reports(launcher)[0][0] == wire.FAILED
    launcher.close()
