"""Standard streams lead nowhere, also where the agent has the id of who started it.

As root the agent is somebody else, and file permissions alone would stop these attacks; as an
ordinary user nothing does but that the agent never holds the host's own files and pipes.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ..desks import Desk

INJECT = "sh -c 'echo injected > /proc/self/fd/0'"
CHANGE = "/usr/bin/python3 -c 'import os; os.fchmod(0, 0o666)'"
AFTER = "while read line; do echo host read $line; done"


def shell(desk: Desk, script: str) -> str:
    """What a script of the desk's user prints, with nemoclaw as ``$N``."""
    nemoclaw = shlex.join(desk.user.nemoclaw)
    done = subprocess.run(
        ["sh", "-c", f"N={shlex.quote(nemoclaw)}; {script}"],
        cwd=desk.folder("inside"),
        env=desk.environment("inside"),
        capture_output=True,
        text=True,
        timeout=60,
        **desk.user.arguments(),
    )
    printed: str = done.stdout
    return printed


@pytest.fixture(params=["run", "exec"])
def start(request: pytest.FixtureRequest, desk: Desk) -> Iterator[str]:
    """How a command is started inside: by ``run``, or by ``exec`` beside another."""
    if request.param == "run":
        yield "$N run --"
        return
    assert shell(desk, "$N run --name worker --detach -- sleep 300") == "worker\n"
    yield "$N exec worker --"
    shell(desk, "$N stop --grace 0s worker")


def test_a_pipe_cannot_be_written_to_by_who_reads_it(desk: Desk, start: str) -> None:
    assert "host read injected" in shell(desk, f"echo line | ({INJECT}; {AFTER})")
    assert "injected" not in shell(desk, f"echo line | ({start} {INJECT}; {AFTER})")


def test_the_mode_of_a_file_cannot_be_changed(desk: Desk, start: str) -> None:
    file = desk.base / "inside" / "given"
    file.write_text("data\n")
    os.chown(file, desk.user.uid, desk.user.gid)
    shell(desk, f"{CHANGE} < {file}")
    assert file.stat().st_mode & 0o777 == 0o666
    file.chmod(0o600)
    assert shell(desk, f"{start} sh -c {shlex.quote('cat; ' + CHANGE)} < {file}") == "data\n"
    assert file.stat().st_mode & 0o777 == 0o600
