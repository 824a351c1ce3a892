"""A supervisor that has polled its sandbox never waits for it."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from nemoclaw_core.events.log import EventLog
from nemoclaw_core.events.record import Context
from nemoclaw_core.launcher import wire
from nemoclaw_core.supervisor.session import Session


class QuietLauncher:
    """Gives a channel whose other end the test holds."""

    def __init__(self) -> None:
        ours, self.theirs = wire.pair()
        self.channel = ours

    def spawn(
        self, name: str, remove: tuple[str, ...] = (), written: tuple[str, ...] = ()
    ) -> tuple[int, Any]:
        return 1, self.channel


@pytest.fixture
def launcher() -> QuietLauncher:
    return QuietLauncher()


@pytest.fixture
def session(
    launcher: Any, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Session:
    base = str(tmp_path_factory.mktemp("session"))
    monkeypatch.setenv("XDG_STATE_HOME", base)
    plan = {"steps": [], "layers": [], "workdir": base}
    return Session(launcher, plan, Context("box"), EventLog.open("box"))


def test_a_late_word_of_the_launcher_is_one_report(session: Session, launcher: Any) -> None:
    """The sandbox may be ready before the launcher has told its pid. The loop polls, reads that,
    and must come back: it has signals and clients to serve."""
    wire.send_report(launcher.theirs, wire.READY)
    session.wait_ready()
    wire.send_report(launcher.theirs, wire.CREATED, value=4711)
    session.channel.settimeout(1)  # What waits for a second report fails here.
    report = session.receive()
    assert report is not None
    assert report[0] == wire.CREATED
    assert session.pid == 4711


def test_a_signal_to_a_sandbox_that_has_just_ended_is_no_error(
    session: Session, launcher: Any
) -> None:
    launcher.theirs.close()
    session.signal(0, signal.SIGTERM)
    assert session.receive() is None
