"""Claims about the fixture that runs a command in a real sandbox."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nemoclaw_testing.pytest_plugin import RunInSandbox


def test_a_command_runs_behind_the_default_policy(sandbox: RunInSandbox, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("outside")
    done = sandbox(["sh", "-c", f"cat; echo made > file; cat {secret}"], input=b"hello\n")
    assert done.stdout == b"hello\n"
    assert done.returncode != 0
    assert (tmp_path / "work" / "file").read_text() == "made\n"


def test_a_policy_of_the_tests_own_is_used(sandbox: RunInSandbox, tmp_path: Path) -> None:
    policy = tmp_path / "mine.toml"
    policy.write_text(
        'version = 1\n[policy.default]\nextends = ["base"]\n'
        '[policy.default.filesystem]\nread = ["{workdir}"]\n'
        '[policy.default.process.environment]\nset = { COLOUR = "blue" }\n'
    )
    done = sandbox(["sh", "-c", "echo $COLOUR; touch file"], policy=policy)
    assert done.stdout == b"blue\n"
    assert done.returncode != 0
    assert not (tmp_path / "work" / "file").exists()


def test_nothing_of_the_users_is_touched(sandbox: RunInSandbox) -> None:
    sandbox(["true"])
    for variable in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
        assert "nemoclaw-" in os.environ[variable]
