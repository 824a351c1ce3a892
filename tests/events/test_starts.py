"""A command's start is logged before it is asked for, and its refusal after."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nemoclaw_hookspecs.errors import CommandNotFound, EventLogError

from nemoclaw_core.events.log import EventLog
from nemoclaw_core.events.record import Context
from nemoclaw_core.launcher import wire
from nemoclaw_core.supervisor.session import Command, Session


class QuietLauncher:
    """Gives a channel whose other end the test holds."""

    def __init__(self) -> None:
        self.channel, self.theirs = wire.pair()
        self.killed: list[int] = []

    def spawn(
        self, name: str, remove: tuple[str, ...] = (), written: tuple[str, ...] = ()
    ) -> tuple[int, Any]:
        return 1, self.channel

    def kill(self, number: int) -> None:
        self.killed.append(number)


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EventLog]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    found = EventLog.open("box")
    yield found
    found.close()


@pytest.fixture
def launcher() -> Any:
    return QuietLauncher()


@pytest.fixture
def session(log: EventLog, launcher: Any, tmp_path: Path) -> Session:
    plan = {"steps": [], "layers": [], "workdir": str(tmp_path)}
    return Session(launcher, plan, Context("box"), log)


def codes(tmp_path: Path) -> list[str]:
    """What kinds of events about commands the log holds."""
    lines = (tmp_path / "nemoclaw/box/events.jsonl").read_text().splitlines()
    found = [str(json.loads(line)["metadata"]["event_code"]) for line in lines]
    return [code for code in found if not code.startswith("nemoclaw-")]


def start(session: Session) -> int:
    return session.start(Command(["program"], environment={}, workdir="/"), (0, 1, 2))


def test_a_start_is_logged_before_it_is_asked_for(session: Session, tmp_path: Path) -> None:
    number = start(session)
    assert codes(tmp_path) == ["process-launched"]
    session.ended(number, 0)
    assert codes(tmp_path) == ["process-launched", "process-ended"]


def test_a_refused_start_is_not_logged_as_ended(session: Session, tmp_path: Path) -> None:
    assert isinstance(session.refusal(start(session), 2, "program"), CommandNotFound)
    session.close()
    assert codes(tmp_path) == ["process-launched", "sandbox-refused"]


def test_a_start_that_cannot_be_logged_is_not_asked_for(
    session: Session, launcher: Any, log: EventLog
) -> None:
    log.close()
    launcher.theirs.setblocking(False)
    with pytest.raises(EventLogError):
        start(session)
    with pytest.raises(BlockingIOError):
        launcher.theirs.recv(1)
