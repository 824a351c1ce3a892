"""Nothing is left behind, by any death."""

from __future__ import annotations

import os
import random
import signal
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from .support import alive, descendants, groups, launchers, mounts, running, wait_for

ORPHANS = "sleep {0} & setsid sleep {0} & (setsid sh -c 'sleep {0}; :' &) ; echo up; exec sleep {0}"


@pytest.fixture
def marker() -> str:
    """Seconds that no other process sleeps for, so that ours can be told."""
    return f"{os.getpid()}{time.monotonic_ns() % 10**6}"


def start(cli: Any, marker: str, name: str = "dying") -> subprocess.Popen[bytes]:
    process: subprocess.Popen[bytes] = cli.start(
        "run", "--name", name, "--", "sh", "-c", ORPHANS.format(marker), stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    assert wait_for(lambda: len(alive(marker)) >= 4)
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_a_signal_to_nemoclaw_ends_every_process_of_the_sandbox(
    cli: Any, marker: str, number: signal.Signals
) -> None:
    before = mounts()
    process = start(cli, marker)
    process.send_signal(number)
    process.wait(10)
    assert wait_for(lambda: not alive(marker), 2)
    assert wait_for(lambda: not launchers(cli), 2)
    assert wait_for(lambda: not groups("dying"), 2)
    assert mounts() == before
    assert wait_for(lambda: not list((cli.run_dir / "nemoclaw").iterdir()), 2)


def test_when_nemoclaw_has_ended_the_sandbox_has(cli: Any, marker: str) -> None:
    """No grace: at the moment that the command returns, nothing is alive."""
    done = cli.sandbox("sh", "-c", f"sleep {marker} & setsid sleep {marker} & sleep 0.1; exit 4")
    assert not alive(marker)
    assert done.returncode == 4


def test_killing_the_launcher_ends_the_sandbox(cli: Any, marker: str) -> None:
    process = start(cli, marker)
    (launcher,) = launchers(cli)
    os.kill(launcher, signal.SIGKILL)
    assert process.wait(10) == 125
    assert wait_for(lambda: not alive(marker), 2)


def test_killing_supervisor_and_launcher_ends_the_sandbox(cli: Any, marker: str) -> None:
    process = start(cli, marker, "both")
    (launcher,) = launchers(cli)
    os.kill(launcher, signal.SIGSTOP)
    process.kill()
    os.kill(launcher, signal.SIGKILL)
    process.wait(10)
    assert wait_for(lambda: not alive(marker), 2)
    # What a file system holds outlives a kill of both, until the next command looks.
    assert cli.run("ps").returncode == 0
    assert not list((cli.run_dir / "nemoclaw").glob("*.sock"))
    # Empty control groups go after minutes, when another launcher ends: here at once.
    for folder in groups("both"):
        os.rmdir(folder)


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2])
def test_a_kill_at_any_moment_leaves_nothing(cli: Any, marker: str, delay: float) -> None:
    process = cli.start("run", "--name", "early", "--", "sleep", marker)
    time.sleep(delay)
    process.kill()
    process.wait(10)
    assert wait_for(lambda: not alive(marker), 2)
    assert wait_for(lambda: not launchers(cli), 2)
    assert wait_for(lambda: not groups("early"), 2)


CROWDED = """version = 1
[policy.crowded]
extends = ["default"]
filesystem.deny = [{}]
"""


@pytest.mark.parametrize("count", [0, 20])
def test_a_kill_during_the_preparation_ends_it_at_once(cli: Any, marker: str, count: int) -> None:
    """The supervisor is killed at random moments; the launcher may be in the middle of anything.

    :param count: masks of missing paths, for each of which two directories are made.
    """
    policy = cli.home / "crowded.toml"
    policy.write_text(CROWDED.format(", ".join(f"'{{workdir}}/d{n}/x'" for n in range(count))))
    policy.chmod(0o644)
    run = ("run", "--policy", f"{policy}:crowded", "--name", "prepared", "--")
    began = time.monotonic()
    assert cli.run(*run, "true").returncode == 0
    assert cli.run(*run, "true").returncode == 0
    longest = (time.monotonic() - began) / 2
    rng, before, took = random.Random(count), mounts(), []
    for _ in range(40):
        process = cli.start(*run, "sleep", marker, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(0.0, longest))
        process.send_signal(signal.SIGSTOP)
        family = descendants(process.pid)
        process.kill()
        killed = time.monotonic()
        process.wait(10)
        assert wait_for(lambda: not running(family), 2), family  # noqa: B023
        took.append(time.monotonic() - killed)
        assert not alive(marker)
        assert not groups("prepared")
        assert os.listdir(cli.work) == []
    assert mounts() == before
    # Where this machine has nothing else to do. Else all of it takes as much longer.
    assert statistics.median(took) < max(0.05, longest / 3), took


def test_a_mask_of_a_missing_path_leaves_no_directory_behind(cli: Any) -> None:
    done = cli.sandbox("sh", "-c", "ls -A .git; mkdir .git/hooks/x; ls .git/hooks")
    assert b"Read-only file system" in done.stderr
    assert list(cli.work.iterdir()) == []


def test_what_the_agent_made_beside_such_a_mask_stays(cli: Any) -> None:
    assert cli.sandbox("sh", "-c", "touch .git/config").returncode == 0
    assert (cli.work / ".git/config").exists()


def test_two_sandboxes_share_the_mask_of_a_missing_path(cli: Any) -> None:
    """The first to end must not take the second one's mask away."""
    wait = "echo up; read line; touch .git/hooks/planted"
    first = cli.start("run", "--", "sh", "-c", wait, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert first.stdout.readline() == b"up\n"
    second = cli.start(
        "run", "--", "sh", "-c", wait,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert second.stdout.readline() == b"up\n"
    first.communicate(b"\n", timeout=10)
    _, errors = second.communicate(b"\n", timeout=10)
    assert b"Read-only file system" in errors
    assert not Path(cli.work / ".git").exists()


def test_a_swapped_work_directory_does_not_lead_the_clean_up_elsewhere(
    cli: Any, tmp_path: Path
) -> None:
    """An agent that can rename the directory must not make nemoclaw remove somebody else's."""
    victim = tmp_path / "victim"
    (victim / ".git/hooks").mkdir(parents=True)
    inner = cli.work / "inner"
    inner.mkdir()
    process = cli.start(
        "run", "--", "sh", "-c", "echo up; read line",
        cwd=inner, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout.readline() == b"up\n"
    inner.rename(cli.work / "aside")
    inner.symlink_to(victim)
    process.communicate(b"\n", timeout=10)
    assert (victim / ".git/hooks").is_dir()
    assert not list((cli.work / "aside").iterdir())


FORKED = """import os, sys, time
from nemoclaw_core import Sandbox
box = Sandbox()
running = box.start(["sleep", sys.argv[1]])
worker = os.fork()
if worker == 0:
    time.sleep(30)
    os._exit(0)
print(worker, flush=True)
sys.stdin.readline()
began = time.monotonic()
box.close()
print(time.monotonic() - began, flush=True)
"""


@pytest.mark.parametrize("way", ["closed", "killed"])
def test_a_worker_that_its_supervisor_has_forked_keeps_no_agent(
    cli: Any, marker: str, way: str
) -> None:
    """It has the supervisor's end of every socket, and outlives the supervisor."""
    program = [cli.program[0], "-c", FORKED, marker]
    process = subprocess.Popen(
        program,
        cwd=cli.work,
        env=cli.environment,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    worker = int(process.stdout.readline())
    try:
        assert wait_for(lambda: alive(marker))
        agents = alive(marker)
        if way == "closed":
            process.stdin.write("\n")
            process.stdin.flush()
            assert float(process.stdout.readline()) < 5
        else:
            process.kill()
        process.wait(10)
        assert wait_for(lambda: not running(agents), 2)
    finally:
        os.kill(worker, signal.SIGKILL)
        process.kill()
        process.communicate()


def test_a_worker_may_close_what_is_its_supervisors(cli: Any, marker: str) -> None:
    program = [
        cli.program[0],
        "-c",
        """import os, sys, subprocess
from nemoclaw_core import Sandbox
with Sandbox() as box:
    if os.fork() == 0:
        box.close()
        os._exit(0)
    assert os.wait()[1] == 0
    assert box.run(["echo", "on"], capture_output=True).stdout == b"on\\n"
""",
    ]
    done = subprocess.run(program, cwd=cli.work, env=cli.environment, capture_output=True)
    assert done.returncode == 0, done.stderr
