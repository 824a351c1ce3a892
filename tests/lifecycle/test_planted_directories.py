"""The attack: an agent puts a symbolic link in the place of a directory that its user will name as
the next work directory, or go to, so that what it leads to can be written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

WRITE = ("/bin/sh", "-c", "touch planted && echo wrote")


def private(cli: Any) -> Path:
    """A directory that is no business of the agent's."""
    found: Path = cli.home / "private"
    (found / "below").mkdir(parents=True)
    return found


def plant(cli: Any) -> Path:
    """Let an agent replace ``app`` in its work directory; returns where it leads."""
    target = private(cli)
    (cli.work / "app/below").mkdir(parents=True)
    script = f"mv app .app && ln -s {target} app"
    done = cli.sandbox("/bin/sh", "-c", script)
    assert done.returncode == 0, done.stderr
    assert (cli.work / "app").is_symlink()
    return target


def test_a_link_of_the_users_own_is_followed(cli: Any) -> None:
    """The proof that the tests below can fail."""
    target = private(cli)
    (cli.home / "app").symlink_to(target)
    done = cli.run("run", "--workdir", "app", "--", *WRITE, cwd=cli.home)
    assert done.stdout == b"wrote\n", done.stderr
    assert (target / "planted").exists()
    done = cli.run("run", "--", *WRITE, cwd=cli.home / "app", env={"PWD": f"{cli.home}/app"})
    assert done.stdout == b"wrote\n", done.stderr


@pytest.mark.parametrize("named", ["app", "./app/", "{work}/app", "app/below", "app/../private"])
def test_a_planted_link_is_not_followed_to_a_work_directory(cli: Any, named: str) -> None:
    target = plant(cli)
    done = cli.run("run", "--workdir", named.format(work=cli.work), "--", *WRITE)
    assert done.returncode == 2, done.stderr
    told = done.stderr.decode()
    assert f"through {cli.work}/app, a symbolic link that is not followed" in told
    assert f"a sandbox could write to {cli.work}" in told
    assert f"--workdir {target}" in told
    assert not list(target.rglob("planted"))


@pytest.mark.parametrize("below", ["", "/below"])
@pytest.mark.parametrize("options", [(), ("--workdir", "."), ("--workdir", "..")])
def test_nor_by_going_there_first(cli: Any, below: str, options: tuple[str, ...]) -> None:
    target = plant(cli)
    there = f"{cli.work}/app{below}"
    if options[1:] == ("..",) and not below:
        there += "/below"
    done = cli.run("run", *options, "--", *WRITE, cwd=there, env={"PWD": there})
    assert done.returncode == 2, done.stderr
    assert not list(target.rglob("planted"))
    # Somebody else's PWD says nothing about this process.
    done = cli.run("run", "--", *WRITE, cwd=cli.work, env={"PWD": there})
    assert done.stdout == b"wrote\n", done.stderr


def test_nor_by_a_link_that_is_a_directory_again(cli: Any) -> None:
    """The agent swaps the link back once the user has gone through it."""
    target = plant(cli)
    there = cli.work / "app"
    there.unlink()
    there.mkdir()
    done = cli.run("run", "--", *WRITE, cwd=target, env={"PWD": str(there)})
    assert done.returncode == 2, done.stderr
    assert b"leads elsewhere than to the current directory" in done.stderr
    assert not list(target.rglob("planted"))


@pytest.mark.parametrize("spelling", ["{work}/app", "{home}/mine/app", "/{work}/app"])
@pytest.mark.parametrize("written", [False, True])
def test_nor_by_a_link_of_the_users_own_before_it(cli: Any, spelling: str, written: bool) -> None:
    """The agent swaps its link back, and the way to it is by another name."""
    target = plant(cli)
    (cli.home / "mine").symlink_to(cli.work)
    if written:
        # That another sandbox could write there says nothing.
        assert cli.run("run", "--", "true", cwd=target, env={"PWD": str(target)}).returncode == 0
    (cli.work / "app").unlink()
    (cli.work / "app").mkdir()
    there = spelling.format(work=cli.work, home=cli.home)
    for options in ((), ("--workdir", "."), ("--workdir", "below")):
        done = cli.run("run", *options, "--", *WRITE, cwd=target, env={"PWD": there})
        assert done.returncode == 2, done.stderr
        assert b"leads elsewhere than to the current directory" in done.stderr
    assert not list(target.rglob("planted"))


POLICY = """version = 1
[policy.default]
extends = ["default"]
[policy.default.filesystem]
read = ["{key}"]
"""


@pytest.mark.parametrize("swapped", [False, True])
def test_nor_to_the_policy_of_a_named_work_directory(cli: Any, swapped: bool) -> None:
    """The policy file in the directory that a link leads to permits more."""
    key = cli.home / "key"
    key.write_text("the key")
    target = plant(cli)
    policy = target / "policies.toml"
    policy.write_text(POLICY.format(key=key))
    policy.chmod(0o644)
    other = cli.home / "other"
    other.mkdir()
    if swapped:
        (cli.work / "app").unlink()
        (cli.work / "app").mkdir()
    run = ("run", "--workdir", str(other))
    there = {"cwd": target, "env": {"PWD": f"{cli.work}/app"}}
    done = cli.run(*run, "--", "cat", str(key), **there)
    assert done.returncode == 2, done.stdout
    assert f"cd {target}, if that is meant".encode() in done.stderr
    # Where the user has gone there, or has named the policy's file, it is no agent's choice.
    done = cli.run(*run, "--", "cat", str(key), cwd=target, env={"PWD": str(target)})
    assert done.stdout == b"the key", done.stderr
    done = cli.run(*run, "--policy", str(policy), "--", "cat", str(key), **there)
    assert done.stdout == b"the key", done.stderr


SWAP = """
import ctypes, os, sys, time
os.symlink(sys.argv[1], "link")
libc = ctypes.CDLL(None)
while not os.path.exists("stop"):
    libc.renameat2(-100, b"app", -100, b"link", 2)
"""


def test_nor_by_a_link_that_comes_and_goes(cli: Any) -> None:
    target = plant(cli)
    app = cli.work / "app"
    app.unlink()
    app.mkdir()
    swapping = subprocess.Popen([sys.executable, "-c", SWAP, str(target)], cwd=cli.work)
    try:
        for _ in range(25):
            done = cli.run("run", "--workdir", "app", "--", *WRITE)
            assert b"Traceback" not in done.stderr
            assert not list(target.rglob("planted")), done.stderr
    finally:
        (cli.work / "stop").touch()
        swapping.wait(10)


def test_the_real_path_can_be_named(cli: Any) -> None:
    target = plant(cli)
    done = cli.run("run", "--workdir", str(target), "--", *WRITE, cwd=target)
    assert done.stdout == b"wrote\n", done.stderr


def test_a_link_of_somebody_else_is_not_followed(cli: Any, caller: Any) -> None:
    if caller.uid != 0:
        pytest.skip("only root can give a link to somebody else")
    target = private(cli)
    link = cli.home / "app"
    link.symlink_to(target)
    os.chown(link, 12345, 12345, follow_symlinks=False)
    done = cli.run("run", "--workdir", str(link), "--", *WRITE)
    assert done.returncode == 2
    assert b"it belongs to user 12345" in done.stderr
    assert not list(target.rglob("planted"))


def test_directories_that_it_makes_are_the_users_alone_whatever_the_umask(cli: Any) -> None:
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "XDG_STATE_HOME"):
        del cli.environment[name]
    # As it is anyway; so root's notes are not this machine's.
    cli.environment["XDG_STATE_HOME"] = f"{cli.home}/.local/state"
    mask = os.umask(0)
    try:
        done = cli.sandbox("/bin/true")
    finally:
        os.umask(mask)
    assert done.returncode == 0, done.stderr
    for name in (".cache", ".cache/nemoclaw", ".local", ".local/state", ".local/state/nemoclaw"):
        assert (cli.home / name).stat().st_mode & 0o777 == 0o700, name


def test_a_pwd_that_was_left_behind_is_no_matter_to_a_named_work_directory(cli: Any) -> None:
    """A program that changes its directory does not set it."""
    target = plant(cli)
    (cli.work / "app").unlink()
    (cli.work / "app").mkdir()
    run = ("run", "--workdir", str(target), "--", *WRITE)
    done = cli.run(*run, cwd=target, env={"PWD": f"{cli.work}/app"})
    assert done.stdout == b"wrote\n", done.stderr
    (target / "policies.toml").write_text(POLICY.format(key="/usr"))
    done = cli.run(*run, cwd=target, env={"PWD": f"{cli.work}/app"})
    assert done.returncode == 2, done.stderr
