"""The launcher process, driven as its supervisor drives it."""

from __future__ import annotations

import _socket
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nemoclaw_core.launcher import server, wire
from nemoclaw_core.launcher.sockets import outermost
from nemoclaw_core.supervisor.launcher import Launcher


def step(op: str, **fields: Any) -> dict[str, Any]:
    return {"op": op, "plugin": "test", "origin": "", **fields}


def bind(path: str, *, read_only: bool) -> dict[str, Any]:
    return step(
        "bind_mount", source=path, target=path, kind="directory", read_only=read_only, owner=None
    )


@pytest.fixture
def work() -> Iterator[Path]:
    found = Path(tempfile.mkdtemp(prefix="nemoclaw-launcher-", dir="/var/tmp"))
    yield found
    shutil.rmtree(found)


def plan_for(work: Path, *more: dict[str, Any]) -> dict[str, Any]:
    """A plan with a mask of a missing path, and whatever comes after it."""
    spaces = ["mount", "pid"] if os.getuid() == 0 else ["user", "mount", "pid"]
    return {
        "steps": [
            step("unshare", namespaces=spaces),
            bind("/usr", read_only=True),
            step("proc", target="/proc", masked=[]),
            bind(str(work), read_only=False),
            bind(f"{work}/.git", read_only=False),
            step("mask", target=f"{work}/.git/hooks", kind="missing"),
            *more,
            step("enter_view"),
        ]
    }


def reports(launcher: Launcher) -> list[tuple[int, int, int, str]]:
    """What a sandbox reports until it is ready, or gone."""
    _, channel = launcher.spawn(f"test{os.getpid()}")
    found = []
    while (report := wire.receive_report(channel)) is not None:
        found.append(report[:4])
        if report[0] == wire.READY:
            break
    channel.close()
    return found


def test_a_mask_of_a_missing_path_is_made_and_goes(work: Path, tmp_path: Path) -> None:
    launcher = Launcher.execute()
    launcher.prepare(plan_for(work), (str(tmp_path),))
    assert reports(launcher)[-1][0] == wire.READY
    assert (work / ".git/hooks").is_dir()
    launcher.close()
    assert list(work.iterdir()) == []
    assert list(tmp_path.iterdir()) == []


def test_a_preparation_that_fails_leaves_nothing_behind(work: Path, tmp_path: Path) -> None:
    """The masks before the failure are mounted by then; they are in the way of the clean-up."""
    missing = f"{work}/a/b/c/d"
    launcher = Launcher.execute()
    launcher.prepare(plan_for(work, bind(missing, read_only=True)), (str(tmp_path),))
    (report,) = reports(launcher)
    assert report[0] == wire.FAILED
    assert report[1] == 6, "the step that failed"
    launcher.close()
    assert list(work.iterdir()) == []
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_plan_is_reported_by_each_spawn() -> None:
    launcher = Launcher.execute()
    launcher.prepare({"steps": [step("exec")]})
    for _ in range(2):
        (report,) = reports(launcher)
        assert report[0] == wire.FAILED
        assert "there is no operation 'exec'" in report[3]
    launcher.close()


def test_without_a_plan_nothing_is_built() -> None:
    launcher = Launcher.execute()
    assert reports(launcher)[0][0] == wire.FAILED
    launcher.close()


NOTICED = 0.3
"""Seconds in which a launcher is gone that does not go on; it takes a few milliseconds where this
machine has nothing else to do."""


def ends_within(seconds: float, process: int) -> None:
    """Wait for a child's end."""
    deadline = time.monotonic() + seconds
    while os.waitpid(process, os.WNOHANG) == (0, 0):
        assert time.monotonic() < deadline, "it has not noticed"
        time.sleep(0.001)


@pytest.fixture
def alone() -> Iterator[tuple[_socket.socket, int]]:
    """A launcher, and the end of its socket that its supervisor holds."""
    ours, theirs = wire.pair()
    supervisor = os.getpid()
    pid = os.fork()
    if pid == 0:
        ours.close()
        server.become_launcher(theirs, supervisor)
    theirs.close()
    yield ours, pid
    ours.close()


def test_a_launcher_that_still_prepares_notices_that_its_supervisor_is_gone(
    work: Path, alone: tuple[_socket.socket, int]
) -> None:
    """The spawn that it was still asked for is not carried out, and leaves no file."""
    sock, pid = alone
    (work / "left.sock").touch()
    many = [step("directory", target=f"/d{number}") for number in range(3900)]
    wire.send_request(sock, ("plan", plan_for(work, *many), []))
    request = {"name": "x", "remove": [f"{work}/left.sock"], "written": []}
    channel, theirs = wire.pair()
    wire.send_request(sock, ("spawn", 1, request), (theirs.fileno(),))
    theirs.close()
    while not (work / ".git/hooks").exists():
        time.sleep(0.001)
    sock.close()
    ends_within(NOTICED, pid)
    assert wire.receive_report(channel) is None, "a sandbox was made for nobody"
    channel.close()
    assert list(work.iterdir()) == []


def test_so_does_one_that_waits_for_another_launcher(
    work: Path, alone: tuple[_socket.socket, int]
) -> None:
    sock, pid = alone
    (work / ".git").mkdir()
    (work / ".git").chmod(0o1755)
    held = os.open(work / ".git", os.O_RDONLY)
    name = Path("/proc/self/comm")
    before = name.read_text()
    name.write_text("nemoclaw-launcher")
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        wire.send_request(sock, ("plan", plan_for(work), []))
        time.sleep(0.2)
        sock.close()
        ends_within(NOTICED, pid)
    finally:
        name.write_text(before)
        os.close(held)


def test_so_does_one_that_searches(alone: tuple[_socket.socket, int]) -> None:
    sock, pid = alone
    # On a tmpfs, where so many are made and removed quickly.
    with tempfile.TemporaryDirectory(prefix="nemoclaw-launcher-", dir="/dev/shm") as tree:
        for number in range(8000):
            os.mkdir(f"{tree}/{number}")
        for _ in range(20):
            wire.send_request(sock, ("search", tree))
        time.sleep(0.03)
        sock.close()
        ends_within(NOTICED, pid)


def test_every_kind_of_report_has_a_number_of_its_own() -> None:
    kinds = [value for name, value in vars(wire).items() if name.isupper() and name[0] != "_"]
    kinds = [value for value in kinds if value not in (wire.MAX_REQUEST, wire.MAX_DESCRIPTORS)]
    assert len(kinds) > 9
    assert len(set(kinds)) == len(kinds)


def test_the_outermost_of_many_directories_are_found_at_once() -> None:
    folders = ["/a", "/a-b", "/a/x", "/a-b/c", "/b/c", "/b/c/d", "/ab"]
    assert sorted(outermost(folders)) == ["/a", "/a-b", "/ab", "/b/c"]
    assert outermost(["/x", "/"]) == ["/"]
    began = time.monotonic()
    many = [f"/home/{number}" for number in range(20000)]
    assert len(outermost(many)) == 20000
    assert time.monotonic() - began < 2
