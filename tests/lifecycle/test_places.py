"""A current directory, a home or a state directory that is not there is told in words."""

from __future__ import annotations

import os
import pwd
import subprocess
from pathlib import Path
from typing import Any

import pytest
from nemoclaw_hookspecs import NemoclawError

from nemoclaw_core import state

NEED_A_WORKDIR = [
    ("run", "--", "true"),
    ("run", "--dry-run", "--", "true"),
    ("run", "-C", "relative", "--", "true"),
    ("policy", "explain"),
    ("policy", "diff", "default", "readonly"),
    ("policy", "check", "policies.toml"),
    ("policy", "trust", "policies.toml"),
    ("plugins",),
]
NAME_ONE = [
    ("run", "-C", "{work}", "--", "true"),
    ("run", "--dry-run", "-C", "{work}", "--", "true"),
    ("policy", "explain", "-C", "{work}"),
    ("policy", "diff", "-C", "{work}", "default", "default"),
    ("policy", "check", "{work}/policies.toml"),
    ("policy", "trust", "--yes", "{work}/policies.toml"),
    ("plugins", "-C", "{work}"),
    ("doctor", "-C", "{work}"),
    ("doctor",),
    ("demo",),
]


def in_a_removed_directory(cli: Any, *words: str) -> subprocess.CompletedProcess[bytes]:
    gone: Path = cli.home / "gone"
    gone.mkdir(mode=0o755)
    gone.chmod(0o777)
    os.chown(gone, cli.home.stat().st_uid, cli.home.stat().st_gid)
    script = 'rmdir "$PWD" && exec "$@"'
    program, cli.program = cli.program, ["/bin/sh", "-c", script, "sh", *cli.program]
    try:
        done: subprocess.CompletedProcess[bytes] = cli.run(*words, cwd=gone)
    finally:
        cli.program = program
    assert not gone.exists()
    return done


def told(done: subprocess.CompletedProcess[bytes], status: int) -> str:
    text = done.stderr.decode()
    assert done.returncode == status, text
    assert "Traceback" not in text
    assert text.startswith("nemoclaw: "), text
    assert "  remedy: " in text
    return text


@pytest.mark.parametrize("words", NEED_A_WORKDIR, ids=" ".join)
def test_a_current_directory_that_is_gone_is_told(cli: Any, words: tuple[str, ...]) -> None:
    assert "does not exist any more" in told(in_a_removed_directory(cli, *words), 2)


@pytest.mark.parametrize("words", NAME_ONE, ids=" ".join)
def test_where_the_directory_is_named_the_current_one_is_not_needed(
    cli: Any, words: tuple[str, ...]
) -> None:
    file = cli.work / "policies.toml"
    file.write_text("version = 1\n")
    file.chmod(0o644)
    os.chown(file, cli.work.stat().st_uid, cli.work.stat().st_gid)
    done = in_a_removed_directory(cli, *(word.format(work=cli.work) for word in words))
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False), done.stderr


@pytest.mark.parametrize("home", ["", "~", "here/or/there"])
@pytest.mark.parametrize(
    "words", [("run", "--", "true"), ("doctor",), ("policy", "explain"), ("plugins",), ("ps",)]
)
def test_a_home_that_is_not_known_is_told_and_no_tilde_is_made(
    cli: Any, words: tuple[str, ...], home: str
) -> None:
    for name in [each for each in cli.environment if each.startswith("XDG_")]:
        del cli.environment[name]
    text = told(cli.run(*words, env={"HOME": home}), 125)
    assert "your home directory is not known" in text
    assert "set HOME" in text
    assert os.listdir(cli.work) == []


@pytest.mark.parametrize(
    ("home", "found"),
    [("/var/tmp", ""), ("/var/tmp/nosuch", ""), ("/var/tmp/no/such", ""), ("/var", "tmp\n")],
)
def test_a_home_around_or_below_var_tmp_is_private_as_any_other(
    cli: Any, home: str, found: str
) -> None:
    script = "cd && pwd && ls && echo x > .rc && cat .rc && touch /tmp/y && ls -d /var/tmp"
    done = cli.sandbox("sh", "-c", script, env={"HOME": home})
    assert done.stdout.decode() == f"{home}\n{found}x\n/var/tmp\n", done.stderr
    assert not os.path.lexists(f"{home}/.rc")


def test_a_user_whom_nobody_knows_has_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(uid: int) -> Any:
        raise KeyError(uid)

    monkeypatch.delenv("HOME")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(NemoclawError, match="HOME is not set, and user"):
        state.state_dir()


@pytest.mark.parametrize("words", [("ps",), ("logs",), ("logs", "x"), ("run", "--", "true")])
def test_a_file_in_the_place_of_a_directory_is_told(cli: Any, words: tuple[str, ...]) -> None:
    for name in [each for each in cli.environment if each.startswith("XDG_")]:
        del cli.environment[name]
    (cli.home / ".local").write_text("")
    text = told(cli.run(*words), 125)
    assert f"{cli.home}/.local/state/nemoclaw" in text
    assert "set HOME" in text


def test_a_work_directory_that_is_none_is_the_same_mistake_for_every_command(cli: Any) -> None:
    for words in (
        ("run", "-C", "/nosuch", "--", "true"),
        ("policy", "explain", "--workdir", "/nosuch"),
        ("policy", "diff", "--workdir", "/nosuch", "default", "default"),
        ("plugins", "-C", "/nosuch"),
        ("doctor", "-C", "/nosuch"),
    ):
        assert "/nosuch is not a directory" in told(cli.run(*words), 2)


@pytest.mark.skipif(os.getuid() != 0, reason="who may enter root's home needs no telling")
def test_a_work_directory_that_the_caller_may_not_enter_is_told_as_that(cli: Any) -> None:
    if cli.home.stat().st_uid == 0:
        pytest.skip("root may enter everything")
    assert "you may not enter /root" in told(cli.run("run", "-C", "/root", "--", "true"), 2)
