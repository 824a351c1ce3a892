"""Starts that overlap in one directory share the mount points of their masks, and lose none."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from nemoclaw_core.launcher import anchors

from ..callers import User
from ..desks import place
from .conftest import Cli
from .support import launchers, wait_for

DENIED = 'for each in .env .git/hooks policies.toml; do [ ! -w "$each" ] || exit 9; done'


def in_a_row(cli: Any, count: int, failures: list[bytes], *options: str) -> None:
    for _ in range(count):
        done = cli.run("run", *options, "--", "sh", "-c", DENIED)
        if done.returncode != 0:
            failures.append(done.stderr or b"%d" % done.returncode)


def side_by_side(*rows: tuple[Any, ...]) -> list[bytes]:
    """Failures of rows of starts that go on at the same time."""
    failures: list[bytes] = []
    threads = [
        threading.Thread(target=in_a_row, args=(cli, count, failures, *options))
        for cli, count, *options in rows
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failures


def test_starts_that_overlap_do_not_fail(cli: Any) -> None:
    assert side_by_side((cli, 40), (cli, 40)) == []
    assert os.listdir(cli.work) == []


def test_a_burst_of_starts_does_not_fail(cli: Any) -> None:
    options = {"stderr": subprocess.PIPE}
    started = [cli.start("run", "--", "sleep", "0.5", **options) for _ in range(8)]
    assert [process.communicate()[1] for process in started] == [b""] * 8
    assert [process.returncode for process in started] == [0] * 8
    assert os.listdir(cli.work) == []


def has_socket(folder: Path) -> bool:
    return folder.exists() and any(folder.glob("*.sock"))


@contextmanager
def desks_in_one_directory(users: Mapping[str, User]) -> Iterator[list[Cli]]:
    """A desk for each user; the work directory is the ordinary user's."""
    ordinary = users["user"]
    with place(ordinary, "shared") as shared:
        desks = []
        for user in users.values():
            base = shared / user.name
            base.mkdir()
            os.chown(base, user.uid, user.gid)
            desk = Cli(base, user)
            desk.work = shared / "work"
            desks.append(desk)
        (shared / "work").mkdir()
        os.chown(shared / "work", ordinary.uid, ordinary.gid)
        yield desks
        for desk in desks:
            desk.close()


@pytest.mark.skipif(os.getuid() != 0, reason="two users are needed: run the tests with sudo")
def test_starts_of_two_users_in_one_directory_do_not_fail(users: Mapping[str, User]) -> None:
    with desks_in_one_directory(users) as desks:
        assert side_by_side(*((desk, 15) for desk in desks for _ in range(2))) == []
        assert os.listdir(desks[0].work) == []


@pytest.mark.skipif(os.getuid() != 0, reason="two users are needed: run the tests with sudo")
@pytest.mark.parametrize("order", [("root", "user"), ("user", "root")])
def test_the_user_who_ends_first_leaves_the_masks_of_the_other(
    users: Mapping[str, User], order: tuple[str, str]
) -> None:
    with desks_in_one_directory(users) as desks:
        by_name = dict(zip(users, desks, strict=True))
        first, second = (by_name[name] for name in order)
        options: dict[str, Any] = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE}
        held = []
        for desk in (first, second):
            held.append(desk.start("run", "--", "sh", "-c", f"read x; {DENIED}", **options))
            sockets = desk.run_dir / "nemoclaw"
            assert wait_for(partial(has_socket, sockets))
            assert wait_for((first.work / ".git/hooks").exists)
            time.sleep(0.5)  # Long enough for its masks, which nothing tells of.
        for process in held:
            _, err = process.communicate(b"\n", timeout=20)
            assert (process.returncode, err) == (0, b"")
        assert os.listdir(first.work) == []


@pytest.mark.parametrize("killed", ["supervisor", "launcher", "both"])
def test_a_start_that_was_killed_at_any_moment_leaves_no_mount_point(cli: Any, killed: str) -> None:
    """One of the two removes it; when both were killed, the next start does."""
    rng = random.Random(5)
    assert cli.sandbox("true").returncode == 0
    for _ in range(12):
        process = cli.start("run", "--", "true", stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(0.02, 0.12))
        if killed != "supervisor":
            for pid in launchers(cli):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        if killed != "launcher":
            process.kill()
        process.wait()
        if killed != "both":
            assert wait_for(lambda: not os.listdir(cli.work), 2)
    done = cli.sandbox("sh", "-c", DENIED)
    assert (done.returncode, done.stderr) == (0, b"")
    assert os.listdir(cli.work) == []


def test_a_mount_point_that_nobody_uses_any_more_goes_with_the_next_start(cli: Any) -> None:
    """Supervisor and launcher were killed: nobody was left to remove it."""
    for name in (".env", ".git", ".git/hooks", "policies.toml"):
        path = cli.work / name
        path.mkdir()
        path.chmod(0o1755)
        assert anchors.is_empty_anchor(str(path))
    assert cli.sandbox("true").returncode == 0
    assert os.listdir(cli.work) == []


def test_an_empty_directory_of_the_users_own_stays(cli: Any) -> None:
    (cli.work / ".git/hooks").mkdir(parents=True)
    assert cli.sandbox("true").returncode == 0
    assert sorted(map(str, Path(cli.work).rglob("*"))) == [
        f"{cli.work}/.git",
        f"{cli.work}/.git/hooks",
    ]


def test_a_mount_point_that_the_agent_fills_becomes_an_ordinary_directory(cli: Any) -> None:
    assert cli.sandbox("touch", ".git/HEAD").returncode == 0
    assert [each.name for each in (cli.work / ".git").iterdir()] == ["HEAD"]
    assert (cli.work / ".git").stat().st_mode & 0o7777 == 0o755


LOCK = """
import fcntl, os, sys, time
kept = []
for name in sys.argv[1:]:
    os.mkdir(name)
    os.chmod(name, 0o1755)
    kept.append(os.open(name, os.O_RDONLY))
    fcntl.flock(kept[-1], fcntl.LOCK_EX)
os.mkdir("locked")
time.sleep(60)
"""


def test_locks_of_an_agent_neither_delay_the_next_start_nor_hide_who_holds_them(cli: Any) -> None:
    """The attack: an agent plants mount points where its user starts next, and locks them."""
    inner = cli.work / "inner"
    inner.mkdir()
    os.chown(inner, cli.work.stat().st_uid, cli.work.stat().st_gid)
    began = time.monotonic()
    assert cli.sandbox("true", cwd=inner).returncode == 0
    assert cli.sandbox("true", cwd=inner).returncode == 0
    usual = time.monotonic() - began
    names = [f"inner/{name}" for name in (".git", ".env", "policies.toml")]
    agent = cli.start("run", "--name", "earlier", "--", "python3", "-c", LOCK, *names)
    assert wait_for((cli.work / "locked").exists)
    began = time.monotonic()
    done = cli.sandbox("true", cwd=inner)
    assert time.monotonic() - began < usual + 0.3
    assert done.returncode == 125
    told = done.stderr.decode()
    assert f"is in use: {inner}/" in told
    assert "is locked by process " in told
    assert "(python3" in told
    assert "remedy: end that process" in told
    assert cli.run("stop", "earlier").returncode == 0
    agent.wait(10)
    assert cli.sandbox("true", cwd=inner).returncode == 0
    assert os.listdir(inner) == []
