"""A desk of its own for each test: home, work directory, nemoclaw's directories."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


class Cli:
    """Runs nemoclaw as a process, the way a user does."""

    def __init__(self, base: Path) -> None:
        self.home = base / "home"
        self.work = base / "home/work"
        self.state = base / "state"
        self.run_dir = base / "run"
        for folder in (self.home, self.work, self.state, self.run_dir):
            folder.mkdir(mode=0o700)
        self.environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "XDG_CACHE_HOME": str(base / "cache"),
            "XDG_CONFIG_HOME": str(base / "config"),
            "XDG_RUNTIME_DIR": str(self.run_dir),
            "XDG_STATE_HOME": str(self.state),
        }
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        """Start nemoclaw; ended at the test's end at the latest."""
        options.setdefault("stdin", subprocess.DEVNULL)
        process = subprocess.Popen(
            [sys.executable, "-m", "nemoclaw_core.cli", *arguments],
            cwd=options.pop("cwd", self.work),
            env={**self.environment, **options.pop("env", {})},
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
def cli(tmp_path: Path) -> Iterator[Cli]:
    found = Cli(tmp_path)
    yield found
    found.close()
