"""`nemoclaw run` by an ordinary user on a host that refuses user namespaces."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ..programs.conftest import Desk

WRAPPER = Path(__file__).with_name("without_user_namespaces.py")
POLICY = """version = 1
[policy.loose]
extends = ["default"]
[policy.loose.filesystem]
compatibility = "best-effort"
"""


def run(desk: Desk, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run nemoclaw in the desk's inside half, where no user namespace can be had."""
    wrapper = desk.base / WRAPPER.name
    wrapper.write_text(WRAPPER.read_text())
    wrapper.chmod(0o644)
    interpreter, *nemoclaw = desk.user.nemoclaw
    return subprocess.run(
        [interpreter, str(wrapper), interpreter, *nemoclaw, *arguments],
        cwd=desk.folder("inside"),
        env=desk.environment("inside"),
        capture_output=True,
        text=True,
        timeout=60,
        **desk.user.arguments(),
    )


@pytest.fixture
def poor(desk: Desk) -> Desk:
    if desk.user.uid == 0:
        pytest.skip("root needs no user namespace")
    policy = desk.base / "mine.toml"
    policy.write_text(POLICY)
    policy.chmod(0o644)
    return desk


def test_strict_refuses_and_says_what_to_do(poor: Desk) -> None:
    done = run(poor, "run", "--", "touch", "made")
    assert done.returncode == 125
    assert "no mount namespace" in done.stderr
    assert "remedy" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (poor.folder("inside") / "made").exists()


def test_best_effort_runs_and_says_each_time_what_is_missing(poor: Desk) -> None:
    for _ in range(2):
        policy = f"{poor.base}/mine.toml:loose"
        script = "echo ran; cat /etc/shadow; kill -9 1"
        done = run(poor, "run", "--policy", policy, "--", "sh", "-c", script)
        assert done.stdout == "ran\n"
        assert done.returncode == 1
        for kind in ("network", "mount", "pid"):
            assert f"{kind} namespace" in done.stderr
        assert "not enforced (mounts)" in done.stderr
