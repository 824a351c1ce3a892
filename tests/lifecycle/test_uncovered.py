"""A mask that the host takes away ends the sandbox.

Each case is what a person does while the agent runs; the kernel then detaches the mount that
covered or held the path. The agent looks once in half a second, and prints what it could see.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def save(path: Path, text: str) -> None:
    """As editors do: a new file, renamed over the old one."""
    new = path.with_name(path.name + ".new")
    new.write_text(text)
    new.rename(path)


ISLAND = 'version = 1\n[policy.default]\nextends = ["default"]\n[policy.default.filesystem]\n'
CASES: dict[str, tuple[Callable[[Path], object], str]] = {
    "saving .env": (lambda work: save(work / ".env", "SECRET=new\n"), "cat .env"),
    "removing the hooks": (
        lambda work: (work / ".git/hooks").rmdir(),
        "mkdir -p .git/hooks && echo planted > .git/hooks/pre-commit && echo SECRET",
    ),
    "moving .git": (
        lambda work: (work / ".git").rename(work / "aside"),
        "mkdir -p .git/hooks && echo planted > .git/hooks/pre-commit && echo SECRET",
    ),
    "saving an island": (
        lambda work: save(work / "config", "[core]\n"),
        "echo planted >> config && echo SECRET",
    ),
}


def prepared(cli: Any) -> Path:
    """The work directory, with what is covered in it."""
    (cli.work / ".env").write_text("SECRET=old\n")
    (cli.work / ".git/hooks").mkdir(parents=True)
    (cli.work / "config").write_text("[core]\n")
    (cli.home / "mine.toml").write_text(ISLAND + 'read = ["{workdir}/config"]\n')
    found: Path = cli.work
    return found


def start(cli: Any, name: str, attack: str) -> subprocess.Popen[bytes]:
    process: subprocess.Popen[bytes] = cli.start(
        "run", "--policy", str(cli.home / "mine.toml"), "--name", name, "--",
        "sh", "-c", f"echo up; while :; do {attack}; sleep 0.5; done 2>/dev/null",
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    return process


@pytest.mark.parametrize("case", CASES)
def test_it_ends_the_sandbox_before_the_agent_looks_again(cli: Any, case: str) -> None:
    happens, attack = CASES[case]
    work = prepared(cli)
    process = start(cli, "uncovered", attack)
    # While the agent sleeps: the instant at which the kernel swaps the two files is not ours.
    time.sleep(0.25)
    happens(work)
    output, errors = process.communicate(timeout=10)
    assert process.returncode == 125
    # A directory that moves takes its mask along, and that is seen within two seconds only.
    assert b"SECRET" not in output or case == "moving .git"
    assert b"was removed or replaced on the host" in errors
    codes = [record["metadata"]["event_code"] for record in cli.events("uncovered")]
    assert "view-uncovered" in codes


@pytest.mark.parametrize("case", CASES)
def test_the_attack_works_where_nothing_covers_the_path(cli: Any, case: str) -> None:
    happens, attack = CASES[case]
    work = prepared(cli)
    happens(work)
    done = subprocess.run(["sh", "-c", attack], cwd=work, capture_output=True, check=True)
    assert b"SECRET" in done.stdout


def test_other_changes_of_the_host_end_nothing(cli: Any) -> None:
    work = prepared(cli)
    process = start(cli, "calm", "test -e done && exit 3")
    save(work / "README", "new\n")
    (work / ".git/config").write_text("[core]\n")
    (work / "other").mkdir()
    (work / "other").rmdir()
    (work / "done").write_text("")
    process.communicate(timeout=10)
    assert process.returncode == 3
