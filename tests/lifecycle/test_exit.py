"""The agent's exit is the command's exit."""

from __future__ import annotations

import signal
import subprocess
from typing import Any

import pytest


@pytest.mark.parametrize("code", [0, 1, 42, 124, 125, 255])
def test_the_exit_code_is_the_agents(cli: Any, code: int) -> None:
    assert cli.sandbox("sh", "-c", f"exit {code}").returncode == code


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGHUP, signal.SIGPIPE]
)
def test_the_agents_signal_ends_nemoclaw_too(cli: Any, number: signal.Signals) -> None:
    done = cli.sandbox("sh", "-c", f"kill -{number.name[3:]} $$")
    assert done.returncode == -number


def test_a_missing_command_is_127_and_says_where_the_host_has_it(cli: Any) -> None:
    done = cli.sandbox("no-such-command")
    assert done.returncode == 127
    assert b"no-such-command: not found inside the sandbox" in done.stderr
    hidden = cli.home / "hidden"
    hidden.write_text("#!/bin/sh\n")
    hidden.chmod(0o755)
    done = cli.sandbox(str(hidden))
    assert done.returncode == 127
    assert b"which the policy does not show" in done.stderr


def test_a_file_that_cannot_be_executed_is_126(cli: Any) -> None:
    (cli.work / "plain").write_text("not a program\n")
    done = cli.sandbox("./plain")
    assert done.returncode == 126
    assert b"Permission denied" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_policy_that_is_wrong_is_3_and_starts_nothing(cli: Any) -> None:
    policy = cli.home / "mine.toml"
    policy.write_text('version = 1\n[policy.default]\nextend = ["base"]\n')
    done = cli.run("run", "--policy", str(policy), "--", "touch", "made")
    assert done.returncode == 3
    assert b"extends" in done.stderr
    assert b"mine.toml:3" in done.stderr
    assert not (cli.work / "made").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("run",),
        ("run", "--"),
        ("run", "--", ""),
        ("run", "--no-such-option", "--", "true"),
        ("run", "--policy"),
        ("run", "--name", "../escape", "--", "true"),
        ("run", "--timeout", "soon", "--", "true"),
        ("run", "--env", "NOVALUE", "--", "true"),
        ("run", "--workdir", "/no/such/folder", "--", "true"),
        ("run", "--workdir", "/", "--", "true"),
        ("stop", "nobody"),
        ("exec", "nobody", "--", "true"),
        ("no-such-command",),
    ],
)
def test_a_usage_error_is_2_and_no_traceback(cli: Any, arguments: tuple[str, ...]) -> None:
    done = cli.run(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(b"nemoclaw: ")
    assert b"Traceback" not in done.stderr


def test_the_home_directory_is_not_taken_for_a_work_directory(cli: Any) -> None:
    done = cli.sandbox("true", cwd=cli.home)
    assert done.returncode == 2
    assert b"home directory" in done.stderr
    assert cli.run("run", "--workdir", str(cli.home), "--", "true", cwd=cli.home).returncode == 0


def test_a_timeout_ends_the_agent_with_124(cli: Any) -> None:
    done = cli.run("run", "--timeout", "200ms", "--", "sleep", "60")
    assert done.returncode == 124
    assert b"was ended after 0.2 s" in done.stderr


def test_a_timeout_ends_an_agent_that_ignores_sigterm(cli: Any) -> None:
    done = cli.run(
        "run", "--timeout", "200ms", "--", "sh", "-c", "trap '' TERM; sleep 60; sleep 60"
    )
    assert done.returncode == 124


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_to_nemoclaw_reaches_the_agent(cli: Any, number: signal.Signals) -> None:
    script = (
        f"trap 'echo caught; exit 9' {number.name[3:]}; echo ready; while :; do sleep 0.05; done"
    )
    process = cli.start("run", "--", "sh", "-c", script, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(number)
    assert process.stdout.readline() == b"caught\n"
    assert process.wait(10) == 9


def test_an_ignored_signal_stays_ignored(cli: Any) -> None:
    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    done = cli.sandbox("sh", "-c", "kill -HUP $$; echo survived", preexec_fn=ignore)
    assert done.stdout == b"survived\n"
    assert cli.sandbox("sh", "-c", "kill -HUP $$; echo survived").returncode == -signal.SIGHUP


@pytest.mark.parametrize("folder", ["/etc", "/etc/ssl", "/usr/lib", "/home", "/var"])
def test_the_systems_directories_are_not_taken_for_a_work_directory(cli: Any, folder: str) -> None:
    done = cli.sandbox("true", cwd=folder)
    assert done.returncode == 2
    assert b"belongs to the system" in done.stderr
    assert b"--workdir" in done.stderr


def test_a_home_that_cannot_be_used_is_an_error_for_people(cli: Any) -> None:
    places = {name: "/proc/nowhere" for name in cli.environment if name.startswith("XDG_")}
    done = cli.sandbox("true", env=places)
    assert done.returncode == 125
    assert b"cannot be made" in done.stderr
    assert b"Traceback" not in done.stderr
