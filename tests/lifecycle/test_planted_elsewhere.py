"""The attack: an agent leaves something where it works for the next start in another directory."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

READER = """version = 1
[policy.reader]
extends = ["default"]
[policy.reader.filesystem]
{access} = ["{path}"]
"""


@pytest.fixture
def other(cli: Any) -> Path:
    """Another work directory."""
    found: Path = cli.home / "other"
    found.mkdir()
    os.chown(found, cli.home.stat().st_uid, cli.home.stat().st_gid)
    return found


def secret(cli: Any) -> Path:
    path: Path = cli.home / "private/key"
    path.parent.mkdir()
    path.write_text("the key")
    return path


def planted(cli: Any, script: str) -> None:
    done = cli.sandbox("/bin/sh", "-c", script)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("access", ["read", "write"])
@pytest.mark.parametrize("path", ["{work}/data", "{home}/work/**/data"])
def test_a_link_is_not_followed_for_a_rule(cli: Any, other: Path, access: str, path: str) -> None:
    key = secret(cli)
    (cli.work / "data").mkdir()
    (cli.work / "data/mine").write_text("mine")
    file = cli.home / "rules.toml"
    path = path.format(work=cli.work, home=cli.home)
    file.write_text(READER.format(access=access, path=path))
    file.chmod(0o644)
    run = ("run", "--policy", f"{file}:reader", "--", "cat")
    for _ in range(2):
        done = cli.run(*run, f"{cli.work}/data/mine", cwd=other)
        assert done.stdout == b"mine", done.stderr
    planted(cli, f"rm -r data && ln -s {key.parent} data")
    for asked in (str(key), f"{cli.work}/data/key"):
        done = cli.run(*run, asked, cwd=other)
        assert b"the key" not in done.stdout
        assert done.returncode != 0
        assert b"an earlier agent could write" in done.stderr
    # A link of the user's own is followed, where no agent could write.
    (cli.home / "data").symlink_to(key.parent)
    file.write_text(READER.format(access=access, path=f"{cli.home}/data"))
    assert cli.run(*run, str(key), cwd=other).stdout == b"the key"


@pytest.mark.parametrize(
    "script",
    ["mkfifo sub/.git", "mkdir sub/.git; ln -s /usr sub/.git/hooks", "mkfifo sub/.env"],
)
def test_the_next_start_still_starts(cli: Any, script: str) -> None:
    planted(cli, f"mkdir sub; {script}")
    tries = "rm -rf .git .env; mkdir -p .git/hooks/x; echo x > .env; ls /usr/bin/env"
    for _ in range(2):
        done = cli.run("run", "--", "/bin/sh", "-c", tries, cwd=cli.work / "sub")
        assert done.stdout == b"/usr/bin/env\n", done.stderr
    assert not (cli.work / "sub/.git/hooks/x").exists()


def test_a_huge_policy_file_does_not_hang_it(cli: Any) -> None:
    planted(cli, "mkdir sub && truncate -s 8G sub/policies.toml")
    done = cli.run("run", "--", "true", cwd=cli.work / "sub")
    assert done.returncode == 3, done.stderr
    assert b"larger than 1 MiB" in done.stderr


def test_a_policy_of_an_agent_of_roots_is_not_used_by_others(
    cli: Any, users: Any, caller: Any
) -> None:
    """What it writes is root's, whom everybody trusts."""
    if caller.uid != 0:
        pytest.skip("this is about root's agents")
    ordinary = users["user"]
    (cli.work / "wide").write_text('version = 1\n[policy.default]\nextends = ["base"]\n')
    (cli.work / "wide").chmod(0o644)
    for folder in (cli.home, cli.work):
        folder.chmod(0o755)
    home = cli.home / "theirs"
    home.mkdir()
    os.chown(home, ordinary.uid, ordinary.gid)
    (cli.home / "root").mkdir()
    # Apart, so that nothing is noted on this machine.
    script = f"""
        mount -t tmpfs none /var/lib && mkdir -m 755 /var/lib/nemoclaw && cd {cli.work} || exit 99
        HOME={cli.home}/root "$@" run -- sh -c 'mkdir -p sub; cp wide sub/policies.toml' || exit 98
        $UNLESS_NOTED
        export HOME={home} PYTHONPATH={ordinary.path}
        cd sub && exec setpriv --reuid {ordinary.uid} --regid {ordinary.gid} --clear-groups \\
            {" ".join(ordinary.nemoclaw)} run --no-cache --workdir {home} -- echo started
    """
    for unless, status, said in (
        ("umount /var/lib", 0, b"started"),
        ("", 3, b"an agent may have written it"),
    ):
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", script, "sh", *cli.program],
            env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "UNLESS_NOTED": unless},
            capture_output=True,
            cwd="/",
        )
        assert done.returncode == status, done.stderr
        assert said in done.stdout + done.stderr


HOME = """version = 1
[policy.home]
extends = ["default"]
filesystem.write = ["~"]
"""


def test_the_default_policy_of_a_start_with_other_variables_is_not_written(cli: Any) -> None:
    """The attack: while XDG_CONFIG_HOME names another directory, the usual one is an agent's."""
    file = cli.home.parent / "home.toml"
    file.write_text(HOME)
    file.chmod(0o644)
    plant = (
        "mkdir -p ~/.config/nemoclaw; echo planted > ~/.config/nemoclaw/policies.toml; touch ~/x"
    )
    done = cli.run("run", "--policy", f"{file}:home", "--", "/bin/sh", "-c", plant)
    assert done.returncode == 0, done.stderr
    assert (cli.home / "x").exists(), "what it may write it can"
    assert not (cli.home / ".config/nemoclaw/policies.toml").exists()
    del cli.environment["XDG_CONFIG_HOME"]
    assert cli.sandbox("true").returncode == 0
