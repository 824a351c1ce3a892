"""A name that an agent chose reaches no terminal with its control sequences."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
from nemoclaw_hookspecs.errors import NemoclawError

from nemoclaw_core.cli import report

ESCAPE = "\x1b]0;owned\x07\u202e"
SHOWN = "\\x1b]0;owned\\x07\\u202e"


def plant(cli: Any) -> None:
    """Let an agent make a directory with a file that the policy then denies."""
    script = "import os, sys; os.mkdir(sys.argv[1]); open(sys.argv[1] + '/.env', 'w')"
    done = cli.sandbox("/usr/bin/python3", "-c", script, ESCAPE)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("words", [("run", "--dry-run"), ("policy", "explain")])
def test_a_plan_and_a_policy_are_shown_without_them(cli: Any, words: tuple[str, ...]) -> None:
    plant(cli)
    done = cli.run(*words, *(("--", "true") if words[0] == "run" else ()))
    assert done.returncode == 0, done.stderr
    assert f"{SHOWN}/.env" in done.stdout.decode()
    assert "\x1b" not in done.stdout.decode()


def test_an_error_is_shown_without_them(capsys: pytest.CaptureFixture[str]) -> None:
    report(NemoclawError(f"a {ESCAPE}", where=f"b {ESCAPE}", remedy=f"c\n  {ESCAPE}"))
    told = capsys.readouterr().err
    assert told.count(SHOWN) == 3
    assert all(line.isprintable() for line in told.split("\n"))


def test_a_mask_that_was_taken_away_is_told_without_them(cli: Any) -> None:
    plant(cli)
    process = cli.start(
        "run", "--", "/bin/sh", "-c", "echo up; exec sleep 60",
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout.readline() == b"up\n"
    (cli.work / ESCAPE / ".env").unlink()
    told = process.communicate(timeout=10)[1].decode()
    assert process.returncode == 125
    assert f"{SHOWN}/.env was removed" in told
    assert "\x1b" not in told
