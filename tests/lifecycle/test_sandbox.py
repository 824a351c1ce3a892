"""The Python interface does what the commands do."""

from __future__ import annotations

import asyncio
import io
import math
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from nemoclaw_hookspecs import (
    CommandNotExecutable,
    CommandNotFound,
    LayerFailed,
    PolicyError,
    UsageError,
)

from nemoclaw_core import Sandbox

from .support import alive, wait_for


@pytest.fixture
def work(cli: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in cli.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(cli.work)
    found: Path = cli.work
    return found


def test_runs_a_command_to_its_end(work: Path) -> None:
    with Sandbox() as sandbox:
        done = sandbox.run(
            ["sh", "-c", "cat; echo err >&2; exit 3"], input=b"in", capture_output=True
        )
    assert (done.returncode, done.stdout, done.stderr) == (3, b"in", b"err\n")
    with pytest.raises(subprocess.CalledProcessError):
        done.check()


def test_a_signal_is_a_negative_code(work: Path) -> None:
    with Sandbox() as sandbox:
        assert sandbox.run(["sh", "-c", "kill -TERM $$"]).returncode == -15


def test_every_command_has_a_sandbox_of_its_own(work: Path) -> None:
    with Sandbox(spare=2) as sandbox:
        first = sandbox.run(["sh", "-c", "echo secret > /tmp/x; sleep 60 & :"])
        second = sandbox.run(
            ["sh", "-c", "ls /tmp/x; pgrep -x sleep; echo $?"], capture_output=True
        )
    assert first.sandbox != second.sandbox
    assert second.stdout == b"1\n"


def test_errors_are_exceptions(work: Path) -> None:
    (work / "plain").write_text("")
    with Sandbox() as sandbox:
        with pytest.raises(CommandNotFound):
            sandbox.run(["no-such-command"])
        with pytest.raises(CommandNotExecutable):
            sandbox.run(["./plain"])
        with pytest.raises(UsageError):
            sandbox.run([])
        with pytest.raises(UsageError, match="bytes"):
            sandbox.run(["cat"], input="text")  # type: ignore[arg-type]
    with pytest.raises(UsageError):
        sandbox.run(["true"])
    with pytest.raises(PolicyError):
        Sandbox("no-such-policy")


def test_a_directory_is_no_standard_stream(work: Path) -> None:
    descriptor = os.open(work.parent, os.O_RDONLY)
    with Sandbox() as sandbox, pytest.raises(UsageError):
        sandbox.start(["true"], stdin=descriptor)
    os.close(descriptor)


def test_a_timeout_ends_the_command(work: Path) -> None:
    with Sandbox() as sandbox:
        began = time.monotonic()
        done = sandbox.run(["sleep", "60"], timeout=0.2)
    assert done.timed_out
    assert done.returncode == -15
    assert time.monotonic() - began < 10


def test_no_time_is_at_once_and_no_end_is_infinite_whatever_the_policy_says(
    cli: Any, work: Path
) -> None:
    policy = cli.home / "brief.toml"
    policy.write_text(
        'version = 1\n[policy.default]\nextends = ["default"]\nprocess.timeout = "300ms"\n'
    )
    with Sandbox(str(policy)) as sandbox:
        assert sandbox.run(["sleep", "60"], timeout=0).timed_out
        assert sandbox.run(["sleep", "60"]).timed_out
        assert sandbox.run(["sleep", "1"], timeout=math.inf).returncode == 0
        with pytest.raises(UsageError, match="number of seconds") as caught:
            sandbox.run(["true"], timeout=-1)
        assert "None for the policy's process.timeout" in str(caught.value.remedy)
        assert sandbox.start(["true"]).wait(math.inf) == 0


def test_a_relative_directory_to_start_in_is_below_the_work_directory(work: Path) -> None:
    (work / "below").mkdir(mode=0o755)
    with Sandbox() as sandbox:
        for given in ("below", Path("below"), work / "below"):
            done = sandbox.run(["pwd"], capture_output=True, cwd=given)
            assert done.stdout == f"{work}/below\n".encode()


@pytest.mark.parametrize(
    "arguments",
    [{"policy": 5}, {"policy": ""}, {"workdir": ""}, {"workdir": 5}, {"workdir": b"/tmp"},
     {"spare": "x"}, {"spare": True}, {"spare": 1.5}, {"spare": -1}],
    ids=str,
)  # fmt: skip
def test_what_makes_no_sandbox(work: Path, arguments: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        Sandbox(**arguments)
    assert caught.value.remedy


def test_what_starts_no_command(work: Path) -> None:
    with Sandbox() as sandbox:
        mistakes: list[tuple[Any, dict[str, Any], str]] = [
            (["true"], {"env": ["A=1"]}, "env maps names to values"),
            (["true"], {"env": {"A": 1}}, "'A' cannot be set"),
            (["true"], {"cwd": 5}, "cwd is a path"),
            (5, {}, "a command is a list of strings"),
            (b"true", {}, "a command is a list of strings"),
        ]
        for argv, options, what in mistakes:
            with pytest.raises(UsageError, match=what):
                sandbox.run(argv, **options)
        with pytest.raises(UsageError) as caught:
            sandbox.start(["true"], stdout=subprocess.PIPE)
        assert "capture_output=True" in str(caught.value.remedy)
        reader, writer = os.pipe()
        os.close(reader)
        os.close(writer)
        for stream in (subprocess.STDOUT, subprocess.DEVNULL, writer, -7, "out", io.BytesIO()):
            with pytest.raises(UsageError):
                sandbox.start(["true"], stderr=stream)  # type: ignore[arg-type]


@pytest.mark.parametrize("timeout", [-1, -0.001, float("nan"), 1e12, "5", True])
def test_a_timeout_that_is_none_starts_nothing(work: Path, timeout: Any) -> None:
    with Sandbox() as sandbox:
        with pytest.raises(UsageError, match="number of seconds") as caught:
            sandbox.run(["touch", "made"], timeout=timeout)
        assert "None" in str(caught.value.remedy)
        process = sandbox.start(["sleep", "60"])
        with pytest.raises(UsageError, match="number of seconds"):
            process.wait(timeout)
        process.kill()
        assert process.wait() == -9
    assert not (work / "made").exists()


def test_a_directory_to_start_in_that_is_not_shown_is_named(work: Path) -> None:
    with Sandbox() as sandbox, pytest.raises(UsageError, match="/var/log, is not there inside"):
        sandbox.run(["true"], cwd="/var/log")


def test_what_could_not_be_executed_is_logged_as_refused(cli: Any, work: Path) -> None:
    with Sandbox() as sandbox:
        process = sandbox.start(["no-such-command"])
        with pytest.raises(CommandNotFound):
            process.wait()
    codes = [event["metadata"]["event_code"] for event in cli.events(process.name)]
    assert codes[-3:] == ["process-launched", "sandbox-refused", "nemoclaw-stopped"]


def test_a_process_can_be_watched_and_ended(work: Path) -> None:
    with Sandbox() as sandbox:
        process = sandbox.start(["sleep", "60"])
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.1)
        process.terminate()
        assert process.wait(10) == -15
        process = sandbox.start(["sleep", "60"])
        process.kill()
        assert process.wait(10) == -9


def test_closing_ends_what_still_runs(work: Path) -> None:
    marker = f"{os.getpid()}4711"
    with Sandbox() as sandbox:
        sandbox.start(["sh", "-c", f"sleep {marker} & sleep {marker}"])
        assert wait_for(lambda: alive(marker))
    assert not alive(marker)


def test_threads_share_a_sandbox(work: Path) -> None:
    results = []
    with Sandbox(spare=2) as sandbox:

        def work_in(number: int) -> None:
            for _ in range(3):
                done = sandbox.run(["sh", "-c", f"echo {number}"], capture_output=True)
                results.append(done.stdout == f"{number}\n".encode())

        threads = [threading.Thread(target=work_in, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == [True] * 24


def test_async(work: Path) -> None:
    async def several() -> list[bytes | None]:
        async with Sandbox() as sandbox:
            done = await asyncio.gather(
                *(sandbox.run_async(["echo", str(n)], capture_output=True) for n in range(5))
            )
        return [each.stdout for each in done]

    assert asyncio.run(several()) == [b"%d\n" % n for n in range(5)]


def test_a_cancelled_call_ends_its_command(work: Path) -> None:
    marker = f"{os.getpid()}4712"

    async def cancel() -> None:
        async with Sandbox() as sandbox:
            task = asyncio.create_task(sandbox.run_async(["sleep", marker]))
            while not alive(marker):
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not alive(marker)

    asyncio.run(cancel())


def test_the_callers_descriptors_do_not_grow(work: Path) -> None:
    with Sandbox(spare=1) as sandbox:
        sandbox.run(["true"])
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(20):
            sandbox.run(["true"], capture_output=True)
        assert len(os.listdir("/proc/self/fd")) == before


def test_a_pool_whose_masks_are_gone_starts_nothing_more(work: Path) -> None:
    """What all sandboxes of a pool share was mounted once: the host may have taken it away."""
    # Not below /tmp, which is each sandbox's own, and so is what is mounted in it.
    folder = Path(tempfile.mkdtemp(prefix="nemoclaw-pool-", dir="/var/tmp"))
    secret, new = folder / ".env", folder / ".env.new"
    secret.write_text("SECRET=old\n")
    try:
        with Sandbox(workdir=folder) as sandbox:
            assert sandbox.run(["cat", ".env"], capture_output=True).stdout == b""
            new.write_text("SECRET=new\n")
            new.rename(secret)
            with pytest.raises(LayerFailed, match="was removed or replaced on the host"):
                sandbox.run(["cat", ".env"], capture_output=True)
        with Sandbox(workdir=folder) as sandbox:
            assert sandbox.run(["cat", ".env"], capture_output=True).stdout == b""
    finally:
        shutil.rmtree(folder)


def test_a_signal_may_be_one_of_the_standard_librarys(work: Path) -> None:
    with Sandbox() as sandbox:
        process = sandbox.start(["sleep", "60"])
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == -2


@pytest.mark.parametrize("env", [{"A": 1}, {"": "x"}, {"A=B": "x"}, {"A": "x\0y"}])
def test_an_impossible_environment_is_the_callers_mistake(work: Path, env: Any) -> None:
    with Sandbox() as sandbox:
        with pytest.raises(UsageError, match="variable"):
            sandbox.run(["true"], env=env)
        assert sandbox.run(["true"]).returncode == 0


@pytest.mark.parametrize("argv", ["true", ["echo", 3], []])
def test_an_impossible_command_is_the_callers_mistake(work: Path, argv: Any) -> None:
    with Sandbox() as sandbox, pytest.raises(UsageError):
        sandbox.run(argv)
