"""Claims about ``nemoclaw history``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nemoclaw_core import cli
from nemoclaw_core.egress.changes import Change, as_data, told
from nemoclaw_core.egress.questions import Operator
from nemoclaw_core.events.log import EventLog
from nemoclaw_core.events.network import policy_reloaded, reload_refused
from nemoclaw_core.events.ocsf import nemoclaw_started, nemoclaw_stopped
from nemoclaw_core.events.record import Context

BY = Operator(uid=1000, pid=7, command="nemoclaw")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "nemoclaw"


def write(folder: Path, run: str, changes: list[Change]) -> None:
    """One start of a sandbox, with one reload and one that was refused."""
    folder.parent.mkdir(exist_ok=True)
    context = Context("box", policy="p.toml:default", policy_digest="d" * 64, run=run)
    log = EventLog.open("box", directory=str(folder), context=context)
    log.append(
        nemoclaw_started(context),
        policy_reloaded(
            context,
            policy=("q.toml:default", "e" * 64, 2),
            changes=as_data(changes),
            told=told(changes),
            by=BY,
            cause="watch",
        ),
        reload_refused(context, policy="r.toml:x\x1b[2J", reason="no", by=BY, cause="command"),
        nemoclaw_stopped(context),
    )
    log.close()


def test_every_generation_is_told_with_who_when_and_what(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = [
        Change("added", "mine", "a.test"),
        Change("removed", "b.test", "b.test"),
        Change("changed", "c", "c.test", ("http", "ports")),
    ]
    write(folder, "one", changes)
    write(folder, "two", [])
    assert cli.main(["history", "box"]) == 0
    text = capsys.readouterr().out
    assert "\x1b" not in text
    first, second = text.split("\n\n")
    lines = first.splitlines()
    assert lines[0].startswith("      1  ")
    assert lines[0].endswith("p.toml:default")
    assert lines[2].strip() == f"digest {'d' * 64}"
    assert lines[3].startswith("      2  ")
    assert lines[3].endswith("q.toml:default")
    assert lines[4].strip() == "user 1000, process 7 (nemoclaw), by watch"
    assert [line.strip() for line in lines[6:9]] == [
        "+ mine (a.test)", "- b.test", "~ c (c.test): http, ports",
    ]  # fmt: skip
    assert lines[9].startswith("refused")
    assert lines[11].strip() == "no"
    assert second.count("\n") == 9
    assert cli.main(["history", "box", "--json"]) == 0
    found = list(map(json.loads, capsys.readouterr().out.splitlines()))
    assert [each["run"] for each in found] == ["one"] * 3 + ["two"] * 3
    assert found[1]["changes"][2]["keys"] == ["http", "ports"]


def test_a_thousand_changes_are_counted_and_some_are_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder, "one", [Change("added", f"rule {n}", f"h{n}.test") for n in range(1000)])
    assert cli.main(["history", "box", "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[1])
    assert found["added"] == 1000
    assert 50 < len(found["changes"]) < 1000
    assert cli.main(["history", "box"]) == 0
    assert f"and {1000 - len(found['changes'])} more" in capsys.readouterr().out


def test_what_is_no_record_is_passed_over(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder, "one", [])
    log = folder / "box" / "events.jsonl"
    junk = [
        b'"policy-reloaded"', b'{"metadata": {"event_code": "policy-reloaded"}, "policy": 1}',
        b"policy-reloaded \xff", b"[" * 99999 + b"reload-refused",
    ]  # fmt: skip
    log.write_bytes(b"\n".join(junk) + b"\n" + log.read_bytes())
    assert cli.main(["history", "box", "--json"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_a_sandbox_without_a_log_is_an_error(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["history", "box"]) == 2
    assert "there is no log of a sandbox 'box'" in capsys.readouterr().err
