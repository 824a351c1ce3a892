"""`nemoclaw run` by an ordinary user on a host that refuses user namespaces."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .conftest import Poor


def test_strict_refuses_and_says_what_to_do(poor: Poor) -> None:
    done = poor.nemoclaw("run", "--", "touch", "made")
    assert done.returncode == 125
    assert "no mount namespace" in done.stderr
    assert "remedy" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (poor.work / "made").exists()


def test_best_effort_runs_and_says_each_time_what_is_missing(poor: Poor) -> None:
    for _ in range(2):
        done = poor.agent("echo ran; cat /etc/shadow; kill -9 1")
        assert done.stdout == "ran\n"
        assert done.returncode == 1
        for kind in ("network", "mount", "pid"):
            assert f"{kind} namespace" in done.stderr
        assert "not enforced (mounts)" in done.stderr
