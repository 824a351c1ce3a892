"""A desk of its own for each test, once as root and once as an ordinary user.

The ordinary user's tests run wholly as that user, in a forked child: what they prove outside, the
files that they make, and nemoclaw. Their fixtures are set up by who runs the tests, so a fixture
starts nothing that its test waits for, and leaves no file of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nemoclaw_testing.forked import run_forked_within

from ..callers import User
from ..desks import place

SECONDS = 100
"""How long a test may take in its child: less than pytest allows the whole of it."""


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run the test as its caller."""
    caller = pyfuncitem.funcargs.get("caller")
    if not isinstance(caller, User) or caller.uid == os.getuid():
        return None
    names = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in names}

    def run() -> None:
        caller.become()
        pyfuncitem.obj(**arguments)

    run_forked_within(SECONDS, run)
    return True


class Cli:
    """Runs nemoclaw as a process, the way a user does."""

    def __init__(self, base: Path, user: User) -> None:
        self._user = user
        self.program = user.nemoclaw
        self.home = base / "home"
        self.work = base / "home/work"
        self.state = base / "state"
        self.run_dir = base / "run"
        for folder in (self.home, self.work, self.state, self.run_dir):
            folder.mkdir(mode=0o700)
            os.chown(folder, user.uid, user.gid)
        self.environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "XDG_CACHE_HOME": str(base / "cache"),
            "XDG_CONFIG_HOME": str(base / "config"),
            "XDG_RUNTIME_DIR": str(self.run_dir),
            "XDG_STATE_HOME": str(self.state),
            **user.variables(),
        }
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        """Start nemoclaw; ended at the test's end at the latest."""
        options.setdefault("stdin", subprocess.DEVNULL)
        process = subprocess.Popen(
            [*self.program, *arguments],
            cwd=options.pop("cwd", self.work),
            env={**self.environment, **options.pop("env", {})},
            **self._user.arguments(),
            **options,
        )
        self._started.append(process)
        return process

    def run(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
        """Run nemoclaw to its end."""
        data = options.pop("input", None)
        if data is not None:
            options["stdin"] = subprocess.PIPE
        process = self.start(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
        out, err = process.communicate(data, timeout=30)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def sandbox(self, *argv: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
        """Run a command in a sandbox, under the policy that ships."""
        return self.run("run", "--", *argv, **options)

    def events(self, name: str) -> list[dict[str, Any]]:
        """The records of a sandbox's log."""
        path = self.state / "nemoclaw" / name / "events.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()]

    def pids(self) -> set[int]:
        """Process ids of every nemoclaw that this desk has started."""
        return {process.pid for process in self._started}

    def close(self) -> None:
        """End what still runs."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()


@pytest.fixture
def tmp_path(caller: User) -> Iterator[Path]:
    """A directory of the caller, who could not enter pytest's own."""
    with place(caller, "lifecycle") as found:
        yield found


@pytest.fixture
def cli(tmp_path: Path, caller: User) -> Iterator[Cli]:
    found = Cli(tmp_path, caller)
    yield found
    found.close()
