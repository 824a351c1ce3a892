"""Policies that change while a sandbox runs: by command, by signal, and because the file did."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socketserver
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from .grounds import Gated

ORDINARY = pytest.mark.parametrize("caller", ["user"], indirect=True)
"""Nothing in it is about who starts nemoclaw."""
SCRIPT = (
    "n=0; while :; do n=$((n+1)); until [ -e ask-$n ]; do sleep 0.01; done; "
    "curl -sS -o /dev/null -w '%{http_code}' URL > code; mv code answer-$n; done"
)
"""What the agent does: it tries an URL each time that it is told to."""


@attrs.define
class Box:
    """A detached sandbox, and how to change what it may do."""

    gated: Gated
    asked: int = 0
    below: str = "."
    """Of the work directory: where commands are started."""

    @property
    def folder(self) -> Path:
        return self.gated.desk.folder("inside") / self.below

    def call(self, *arguments: str, status: int = 0) -> str:
        """Run a command of nemoclaw; returns what it says on either stream."""
        done = subprocess.run(
            self.gated.command(*arguments),
            cwd=self.folder,
            env=self.gated.desk.environment("inside"),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == status, (done.returncode, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def start(self, *options: str, script: str = SCRIPT, status: int = 0) -> str:
        """Start the agent."""
        url = f"http://api.test:{self.gated.outside.plain}/"
        return self.call(
            "run", "--detach", "--name", "box", *options, "--", "bash", "-c",
            script.replace("URL", url), status=status,
        )  # fmt: skip

    def tries(self) -> str:
        """The status that the agent gets now."""
        work = self.folder
        self.asked += 1
        (work / f"ask-{self.asked}").touch()
        answer = work / f"answer-{self.asked}"
        assert until(answer.exists)
        return answer.read_text()

    def state(self) -> dict[str, Any]:
        """What `nemoclaw ps` says."""
        found: dict[str, Any] = json.loads(self.call("ps", "--json"))
        return found

    def history(self) -> list[dict[str, Any]]:
        return list(map(json.loads, self.call("history", "box", "--json").splitlines()))

    def hang_up(self) -> None:
        os.kill(self.state()["supervisor"], signal.SIGHUP)

    def reaches(self, generation: int) -> bool:
        return until(lambda: self.state()["generation"] == generation)


def until(true: Callable[[], bool], seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.02)
    return False


@pytest.fixture
def box(gated: Gated) -> Iterator[Box]:
    found = Box(gated)
    yield found
    for name in ("box", "first"):
        subprocess.run(
            gated.command("stop", "--grace", "0", name),
            cwd=gated.desk.base,
            env=gated.desk.environment("inside"),
            capture_output=True,
            timeout=30,
        )


def kinds(history: list[dict[str, Any]]) -> list[tuple[str, int, str]]:
    return [(each["kind"], each["generation"], each["cause"]) for each in history]


def test_a_policy_file_is_followed_and_one_that_is_wrong_changes_nothing(box: Box) -> None:
    gated = box.gated
    policy = gated.policy(gated.rule("api.test"))
    box.start("--watch", "-p", policy)
    assert box.tries() == "200"
    # As most editors do: a new file in the old one's place.
    os.replace(gated.policy(gated.rule("other.test"), name="new.toml"), policy)
    assert box.reaches(2)
    assert box.tries() == "403"
    # In place, and by a mistake.
    Path(policy).write_text("version = 1\n[policy.default.network]\nmode = 'prox'\n")
    assert until(lambda: box.history()[-1]["kind"] == "refused")
    assert box.state()["generation"] == 2
    assert box.tries() == "403"
    gated.policy(gated.rule("api.test"))
    assert box.reaches(3)
    assert box.tries() == "200"
    history = box.history()
    assert kinds(history) == [
        ("started", 1, "start"),
        ("reloaded", 2, "watch"),
        ("refused", 0, "watch"),
        ("reloaded", 3, "watch"),
    ]
    assert "prox" in history[2]["reason"]
    assert [change["rule"] for change in history[1]["changes"]] == ["other.test", "api.test"]
    assert (history[1]["added"], history[1]["removed"]) == (1, 1)
    assert history[0]["digest"] == history[3]["digest"] != history[1]["digest"]
    assert f"the policy in force stays: 1 problem in {policy}" in box.call(
        "logs", "box", "--output"
    )


def test_sighup_reloads_what_was_started_with_and_refuses_what_is_locked(box: Box) -> None:
    gated = box.gated
    policy = gated.policy(gated.rule("api.test"))
    box.start("-p", policy)
    gated.policy(gated.rule("other.test"))
    assert box.tries() == "200", "it is not followed unless that was asked for"
    box.hang_up()
    assert box.reaches(2)
    assert box.tries() == "403"
    gated.policy(gated.rule("api.test") + "[policy.default.process]\nmax_processes = 99\n")
    box.hang_up()
    assert until(lambda: box.history()[-1]["kind"] == "refused")
    refused = gated.events("box")[-1]
    if refused["metadata"]["event_code"] != "reload-refused":  # one of DNS may follow
        refused = [e for e in gated.events("box") if "refused" in e.get("unmapped", {})][-1]
    assert refused["unmapped"]["keys"] == ["process.max_processes"]
    assert (refused["unmapped"]["cause"], refused["policy"]["version"]) == ("signal", "2")
    assert box.tries() == "403"


@ORDINARY
def test_events_and_ps_name_the_policy_that_is_in_force(box: Box) -> None:
    gated = box.gated
    box.start("-p", gated.policy(gated.rule("api.test")))
    assert box.tries() == "200"
    after = gated.policy(gated.rule("api.test") + "name = 'mine'\n", name="after.toml")
    assert "is in force, generation 2: + mine, - api.test" in box.call("reload", "box", "-p", after)
    assert box.tries() == "200"
    state = box.state()
    assert (state["policy"], state["generation"]) == (f"{after}:default", 2)
    assert state["started"].endswith("policies.toml:default")
    assert box.call("ps").splitlines()[1].endswith("after.toml:default (generation 2)")
    # Without a policy: back to what it was started with, not to what is in force.
    assert "policies.toml" in box.call("reload", "box")
    box.call("reload", "box", "-p", after)
    state = box.state()
    assert state["generation"] == 4
    box.call("stop", "--grace", "0", "box")
    events = gated.events("box")
    reloads = [i for i, e in enumerate(events) if e["metadata"]["event_code"] == "policy-reloaded"]
    at = reloads[-1]
    named = {(e["policy"]["name"], e["policy"]["version"], e["policy"]["uid"]) for e in events[at:]}
    assert named == {(f"{after}:default", "4", state["digest"])}
    assert {e["policy"]["version"] for e in events[: reloads[0]]} == {"1"}
    by = events[at]["actor"]
    assert by["user"]["uid"] == str(gated.desk.user.uid)
    assert by["process"]["pid"] > 0
    assert events[at]["unmapped"]["cause"] == "command"
    # When the sandbox has ended, its log still knows.
    assert kinds(box.history())[-1] == ("reloaded", 4, "command")
    assert "+ mine (api.test)" in box.call("history", "box")


@ORDINARY
def test_a_file_that_an_agent_may_have_written_is_not_followed_and_not_reloaded(box: Box) -> None:
    gated = box.gated
    # A first agent can write everything below, but for a policy file in the work directory itself.
    first = gated.policy(gated.rule("other.test"), name="first.toml")
    box.call("run", "-p", first, "--name", "first", "--", "mkdir", "sub")
    box.below = "sub"
    file = box.folder / "policies.toml"
    file.write_text(Path(gated.policy(gated.rule("api.test"), name="made.toml")).read_text())
    os.chown(file, gated.desk.user.uid, gated.desk.user.gid)
    content = file.read_text()
    assert "policy trust" in box.start(status=3)
    box.call("policy", "trust", "--yes", str(file))
    assert "cannot be watched" in box.start("--watch", status=2)
    box.start()
    assert box.tries() == "200"
    changed = content.replace("api.test", "other.test")
    file.write_text(changed)
    assert "policy trust" in box.call("reload", "box", status=3)
    box.hang_up()
    assert until(lambda: box.history()[-1]["kind"] == "refused")
    assert "an agent may have written it" in box.history()[-1]["reason"]
    assert box.tries() == "200"
    box.call("policy", "trust", "--yes", str(file))
    box.call("reload", "box")
    assert box.tries() == "403"


@ORDINARY
def test_on_a_terminal_sighup_still_ends_the_command(box: Box) -> None:
    gated = box.gated
    policy = gated.policy(gated.rule("api.test"))
    ours, theirs = os.openpty()

    def take_terminal() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    running = subprocess.Popen(
        gated.command("run", "-p", policy, "--name", "box", "--", "sleep", "60"),
        cwd=box.folder, env=gated.desk.environment("inside"),
        stdin=theirs, stdout=theirs, stderr=theirs,
        start_new_session=True, preexec_fn=take_terminal,
    )  # fmt: skip
    os.close(theirs)
    try:
        assert until(lambda: bool(box.call("ps", "--json")))
        assert until(
            lambda: any(
                e["metadata"]["event_code"] == "process-launched" for e in gated.events("box")
            )
        )
        box.hang_up()
        assert running.wait(20) == -signal.SIGHUP
        assert [each["kind"] for each in box.history()] == ["started"]
    finally:
        running.kill()
        running.wait()
        os.close(ours)


LOAD = """
import asyncio, json, os, sys
BLOCK = bytes(range(256)) * 8
found = {"api.test": [0, 0, 0], "other.test": [0, 0, 0]}
async def work(host):
    reader, writer = await asyncio.open_connection(host, PORT)
    counts = found[host]
    try:
        while not os.path.exists("end"):
            writer.write(BLOCK)
            if await reader.readexactly(len(BLOCK)) != BLOCK:
                counts[2] += 1
            counts[0] += 1
            await asyncio.sleep(0.005)
        writer.write_eof()
        if await reader.read() != b"":
            counts[2] += 1
    except (OSError, asyncio.IncompleteReadError):
        counts[1] += 1
async def main():
    tasks = [asyncio.ensure_future(work(host)) for host in found for _ in range(50)]
    while sum(counts[0] for counts in found.values()) < 300:
        await asyncio.sleep(0.01)
    open("ready", "w").close()
    await asyncio.gather(*tasks)
    with open("found", "w") as file:
        json.dump(found, file)
asyncio.run(main())
"""


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while data := self.request.recv(65536):
            self.request.sendall(data)


class Echoes(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 256


@ORDINARY
def test_under_load_the_forbidden_half_is_cut_and_the_other_loses_no_byte(box: Box) -> None:
    gated = box.gated
    with Echoes(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        ports = f"[{server.server_address[1]}]"
        rules = {
            host: gated.rule(host).replace("ports = [", f"ports = {ports}\n#")
            for host in ("api.test", "other.test")
        }
        policy = gated.policy("".join(rules.values()))
        work = gated.desk.folder("inside")
        (work / "load.py").write_text(LOAD.replace("PORT", str(server.server_address[1])))
        box.start("-p", policy, script="unset http_proxy; python3 load.py")
        assert until((work / "ready").exists)
        # Refused ones: nobody notices.
        wrong = gated.desk.base / "wrong.toml"
        wrong.write_text(Path(policy).read_text().replace("host", "hots"))
        os.chown(wrong, gated.desk.user.uid, gated.desk.user.gid)
        box.call("reload", "box", "-p", str(wrong), status=3)
        wrong.write_text(Path(policy).read_text() + "[policy.default.process]\nmax_processes = 9\n")
        box.call("reload", "box", "-p", str(wrong), status=2)
        after = gated.policy(rules["api.test"], name="after.toml")
        box.call("reload", "box", "-p", after)
        (work / "end").touch()
        assert until((work / "found").exists)
        server.shutdown()
    found = json.loads((work / "found").read_text())
    rounds, cut, wrong_answers = found["api.test"]
    assert (cut, wrong_answers) == (0, 0)
    assert rounds > 50
    assert found["other.test"][1:] == [50, 0]
