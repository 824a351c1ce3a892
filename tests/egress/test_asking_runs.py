"""`unknown = "ask"` in real sandboxes: clients are held, and an operator answers or does not.

What is approved lies behind a company's proxy, as a public address: an operator can let the agent
reach nothing else.
"""

from __future__ import annotations

import json
import os
import pty
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from .corporate import CorporateProxy
from .grounds import DIRECT, WAYS, Gated

SECONDS = 20.0
"""How long any one thing may take before the test fails."""
_HOSTS = "127.0.0.1 localhost private.test\n203.0.114.9 new.test more.test\n"


@attrs.frozen
class Asked:
    """A gate with an operator."""

    gated: Gated
    running: list[subprocess.Popen[str]] = attrs.field(factory=list)

    @property
    def port(self) -> int:
        return self.gated.outside.plain

    def policy(self, rules: str = "", timeout: str = "20s", **more: str) -> str:
        return self.gated.policy(rules, unknown="'ask'", ask_timeout=f"'{timeout}'", **more)

    def start(self, policy: str, script: str, **options: Any) -> subprocess.Popen[str]:
        running = subprocess.Popen(
            self.gated.command("run", "-p", policy, "--name", "box", "--", "bash", "-c", script),
            cwd=self.gated.desk.folder("inside"),
            env=self.gated.desk.environment("inside"),
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options},
        )
        self.running.append(running)
        return running

    def operate(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command of the operator's."""
        return subprocess.run(
            [*self.gated.desk.user.nemoclaw, *arguments],
            cwd=self.gated.desk.folder("inside"),
            env=self.gated.desk.environment("inside"),
            capture_output=True,
            text=True,
            timeout=30,
            **self.gated.desk.user.arguments(),
        )

    def curl(self, path: str, host: str = "new.test", *options: str) -> str:
        """A command that prints the status it got, and the path."""
        url = f"http://{host}:{self.port}/{path}"
        return f"curl -sS -o /dev/null {' '.join(options)} -w '%{{http_code}} {path}\\n' {url}"

    def codes(self) -> list[str]:
        """The event codes of the gate so far."""
        try:
            events = self.gated.events("box")
        except (FileNotFoundError, json.JSONDecodeError):
            return []
        names = [event["metadata"]["event_code"] for event in events]
        return [each for each in names if each.startswith(("egress", "request", "policy"))]

    def wait_held(self, count: int) -> None:
        """Wait until so many questions were asked, from the start of the sandbox."""
        held = ("egress-held", "request-held")

        def enough() -> bool:
            running = self.running[-1]
            if running.poll() is not None and running.stderr is not None:
                pytest.fail(f"it has ended: {running.stderr.read()}")
            return sum(code in held for code in self.codes()) >= count

        wait_for(enough)

    def pending(self, *options: str) -> list[dict[str, Any]]:
        done = self.operate("pending", "box", "--json", *options)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.01)


@pytest.fixture
def asked(gated: Gated) -> Iterator[Asked]:
    proxy = CorporateProxy(b"HTTP/1.1 200 OK\r\n\r\n", forward=True)
    folder = gated.desk.base / "inside/config/nemoclaw"
    folder.mkdir(mode=0o700)
    settings, hosts = folder / "settings.toml", gated.desk.base / "hosts"
    settings.write_text(f'[upstream]\nproxy = "http://127.0.0.1:{proxy.port}"\n')
    settings.chmod(0o600)
    hosts.write_text(_HOSTS)
    for each in (folder, settings):
        os.chown(each, gated.desk.user.uid, gated.desk.user.gid)
    found = Asked(attrs.evolve(gated, outside=attrs.evolve(gated.outside, hosts=hosts)))
    yield found
    for running in found.running:
        if running.poll() is None:  # the test has failed, and these are words for it
            running.terminate()
            print(running.communicate(timeout=SECONDS))
    proxy.close()


def test_an_operator_answers(asked: Asked) -> None:
    """Approve once, deny, approve for the sandbox two at a time, give up, and a private address."""
    script = "; ".join(
        (
            asked.curl("once"),
            asked.curl("denied"),
            f"{asked.curl('first')} & {asked.curl('second')}; wait",
            asked.curl("unasked"),
            f"{asked.curl('impatient', 'more.test', '-m', '0.4')} 2>/dev/null",
            asked.curl("inside", "private.test"),
        )
    )
    running = asked.start(asked.policy(), script)

    asked.wait_held(1)
    (question,) = asked.pending()
    assert (question["id"], question["host"], question["port"]) == ("1", "new.test", asked.port)
    assert question["program"].endswith("/curl")
    unnamed = asked.operate("approve", "box")  # the agent could ask for something else meanwhile
    assert (unnamed.returncode, "name it by its ID" in unnamed.stderr) == (2, True)
    assert f"new.test:{asked.port}" in unnamed.stderr
    done = asked.operate("approve", "box", "1")
    assert (done.returncode, done.stdout) == (0, "")
    assert "allowed once" in done.stderr

    asked.wait_held(2)
    shown = asked.operate("pending", "box").stdout.splitlines()
    assert shown[0].split() == ["ID", "WAITING", "LEFT", "WHAT", "WHO", "WHY"]
    assert shown[1].split()[0] == "1"  # the same question, so the same number
    assert asked.operate("deny", "box", "1").returncode == 0

    asked.wait_held(3)
    wait_for(lambda: [each["waiting"] for each in asked.pending()] == [2])
    assert asked.operate("approve", "box", "1", "--for", "sandbox").returncode == 0

    asked.wait_held(4)  # who gives up is not waited for
    asked.wait_held(5)
    wait_for(lambda: [each["host"] for each in asked.pending()] == ["private.test"])
    (question,) = asked.pending()
    missing = asked.operate("approve", "box", "99")
    assert (missing.returncode, "no question '99'" in missing.stderr) == (2, True)
    done = asked.operate("approve", "box", question["id"], "--json")
    assert json.loads(done.stdout)["answer"] == "allowed"

    out, err = running.communicate(timeout=SECONDS)
    lines = out.splitlines()
    assert lines[:2] == ["200 once", "403 denied"], err
    assert sorted(lines[2:4]) == ["200 first", "200 second"]
    assert lines[4:] == ["200 unasked", "000 impatient", "403 inside"]
    (told, *_) = [line for line in err.splitlines() if "is asked for" in line]
    assert f"new.test:{asked.port} is asked for by curl: `nemoclaw approve box 1`" in told
    _check_events(asked.gated.events("box"), asked.gated.desk.user.uid)


def _check_events(events: list[dict[str, Any]], uid: int) -> None:
    """One event when a question is asked, one for each decision, and who has answered."""
    by_path: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        if "http_request" in event:
            path = event["http_request"]["url"]["path"]
            by_path.setdefault(path, []).append(event)
    shown = {
        path: [(e["metadata"]["event_code"], e["disposition_id"], e["status_code"]) for e in group]
        for path, group in by_path.items()
    }
    held = ("request-held", 14, "no-rule")
    assert shown["/once"] == [held, ("request-allowed", 8, "operator")]
    assert shown["/denied"] == [held, ("request-denied", 25, "operator")]
    assert sorted([*shown["/first"], *shown["/second"]]) == sorted(
        [held, *[("request-allowed", 8, "operator")] * 2]
    )
    assert shown["/unasked"] == [("request-allowed", 8, "operator")]
    assert shown["/impatient"] == [held, ("request-denied", 2, "withdrawn")]
    assert shown["/inside"] == [held, ("request-allowed", 8, "operator")]  # and then the address
    assert events[-3]["status_code"] == "address"
    answer = by_path["/once"][-1]["unmapped"]["answer"]
    assert (answer["uid"], answer["scope"]) == (uid, "once")
    assert answer["pid"] > 0
    assert answer["command"]


@WAYS
@pytest.mark.parametrize("caller", ["root"], indirect=True)
def test_nobody_answers(asked: Asked, way: str) -> None:
    """A tunnel and a connection are held as a request is; so is what a name is resolved for."""
    url = f"https://new.test:{asked.gated.outside.secure}/x"
    running = asked.start(asked.policy(timeout="150ms"), f"{way}curl -sS -k {url}")
    out, err = running.communicate(timeout=SECONDS)
    assert running.returncode in (35, 56)
    assert out == ""
    assert asked.codes() == ["egress-held", "egress-denied"], err
    denied = asked.gated.events("box")[-3]
    assert denied["status_code"] == "no-answer"
    assert 'host = "new.test"' in denied["unmapped"]["remedy"]


@pytest.mark.parametrize("caller", ["root"], indirect=True)
def test_a_connection_is_held_and_goes_on(asked: Asked) -> None:
    """Through TLS of the server's own, and told on the terminal that the agent has."""
    secure = asked.gated.outside.secure
    master, slave = pty.openpty()
    script = f"printf half; {DIRECT}curl -sS -k https://new.test:{secure}/x"
    name = os.ttyname(slave)
    running = asked.start(
        asked.policy(),
        script,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        # A new session takes the first terminal that it opens.
        preexec_fn=lambda: os.close(os.open(name, os.O_RDWR)),
    )
    os.close(slave)
    asked.wait_held(1)
    assert asked.operate("approve", "box", "1").returncode == 0
    shown = _read_all(master)
    assert running.wait(SECONDS) == 0
    assert shown.startswith(f"half\r\nnemoclaw: new.test:{secure} is asked for by curl: ")
    assert shown.endswith("within 20 s\r\npage /x\r\n")


def _read_all(master: int) -> str:
    data = b""
    try:
        while piece := os.read(master, 65536):
            data += piece
    except OSError:  # EIO: nobody has the other side any more
        pass
    os.close(master)
    return data.decode()


@pytest.mark.parametrize("place", ["beside", "workdir"])
def test_an_answer_becomes_a_rule(asked: Asked, place: str) -> None:
    """With everything else in the file as it was; in force at once; and the sandbox lives on, whose
    view covers the file in the work directory."""
    written = asked.policy("# my own words\n")
    if place == "workdir":
        moved = asked.gated.desk.folder("inside") / "policies.toml"
        os.rename(written, moved)
        written = str(moved)
    os.chmod(written, 0o640)
    before = Path(written).read_text()
    script = f"{asked.curl('waits')}; {asked.curl('later')}; sleep 0.1; echo lives"
    running = asked.start(written, script)
    asked.wait_held(1)
    done = asked.operate("approve", "box", "1", "--for", "policy")
    out, err = running.communicate(timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    assert out.splitlines() == ["200 waits", "200 later", "lives"], err
    after = Path(written).read_text()
    assert after.startswith(before)
    assert 'host = "new.test"  # nemoclaw approve, 20' in after[len(before) :]
    assert f"ports = [{asked.port}]" in after[len(before) :]
    found = os.stat(written)
    user = asked.gated.desk.user
    assert (found.st_mode & 0o7777, found.st_uid, found.st_gid) == (0o640, user.uid, user.gid)
    assert sorted(os.listdir(os.path.dirname(written))) == sorted(
        {"policies.toml"} | ({"hosts", "inside", "outside"} if place == "beside" else set())
    )
    assert asked.codes().count("policy-reloaded") >= 1
    (event,) = [e for e in asked.gated.events("box")
                if e.get("http_request", {}).get("url", {}).get("path") == "/waits"
                and e["metadata"]["event_code"] == "request-allowed"]  # fmt: skip
    assert event["status_code"] == "new.test"


@pytest.mark.parametrize("caller", ["user"], indirect=True)
def test_a_rule_is_written_into_no_file_that_is_not_ones_own(asked: Asked) -> None:
    written = asked.policy()
    running = asked.start(written, asked.curl("waits"))
    asked.wait_held(1)
    os.chown(written, 0, 0)
    before = Path(written).read_text()
    done = asked.operate("approve", "box", "1", "--for", "policy")
    assert done.returncode == 2
    assert "cannot be written" in done.stderr
    assert Path(written).read_text() == before
    assert asked.operate("deny", "box").returncode == 0
    assert running.communicate(timeout=SECONDS)[0] == "403 waits\n"


@pytest.mark.parametrize("caller", ["root"], indirect=True)
def test_a_reload_decides_what_is_held(asked: Asked) -> None:
    script = f"{asked.curl('allowed')} & {asked.curl('denied', 'more.test')} & wait"
    running = asked.start(asked.policy(), script)
    asked.wait_held(2)
    rule = f"[[policy.default.network.allow]]\nhost = 'new.test'\nports = [{asked.port}]\n"
    after = asked.gated.policy(rule, name="after.toml")
    done = asked.operate("reload", "box", "-p", after)
    assert done.returncode == 0, done.stderr
    out, err = running.communicate(timeout=SECONDS)
    assert sorted(out.splitlines()) == ["200 allowed", "403 denied"], err


_EMBEDDED = """
import asyncio, sys, threading
from nemoclaw_core import Sandbox

policy, url, way = sys.argv[1:]
curl = ["curl", "-sS", url]

def answer(sandbox, question):
    print(question.what, question.program.rpartition("/")[2])
    sandbox.approve(question)

def sync():
    with Sandbox(policy) as sandbox:
        def operate():
            for question in sandbox.questions():
                answer(sandbox, question)
            print("done")
        thread = threading.Thread(target=operate)
        thread.start()
        print(sandbox.run(curl, capture_output=True).stdout)
        print(sandbox.pending())
    thread.join()

async def later():
    async with Sandbox(policy) as sandbox:
        async def operate():
            async for question in sandbox.questions():
                print(question.what, question.program.rpartition("/")[2])
                await sandbox.approve_async(question)
            print("done")
        task = asyncio.create_task(operate())
        print((await sandbox.run_async(curl, capture_output=True)).stdout)
        print(await sandbox.pending_async())
    await task

sync() if way == "sync" else asyncio.run(later())
"""


@pytest.mark.parametrize("caller", ["root"], indirect=True)
@pytest.mark.parametrize("way", ["sync", "async"])
def test_an_embedding_program_answers(asked: Asked, way: str) -> None:
    user = asked.gated.desk.user
    command = asked.gated.command("IGNORED")
    command = [*command[: -len(user.nemoclaw) - 1], user.nemoclaw[0], "-c", _EMBEDDED]
    done = subprocess.run(
        [*command, asked.policy(), f"http://new.test:{asked.port}/x", way],
        cwd=asked.gated.desk.folder("inside"),
        env=asked.gated.desk.environment("inside"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.splitlines() == [
        f"new.test:{asked.port} curl", "b'page /x\\n'", "[]", "done",
    ], done.stderr  # fmt: skip
