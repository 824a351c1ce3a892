"""A directory for logs, and what tests do with a log again and again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nemoclaw_core.events import ocsf
from nemoclaw_core.events.log import EventLog
from nemoclaw_core.events.record import Context

NAME = "box"


class Shelf:
    """The folder of one sandbox's log."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.folder = directory / NAME
        self.log = self.folder / "events.jsonl"
        self.head = self.folder / "events.head"
        self.context = Context(NAME, policy="policies.toml:default", policy_digest="a" * 64)
        self._open: list[EventLog] = []

    def open(self, *, durable: bool = False) -> EventLog:
        """Open the log; closed at the test's end at the latest."""
        log = EventLog.open(NAME, directory=str(self.directory), durable=durable)
        self._open.append(log)
        return log

    def fill(self, count: int) -> None:
        """Write ``count`` records and close."""
        log = self.open()
        for number in range(count):
            log.append(self.launch(f"/usr/bin/program-{number}"))
        log.close()

    def launch(self, program: str = "/bin/true") -> dict[str, Any]:
        """A record of something that begins."""
        return ocsf.process_launched(self.context, argv=[program], pid=7, uid=1000)

    def end(self, program: str = "/bin/true") -> dict[str, Any]:
        """A record of something that has ended."""
        return ocsf.process_ended(
            self.context,
            argv=[program],
            pid=7,
            code=0,
            signal=None,
            reason="exited",
            duration=0.5,
        )

    def lines(self) -> list[bytes]:
        """The log's complete lines."""
        return self.log.read_bytes().split(b"\n")[:-1]

    def records(self) -> list[dict[str, Any]]:
        """The log's records."""
        return [json.loads(line) for line in self.lines()]

    def codes(self) -> list[str]:
        """What kinds of events the log holds, in order."""
        return [record["metadata"]["event_code"] for record in self.records()]

    def write(self, lines: list[bytes]) -> None:
        """Put other lines into the log, as somebody with an editor would."""
        self.log.write_bytes(b"".join(line + b"\n" for line in lines))

    def close(self) -> None:
        for log in self._open:
            log.close()


def interrupted(*_: object) -> int:
    """Stands for a system call in which the user presses Ctrl-C."""
    raise KeyboardInterrupt


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    directory = tmp_path / "state"
    directory.mkdir(mode=0o700)
    found = Shelf(directory)
    yield found
    found.close()
