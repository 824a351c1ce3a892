"""What the other tests here rely on: they, nemoclaw and its launcher run as their caller."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nemoclaw_core import Sandbox

from .support import alive, launchers, wait_for

if TYPE_CHECKING:
    from ..callers import User

AGENT_OF_ROOT = 65532
"""The id that root's agents have, so that they are not root. Others' agents keep their user's."""
CAPABILITIES = ("CapEff", "CapPrm", "CapAmb")


def fields(pid: int | str) -> dict[str, list[str]]:
    """/proc/PID/status, each field as a list of words."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: words.split() for name, _, words in (line.partition(":") for line in lines)}


def test_a_test_is_its_caller_and_cannot_go_back(caller: User) -> None:
    found = fields("self")
    assert found["Uid"] == [str(caller.uid)] * 4
    assert found["Gid"] == [str(caller.gid)] * 4
    if caller.uid:
        assert {int(found[name][0], 16) for name in CAPABILITIES} == {0}
        with pytest.raises(PermissionError):
            os.setuid(0)


def test_a_process_that_a_test_starts_is_its_callers(cli: Any, caller: User) -> None:
    process = cli.start("run", "--", "sleep", "60")
    assert wait_for(lambda: launchers(cli))
    for pid in (process.pid, *launchers(cli)):
        assert fields(pid)["Uid"] == [str(caller.uid)] * 4


def test_the_python_interface_is_used_by_the_caller(
    cli: Any, caller: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in cli.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(cli.work)
    marker = f"{os.getpid()}4713"
    with Sandbox() as sandbox:
        sandbox.start(["sleep", marker])
        assert wait_for(lambda: alive(marker))
        (agent,) = alive(marker)
        assert fields(agent)["Uid"] == [str(caller.uid or AGENT_OF_ROOT)] * 4
