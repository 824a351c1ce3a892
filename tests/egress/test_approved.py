"""An answer that becomes a rule: into which files, and what happens where it cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from nemoclaw_hookspecs.errors import NemoclawError, UsageError

from nemoclaw_core import trust
from nemoclaw_core.cli import approved
from nemoclaw_core.egress.questions import Question
from nemoclaw_core.observe import digest
from nemoclaw_core.policy.files import SHIPPED
from nemoclaw_core.supervisor import client

QUESTION = Question(sandbox="box", id="1", host="new.test", port=443)
POLICY = b"version = 1\n[policy.default]\nnetwork.mode = 'proxy'  # words\n"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A policy that is in force in a sandbox, whose supervisor does whatever it is asked to."""
    for name in ("STATE", "CONFIG", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    found = tmp_path / "agents" / "policies.toml"
    found.parent.mkdir()
    found.write_bytes(POLICY)
    in_force(monkeypatch, str(found))
    monkeypatch.setattr(approved, "put_in_force", lambda name, policy: f"{policy} is in force")
    return found


def in_force(monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    def request(name: str, what: dict[str, Any]) -> dict[str, Any]:
        assert what == {"request": "status"}
        return {"policy": f"{file}:default"}

    monkeypatch.setattr(client, "request", request)


def reachable(folder: Path) -> None:
    """A sandbox could write everything in a folder."""
    step = {"op": "bind_mount", "read_only": False, "kind": "directory",
            "source": str(folder.parent), "target": str(folder.parent)}  # fmt: skip
    trust.record_writable({"steps": [{"op": "enter_view"}, step]})


def test_a_rule_is_written_and_put_in_force(file: Path) -> None:
    told = approved.write_rule("box", QUESTION)
    assert told == f"box: {file} has a rule for new.test:443; {file}:default is in force"
    assert file.read_bytes().startswith(POLICY)
    assert b'host = "new.test"' in file.read_bytes()


def test_what_a_plugin_holds_is_no_matter_of_rules(file: Path) -> None:
    held = Question(sandbox="box", id="1", host="new.test", port=443, asker="guard")
    with pytest.raises(UsageError, match="plugin 'guard'"):
        approved.write_rule("box", held)
    assert file.read_bytes() == POLICY


def test_nothing_is_written_into_the_file_that_ships(monkeypatch: pytest.MonkeyPatch) -> None:
    in_force(monkeypatch, SHIPPED)
    before = Path(SHIPPED).read_bytes()
    with pytest.raises(UsageError, match="ships with nemoclaw") as caught:
        approved.write_rule("box", QUESTION)
    assert "extends" in str(caught.value)
    assert Path(SHIPPED).read_bytes() == before


def _raises(*_: str) -> str:
    raise NemoclawError("it differs in what was locked")


@pytest.mark.parametrize("vouched", [True, False])
def test_what_cannot_be_put_in_force_is_taken_out_again(
    file: Path, monkeypatch: pytest.MonkeyPatch, vouched: bool
) -> None:
    if vouched:
        trust.trust(str(file), digest(POLICY))
    monkeypatch.setattr(approved, "put_in_force", _raises)
    with pytest.raises(NemoclawError, match="locked"):
        approved.write_rule("box", QUESTION)
    assert file.read_bytes() == POLICY
    assert trust.trusts(str(file), digest(POLICY)) == vouched


def test_a_file_in_an_agents_reach_is_written_only_if_it_is_vouched_for(file: Path) -> None:
    reachable(file.parent)
    with pytest.raises(UsageError, match="an agent may have written it"):
        approved.write_rule("box", QUESTION)
    assert file.read_bytes() == POLICY
    trust.trust(str(file), digest(POLICY))
    inode = file.stat().st_ino
    approved.write_rule("box", QUESTION)
    # Still vouched for; and no name was made that the agent could have opened.
    assert trust.verdict(str(file), digest(file.read_bytes())) is None
    assert file.stat().st_ino == inode


def test_a_file_that_was_changed_since_is_not_vouched_for_anew(file: Path) -> None:
    reachable(file.parent)
    trust.trust(str(file), digest(POLICY))
    file.write_bytes(POLICY + b"# of an agent\n")
    with pytest.raises(UsageError, match="an agent may have written it"):
        approved.write_rule("box", QUESTION)


def test_one_rule_follows_another(file: Path) -> None:
    approved.write_rule("box", QUESTION)
    approved.write_rule("box", Question(sandbox="box", id="2", host="more.test", port=80))
    text = file.read_text()
    assert text.count("[[policy.default.network.allow]]") == 2
    assert "ports = [80]" in text
