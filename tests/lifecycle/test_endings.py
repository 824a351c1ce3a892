"""A command that the kernel ended for the policy's sake does not end without a word."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

MEMORY = """version = 1
[policy.small]
extends = ["default"]
[policy.small.process]
max_memory = "64MiB"
"""
KILL = """version = 1
[policy.kill]
extends = ["default"]
[policy.kill.syscalls]
action = "kill"
"""
EAT = "python3 -c 'held = bytearray(200 << 20)'"


def run(cli: Any, policy: str, name: str, *argv: str) -> subprocess.CompletedProcess[bytes]:
    file = Path(cli.home, "mine.toml")
    file.write_text(policy)
    section = policy.splitlines()[1].strip("[]")
    done: subprocess.CompletedProcess[bytes] = cli.run(
        "run", "--name", name, "--policy", f"{file}:{section.partition('.')[2]}", "--", *argv
    )
    return done


def needs_memory_group(cli: Any) -> None:
    """Skip the test without a memory control group for the caller's sandboxes."""
    shown = json.loads(cli.run("run", "--dry-run", "--json", "--", "true").stdout)
    if "memory." not in json.dumps(shown):
        pytest.skip("no writable memory control group: run the tests with sudo, or delegate one")


@pytest.mark.parametrize(
    ("argv", "status"),
    [(("sh", "-c", f"exec {EAT}"), -9), (("sh", "-c", f"{EAT}; exit 3"), 3)],
)
def test_the_memory_limit_is_told_when_it_was_met(
    cli: Any, argv: tuple[str, ...], status: int
) -> None:
    needs_memory_group(cli)
    done = run(cli, MEMORY, "eater", *argv)
    assert done.returncode == status
    told = f"{cli.home}/mine.toml:5 policy.small.process.max_memory: eater reached its memory limit"
    assert f"nemoclaw: {told}, 64MiB: the kernel ended 1 of its processes\n" in done.stderr.decode()
    (ended,) = [
        event for event in cli.events("eater") if event["metadata"]["event_code"] == "process-ended"
    ]
    assert "the sandbox reached its memory limit" in ended["status_detail"]
    assert "the sandbox reached its memory limit" in ended["message"]
    assert ended["unmapped"]["memory_kills"] == 1


def test_nothing_is_told_of_a_limit_that_was_not_met(cli: Any) -> None:
    needs_memory_group(cli)
    done = run(cli, MEMORY, "modest", "sh", "-c", "kill -9 $$")
    assert (done.returncode, done.stderr) == (-9, b"")


@pytest.mark.parametrize(
    ("argv", "status", "words"),
    [
        (("unshare", "-U", "true"), -31, "killed was ended by SIGSYS"),
        (("sh", "-c", "unshare -U true; exit $?"), 159, "killed ended with status 159"),
    ],
)
def test_a_forbidden_call_that_ended_the_command_is_told(
    cli: Any, argv: tuple[str, ...], status: int, words: str
) -> None:
    done = run(cli, KILL, "killed", *argv)
    assert done.returncode == status
    told = f"nemoclaw: {cli.home}/mine.toml:5 policy.kill.syscalls.action: {words}"
    assert told in done.stderr.decode()


def test_nothing_is_told_of_a_command_that_made_no_forbidden_call(cli: Any) -> None:
    done = run(cli, KILL, "good", "true")
    assert (done.returncode, done.stderr) == (0, b"")
