"""Locks on mount points of masks: another launcher's is waited for, anybody else's is not."""

from __future__ import annotations

import errno
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from nemoclaw_core.launcher import holders
from nemoclaw_core.launcher.anchors import Anchors, is_empty_anchor

LOCK = """
import ctypes, fcntl, os, sys, time
ctypes.CDLL(None).prctl(15, sys.argv[1].encode(), 0, 0, 0)
os.umask(0)
os.mkdir(sys.argv[2], 0o1755)
held = os.open(sys.argv[2], os.O_RDONLY)
fcntl.flock(held, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(float(sys.argv[3]))
"""


@pytest.fixture
def work() -> Iterator[Path]:
    found = Path(tempfile.mkdtemp(prefix="nemoclaw-anchors-"))
    yield found
    shutil.rmtree(found)


@contextmanager
def locked(path: Path, name: str, seconds: float = 30) -> Iterator[int]:
    """A process of that name keeps an anchor locked."""
    command = [sys.executable, "-c", LOCK, name, str(path), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield process.pid
        process.kill()


def masks(*targets: Path) -> list[dict[str, Any]]:
    return [{"op": "mask", "kind": "missing", "target": str(target)} for target in targets]


def test_a_launcher_that_removes_one_is_waited_for(work: Path) -> None:
    found = Anchors()
    with locked(work / ".git", "nemoclaw-launcher", 0.3):
        found.make(masks(work / ".git/hooks"))
    assert is_empty_anchor(str(work / ".git/hooks"))
    assert found.remove()
    assert os.listdir(work) == []


def test_a_launcher_that_hangs_is_not_waited_for_for_ever(work: Path) -> None:
    began = time.monotonic()
    with (
        locked(work / ".git", "nemoclaw-launcher") as pid,
        pytest.raises(BlockingIOError, match=rf"another start of nemoclaw \(process {pid}\)"),
    ):
        Anchors().make(masks(work / ".git/hooks"))
    assert time.monotonic() - began < 3


def test_another_program_is_not_waited_for_and_it_is_named(work: Path) -> None:
    found = Anchors()
    with locked(work / ".git", "tar") as pid:
        began = time.monotonic()
        with pytest.raises(BlockingIOError) as caught:
            found.make(masks(work / ".env", work / ".git/hooks"))
        took = time.monotonic() - began
    assert took < 0.3
    assert caught.value.errno == errno.EAGAIN
    assert caught.value.filename == f"{work}/.git/hooks"
    assert caught.value.strerror == f"{work}/.git is locked by process {pid} (tar)"
    assert found.failed_at == 1
    found.remove()
    assert os.listdir(work) == [".git"]


@pytest.mark.skipif(os.getuid() != 0, reason="only root makes a PID namespace without another one")
def test_an_agent_that_takes_the_name_of_a_launcher_is_not_taken_for_one(work: Path) -> None:
    script = f"exec {sys.executable} -c '{LOCK}' nemoclaw-launcher {work}/.git 30"
    with subprocess.Popen(
        ["unshare", "--fork", "--kill-child", "--pid", "sh", "-c", script], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        began = time.monotonic()
        with pytest.raises(BlockingIOError, match=r"locked by process \d+ \(nemoclaw-launch\)"):
            Anchors().make(masks(work / ".git/hooks"))
        assert time.monotonic() - began < 0.3
        process.kill()


def test_where_the_holder_is_not_told_it_is_waited_for_a_moment(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holders, "_holder", lambda _: 0)
    with locked(work / ".git", "tar"):
        began = time.monotonic()
        with pytest.raises(BlockingIOError, match="is locked by another process"):
            Anchors().make(masks(work / ".git/hooks"))
        assert 0.05 < time.monotonic() - began < 0.5


@pytest.mark.parametrize("owner", [0, 3, 5])
def test_a_default_acl_neither_keeps_anybody_out_nor_leaves_anything(
    work: Path, owner: int
) -> None:
    """The attack: with one of an agent's (acl(5)), what is made there could not be entered."""
    entries = ((1, owner), (4, 5), (32, 5))  # ACL_USER_OBJ, ACL_GROUP_OBJ, ACL_OTHER
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *each, 2**32 - 1) for each in entries)
    os.setxattr(work, "system.posix_acl_default", acl)
    os.mkdir(work / "plain")
    assert (work / "plain").stat().st_mode & 0o700 == owner << 6
    (work / "plain").rmdir()
    found = Anchors()
    found.make(masks(work / ".git/hooks"))
    assert is_empty_anchor(str(work / ".git/hooks"))
    assert found.remove()
    assert os.listdir(work) == []


def test_who_need_not_wait_any_more_stops_and_can_remove_what_is_there(work: Path) -> None:
    rounds = 0

    def wait(seconds: float) -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 2:
            raise EOFError

    found = Anchors(wait)
    with pytest.raises(EOFError):
        found.make(masks(work / "one", work / "two"))
    assert os.listdir(work) == ["one"]
    assert found.remove()
    assert os.listdir(work) == []
