"""What a control group says about memory, of either version."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nemoclaw_core.launcher import cgroups

V2 = {"memory.events": "low 0\nhigh 0\nmax 40\noom {met}\noom_kill {kills}\noom_group_kill 0\n"}
V1 = {
    "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill {kills}\n",
    "memory.failcnt": "{met}\n",
}


@pytest.mark.parametrize(
    ("limit", "files"), [("memory.max", V2), ("memory.limit_in_bytes", V1)], ids=["v2", "v1"]
)
@pytest.mark.parametrize(
    ("met", "kills", "counted"),
    [
        pytest.param(0, 0, 0, id="nothing happened"),
        pytest.param(3, 0, 0, id="the limit was met, and memory found"),
        pytest.param(3, 2, 2, id="the limit was met"),
        pytest.param(0, 1, 0, id="the host had no memory left"),
    ],
)
def test_processes_that_were_ended_for_the_limit_are_counted(
    tmp_path: Path, limit: str, files: dict[str, str], met: int, kills: int, counted: int
) -> None:
    group = tmp_path / "nemoclaw-box.1"
    group.mkdir()
    for name, text in files.items():
        (group / name).write_text(text.format(met=met, kills=kills))
    step: dict[str, Any] = {
        "op": "join_cgroup",
        "parent": str(tmp_path),
        "settings": [("pids.max", "5"), (limit, "1000")],
    }
    assert cgroups.memory_kills([step], [str(group)]) == counted


def test_a_group_without_a_memory_limit_says_nothing(tmp_path: Path) -> None:
    step: dict[str, Any] = {
        "op": "join_cgroup",
        "parent": str(tmp_path),
        "settings": [("pids.max", "5")],
    }
    assert cgroups.memory_kills([step], [f"{tmp_path}/nemoclaw-box.1"]) == 0
