"""``nemoclaw logs`` and the log of a real start, end to end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CANARY = "sk-canary-9b1d"


class Desk:
    """A person's home and project; runs nemoclaw as a process."""

    def __init__(self, base: Path) -> None:
        self.work = base / "work"
        self.site = base / "site"
        self.state = base / "state" / "nemoclaw"
        for folder in ("home", "work", "site", "state", "run", "cache", "config"):
            (base / folder).mkdir(mode=0o700)
        self.environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "HOME": str(base / "home"),
            "PYTHONPATH": os.pathsep.join(
                filter(None, [str(self.site), os.environ.get("PYTHONPATH")])
            ),
            "XDG_CACHE_HOME": str(base / "cache"),
            "XDG_CONFIG_HOME": str(base / "config"),
            "XDG_RUNTIME_DIR": str(base / "run"),
            "XDG_STATE_HOME": str(base / "state"),
            "TOKEN": CANARY,
        }
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "nemoclaw_core.cli", *arguments],
            cwd=self.work,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **options,
        )
        self._started.append(process)
        return process

    def run(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
        process = self.start(*arguments, **options)
        out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def launch(self, name: str, *options: str) -> subprocess.Popen[bytes]:
        """Start a sandbox that does nothing for half a minute, and wait until it has begun."""
        process = self.start("run", "-n", name, *options, "--", "/bin/sleep", "30")
        log = self.log(name)
        while not log.exists() or b"process-launched" not in log.read_bytes():
            assert process.poll() is None
            time.sleep(0.02)
        return process

    def done(self, *arguments: str) -> str:
        """What a command that succeeds prints."""
        finished = self.run(*arguments)
        assert finished.returncode == 0, finished.stderr.decode()
        return finished.stdout.decode()

    def log(self, name: str) -> Path:
        return self.state / name / "events.jsonl"

    def records(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log(name).read_text().splitlines()]

    def install(self, name: str, source: str) -> Path:
        """Install a plugin, and enable it in the policy that is returned."""
        (self.site / f"toy_{name}.py").write_text(
            f"from nemoclaw_hookspecs import hookimpl\nNEMOCLAW_API = (1, 0)\n{source}"
        )
        info = self.site / f"toy_{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: toy-{name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[nemoclaw]\n{name} = toy_{name}\n")
        policy = self.work.parent / f"{name}.toml"
        enable = json.dumps(["mounts", "landlock", "seccomp", "netns", name])
        policy.write_text(
            f'version = 1\n[policy.default]\nextends = ["base"]\n'
            f'[policy.default.filesystem]\nwrite = ["{{workdir}}"]\n'
            f"[plugins]\nenable = {enable}\n"
        )
        return policy

    def close(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.communicate()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    found = Desk(tmp_path)
    yield found
    found.close()


def test_a_start_is_logged_from_its_beginning_to_its_end(desk: Desk) -> None:
    assert desk.run("run", "--name", "box", "--", "/bin/sh", "-c", "exit 3").returncode == 3
    codes = [record["metadata"]["event_code"] for record in desk.records("box")]
    assert codes[0] == "nemoclaw-started"
    assert codes[1] == "layer-applied"
    assert set(codes[1:-3]) <= {"layer-applied", "gap-left"}
    assert codes[-3:] == ["process-launched", "process-ended", "nemoclaw-stopped"]
    assert desk.records("box")[-2]["exit_code"] == 3

    shown = desk.done("logs", "box").splitlines()
    assert len(shown) == len(codes)
    assert "starting /bin/sh (2 arguments)" in shown[-3]
    assert "ended with status 3" in shown[-2]
    assert desk.done("logs", "box", "--json").encode() == desk.log("box").read_bytes()
    verdict = desk.done("logs", "box", "--verify")
    assert verdict.startswith(f"box: {len(codes)} records, whole and in order")


def test_no_secret_of_the_command_line_or_the_environment_is_logged(desk: Desk) -> None:
    script = f"echo {CANARY} >/dev/null; echo $MINE"
    finished = desk.run(
        "run", "-n", "box", "-e", f"MINE={CANARY}", "--", "/bin/sh", "-c", script, CANARY
    )
    assert CANARY in finished.stdout.decode()
    desk.run("run", "-n", "other", "-e", f"MINE={CANARY}", "--", "/no/such/program", CANARY)
    for path in desk.state.rglob("*"):
        if path.is_file():
            assert CANARY not in path.read_text(), path


def test_a_command_that_does_not_exist_leaves_its_refusal(desk: Desk) -> None:
    assert desk.run("run", "-n", "box", "--", "/no/such/program").returncode == 127
    refusal = desk.records("box")[-2]
    assert refusal["metadata"]["event_code"] == "sandbox-refused"
    assert refusal["status_code"] == "not-found"
    assert "refused to start /no/such/program" in desk.done("logs", "box")


def test_a_plugin_s_refusal_is_logged(desk: Desk) -> None:
    policy = desk.install(
        "strict",
        f"@hookimpl\ndef pre_spawn(plan):\n    raise ValueError({CANARY!r})\n",
    )
    finished = desk.run("run", "-n", "box", "-p", str(policy), "--", "/bin/true")
    assert finished.returncode == 4
    (refusal,) = desk.records("box")
    assert refusal["metadata"]["event_code"] == "sandbox-refused"
    assert "plugin 'strict'" in refusal["message"]
    assert CANARY not in desk.log("box").read_text()


def test_without_a_name_the_logs_are_listed(desk: Desk) -> None:
    assert desk.done("logs").splitlines() == ["NAME  LAST EVENT  EVENTS  STATE"]
    for name in ("first", "second"):
        desk.done("run", "-n", name, "--", "/bin/true")
    rows = [line.split() for line in desk.done("logs").splitlines()[1:]]
    assert [(row[0], row[-1]) for row in rows] == [("second", "ended"), ("first", "ended")]
    listed = [json.loads(line) for line in desk.done("logs", "--json").splitlines()]
    assert [entry["name"] for entry in listed] == ["second", "first"]
    assert listed[0]["records"] == len(desk.records("second"))
    assert listed[0]["path"] == str(desk.log("second"))


@pytest.mark.parametrize("name", ["none", "../etc", "a/b", "", "UPPER"])
@pytest.mark.parametrize("option", [None, "--verify", "--output", "--follow", "--json"])
def test_a_name_without_a_log_is_a_user_s_error(desk: Desk, name: str, option: str | None) -> None:
    finished = desk.run("logs", name, *([option] if option else []))
    assert finished.returncode == 2
    assert b"Traceback" not in finished.stderr
    assert b"nemoclaw:" in finished.stderr


def test_what_makes_no_sense_is_said(desk: Desk) -> None:
    assert desk.run("logs", "--follow").returncode == 2
    assert desk.run("logs", "--output").returncode == 2
    assert desk.run("logs", "--prune", "soon").returncode == 2
    assert desk.run("logs", "x", "--verify", "--output").returncode == 2


def test_tampering_is_told_by_the_exit_status(desk: Desk) -> None:
    for name in ("good", "bad"):
        desk.done("run", "-n", name, "--", "/bin/true")
    lines = desk.log("bad").read_bytes().splitlines(keepends=True)
    desk.log("bad").write_bytes(b"".join(lines[:3] + lines[4:]))
    finished = desk.run("logs", "bad", "--verify")
    assert finished.returncode == 1
    assert b"bad: NOT as it was written" in finished.stdout
    assert b"record 4 is missing" in finished.stdout
    assert desk.run("logs", "good", "--verify").returncode == 0
    everything = desk.run("logs", "--verify", "--json")
    assert everything.returncode == 1
    verdicts = {v["sandbox"]: v for v in map(json.loads, everything.stdout.splitlines())}
    assert verdicts["good"]["ok"]
    assert verdicts["bad"]["problems"][0]["kind"] == "missing"


def test_follow_shows_what_comes_and_ends_with_the_sandbox(desk: Desk) -> None:
    running = desk.launch("box")
    follower = desk.start("logs", "box", "--follow")
    assert follower.stdout is not None
    shown = iter(follower.stdout.readline, b"")
    assert any(b"starting /bin/sleep" in line for line in shown)
    assert b"running" in desk.run("logs").stdout
    running.send_signal(signal.SIGTERM)
    rest = follower.stdout.read()
    assert follower.wait(10) == 0
    assert b"ended with SIGTERM" in rest
    assert rest.splitlines()[-1].endswith(b"the sandbox is gone")


def test_follow_ends_when_nemoclaw_is_killed(desk: Desk) -> None:
    running = desk.launch("box")
    follower = desk.start("logs", "box", "-f", "--json")
    running.kill()
    out, _ = follower.communicate(timeout=10)
    assert follower.returncode == 0
    assert out == desk.log("box").read_bytes()
    assert desk.run("logs", "box", "--verify").returncode == 0


def test_the_output_of_a_detached_sandbox_is_kept(desk: Desk) -> None:
    script = r"printf 'one\033[2J\ntwo\n'; sleep 0.3; echo three"
    assert desk.done("run", "-n", "box", "--detach", "--", "/bin/sh", "-c", script) == "box\n"
    followed = desk.run("logs", "box", "--output", "--follow").stdout
    assert followed == b"one\x1b[2J\ntwo\nthree\n"
    assert desk.run("logs", "box", "--output").stdout == followed
    desk.done("run", "-n", "other", "--", "/bin/true")
    finished = desk.run("logs", "other", "--output")
    assert finished.returncode == 2
    assert b"--detach" in finished.stderr


def test_output_on_a_terminal_is_harmless(desk: Desk) -> None:
    import pty

    desk.done("run", "-n", "box", "--detach", "--", "/bin/printf", r"a\tb\033]0;x\007\r\nc\n")
    desk.run("logs", "box", "-f")
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "nemoclaw_core.cli", "logs", "box", "--output"]
    subprocess.run(
        command, cwd=desk.work, env=desk.environment, stdout=slave, check=True, timeout=30
    )
    os.close(slave)
    shown = os.read(master, 4096)
    os.close(master)
    assert shown == b"a\tb\\x1b]0;x\\x07\r\nc\r\n"


def test_a_reader_that_goes_away_is_no_error(desk: Desk) -> None:
    desk.done("run", "-n", "box", "--", "/bin/true")
    command = f"{sys.executable} -m nemoclaw_core.cli logs box --json | head -1 >/dev/null"
    done = subprocess.run(
        ["sh", "-c", command], env=desk.environment, capture_output=True, timeout=30
    )
    assert done.stderr == b""


def test_old_logs_can_be_removed(desk: Desk) -> None:
    for name in ("old", "new"):
        desk.done("run", "-n", name, "--", "/bin/true")
    then = time.time() - 40 * 86400
    for path in (*(desk.state / "old").iterdir(), desk.state / "old"):
        os.utime(path, (then, then))
    assert desk.done("logs", "--prune", "30") == "old\n"
    assert not (desk.state / "old").exists()
    assert desk.log("new").exists()


def test_with_a_name_old_logs_of_that_sandbox_alone_are_removed(desk: Desk) -> None:
    for name in ("old", "older", "new"):
        desk.done("run", "-n", name, "--", "/bin/true")
    then = time.time() - 40 * 86400
    for folder in (desk.state / "old", desk.state / "older"):
        for path in (*folder.iterdir(), folder):
            os.utime(path, (then, then))
    assert desk.done("logs", "old", "--prune", "30") == "old\n"
    assert not (desk.state / "old").exists()
    assert desk.log("older").exists()
    stays = desk.run("logs", "new", "--prune", "30")
    assert (stays.returncode, stays.stdout) == (1, b"")
    assert stays.stderr == b"nemoclaw: new stays: it runs, or wrote within 30 days\n"
    assert desk.log("new").exists()
    assert desk.run("logs", "none", "--prune", "0").returncode == 2


def test_a_log_that_is_gone_is_told_as_missing_records(desk: Desk) -> None:
    for name in ("good", "lost"):
        desk.done("run", "-n", name, "--", "/bin/true")
    count = len(desk.records("lost"))
    desk.log("lost").unlink()
    what = f"records 1 to {count} are missing".encode()
    for arguments in (("--verify",), ("lost", "--verify")):
        finished = desk.run("logs", *arguments)
        assert finished.returncode == 1
        assert b"lost: NOT as it was written" in finished.stdout
        assert what in finished.stdout
    everything = desk.run("logs", "--verify", "--json").stdout.splitlines()
    verdicts = {v["sandbox"]: v for v in map(json.loads, everything)}
    assert verdicts["good"]["ok"]
    assert [each["kind"] for each in verdicts["lost"]["problems"]] == ["missing"]
    listed = desk.run("logs")
    assert listed.returncode == 1
    assert b"good" in listed.stdout
    assert b"the log of lost is gone" in listed.stderr


def test_a_stray_among_the_logs_hides_none_of_them(desk: Desk) -> None:
    desk.done("run", "-n", "box", "--", "/bin/true")
    (desk.state / "stray").write_text("mine")
    for arguments in ((), ("--json",), ("--verify",)):
        finished = desk.run("logs", *arguments)
        assert finished.returncode == 1
        assert b"box" in finished.stdout
        assert f"{desk.state}/stray: ".encode() in finished.stderr
        assert b"Traceback" not in finished.stderr
    (desk.state / "stray").unlink()
    assert desk.run("logs").returncode == 0


NEMOCLAW = f"{sys.executable} -m nemoclaw_core.cli"


def on_a_small_disk(desk: Desk, size: str, script: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script that sees a file system of ``size`` where logs are kept, as $STATE."""
    if os.geteuid() != 0:
        pytest.skip("a sandbox in a user namespace that is not its own finds another host")
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode != 0:
        pytest.skip("this host lets nobody make a small file system")
    mount = f"mount -t tmpfs -o size={size},mode=700 tmpfs {desk.state.parent}"
    return subprocess.run(
        ["unshare", "-m", "sh", "-c", f"{mount} || exit 99\n{script}"],
        cwd=desk.work,
        env={**desk.environment, "STATE": str(desk.state.parent)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_on_a_full_disk_nothing_starts(desk: Desk) -> None:
    script = f"""
        head -c 60000 /dev/zero >$STATE/filler
        {NEMOCLAW} run -n box -- touch {desk.work}/started
    """
    done = on_a_small_disk(desk, "64k", script)
    assert done.returncode == 125
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (desk.work / "started").exists()


def test_what_runs_while_the_disk_fills_is_logged_to_its_end(desk: Desk) -> None:
    script = f"""
        {NEMOCLAW} run -n box -- /bin/sh -c 'read line; exit 7' <{desk.work}/fifo &
        exec 3>{desk.work}/fifo
        until grep -qs process-launched $STATE/nemoclaw/box/events.jsonl; do sleep 0.02; done
        cat /dev/zero >$STATE/filler
        while {NEMOCLAW} exec box -- true; do :; done
        {NEMOCLAW} exec box -- touch {desk.work}/begun
        echo "exec $?"
        echo go >&3
        wait $!
        echo "run $?"
        {NEMOCLAW} logs box --verify
        tail -n 2 $STATE/nemoclaw/box/events.jsonl
    """
    os.mkfifo(desk.work / "fifo")
    done = on_a_small_disk(desk, "512k", script)
    lines = done.stdout.splitlines()
    assert lines[:2] == ["exec 125", "run 7"], done.stderr
    assert "whole and in order" in lines[2]
    assert [json.loads(line)["activity_name"] for line in lines[3:]] == ["Terminate", "Stop"]
    assert "No space left" in done.stderr
    assert not (desk.work / "begun").exists()


# Plugins that take events.

COLLECTOR = """
import json, os
@hookimpl
def on_event(event):
    path = os.environ["HOME"] + "/collected"
    if os.path.exists(os.environ["HOME"] + "/broken"):
        raise OSError("the collector is down")
    with open(path, "a") as file:
        file.write(json.dumps([event.sandbox, dict(event.record)]) + "\\n")
"""


def collected(desk: Desk, sandbox: str) -> list[dict[str, Any]]:
    path = Path(desk.environment["HOME"]) / "collected"
    taken = map(json.loads, path.read_text().splitlines()) if path.exists() else ()
    return [record for name, record in taken if name == sandbox]


@pytest.mark.parametrize("start", ["compiled", "cached"])
def test_a_plugin_gets_every_event_of_a_start(desk: Desk, start: str) -> None:
    policy = str(desk.install("collector", COLLECTOR))
    names = ["first", "box"] if start == "cached" else ["box"]
    for name in names:
        desk.done("run", "-n", name, "-p", policy, "--", "/bin/true")
    assert collected(desk, "box") == desk.records("box")
    assert len(desk.records("box")) > 5
    assert list(desk.state.glob("*/sink.*")) == []


def test_what_a_plugin_did_not_take_it_gets_at_the_next_start(desk: Desk) -> None:
    policy = str(desk.install("collector", COLLECTOR))
    broken = Path(desk.environment["HOME"]) / "broken"
    broken.touch()
    finished = desk.run("run", "-n", "first", "-p", policy, "--", "/bin/echo", "hello")
    assert finished.returncode == 0
    assert finished.stdout == b"hello\n"
    assert b"plugin 'collector' did not take every event" in finished.stderr
    assert collected(desk, "first") == []
    broken.unlink()
    desk.done("run", "-n", "second", "-p", policy, "--", "/bin/true")
    assert collected(desk, "first") == desk.records("first")
    assert collected(desk, "second") == desk.records("second")
    assert desk.run("logs", "--verify").returncode == 0


def test_a_plugin_that_hangs_does_not_hold_the_command_up(desk: Desk) -> None:
    policy = desk.install(
        "stuck", "import time\n@hookimpl\ndef on_event(event):\n    time.sleep(60)\n"
    )
    began = time.monotonic()
    finished = desk.run("run", "-n", "box", "-p", str(policy), "--", "/bin/sh", "-c", "exit 5")
    assert finished.returncode == 5
    assert time.monotonic() - began < 15
    assert b"plugin 'stuck' did not take every event" in finished.stderr


def test_after_nemoclaw_was_killed_its_events_are_delivered(desk: Desk) -> None:
    policy = str(desk.install("collector", COLLECTOR))
    broken = Path(desk.environment["HOME"]) / "broken"
    broken.touch()
    running = desk.launch("box", "-p", policy)
    running.kill()
    running.wait()
    broken.unlink()
    desk.done("run", "-n", "next", "-p", policy, "--", "/bin/true")
    assert collected(desk, "box") == desk.records("box")


def test_the_python_interface_delivers_too(desk: Desk) -> None:
    policy = str(desk.install("collector", COLLECTOR))
    program = (
        "import sys\n"
        "from nemoclaw_core import Sandbox\n"
        "with Sandbox(sys.argv[1]) as sandbox:\n"
        "    print(*(sandbox.run(['/bin/true']).sandbox for _ in range(3)), sep='\\n')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, policy],
        cwd=desk.work, env=desk.environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    names = done.stdout.split()
    assert len(names) == 3
    for name in names:
        assert collected(desk, name) == desk.records(name)
