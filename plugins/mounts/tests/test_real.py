"""Claims about real views. Each thing that must fail inside is done outside first."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from nemoclaw_testing.pytest_plugin import RunInSandbox

pytest.importorskip("nemoclaw_core.sandbox")

POLICY = """
version = 1
[policy.default]
extends = ["base"]
[policy.default.filesystem]
write = ["{workdir}"]
read = ["{workdir}/vendor", "{workdir}/deep/down/config"]
deny = ["{workdir}/src/keys", "**/.env", "{workdir}/later/secret"]
"""


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A small project, with what the policy protects in it."""
    work = tmp_path / "work"
    for name in ("vendor/lib", "src/keys/id", "deep/down/config", ".env.shared", "notes"):
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text(f"content of {name}\n")
    (work / ".env").symlink_to(".env.shared")
    return work


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    file = tmp_path / "mounts.toml"
    file.write_text(POLICY)
    return file


class Shell:
    """Runs a line of shell in the work directory, outside or inside."""

    def __init__(self, sandbox: RunInSandbox, policy: Path, work: Path) -> None:
        self._sandbox, self._policy, self._work = sandbox, policy, work

    def outside(self, line: str) -> str:
        done = subprocess.run(
            ["sh", "-c", line], cwd=self._work, text=True, capture_output=True, check=True
        )
        return done.stdout

    def inside(self, line: str) -> str:
        """What it prints when it succeeds."""
        done = self._sandbox(["sh", "-c", line], policy=self._policy, workdir=self._work)
        assert done.returncode == 0, done.stderr
        return (done.stdout or b"").decode()

    def refused(self, line: str) -> str:
        """What it says when it fails, as it must."""
        done = self._sandbox(["sh", "-c", line], policy=self._policy, workdir=self._work)
        assert done.returncode != 0, f"{line!r} succeeded: {done.stdout!r}"
        return (done.stderr or b"").decode()


@pytest.fixture
def shell(sandbox: RunInSandbox, policy: Path, work: Path) -> Shell:
    return Shell(sandbox, policy, work)


def test_the_root_holds_what_the_policy_leads_to_and_no_more(shell: Shell, tmp_path: Path) -> None:
    listed = set(shell.inside("ls -A /").split())
    expected = {"usr", "etc", "bin", "lib", "proc", "dev", "tmp"}
    assert expected <= listed
    known = expected | {"sbin", "lib64", "lib32", "libx32", "opt", "var", "home", "root"}
    assert listed <= known | {tmp_path.parts[1], Path.home().parts[1]}


def test_what_is_outside_does_not_exist(shell: Shell, tmp_path: Path) -> None:
    beside = tmp_path / "beside"
    beside.write_text("outside")
    shell.outside(f"stat {beside}")
    assert "No such file or directory" in shell.refused(f"stat {beside}")
    assert shell.inside(f"ls -A {tmp_path}").split() == ["work"]


def test_what_is_made_beside_the_work_directory_does_not_reach_the_host(
    shell: Shell, tmp_path: Path
) -> None:
    made = tmp_path / "made"
    shell.outside(f"touch {made}")
    made.unlink()
    shell.inside(f"touch {made} || true")  # a private /tmp is the agent's own to write in
    assert not made.exists()


def test_reading_is_no_right_to_change_metadata(shell: Shell, work: Path) -> None:
    for line in (
        "chmod 600 vendor/lib",
        "touch -d 2001-01-01 vendor/lib",
        "mv vendor/lib vendor/other",
        "rm vendor/lib",
        "echo x >> vendor/lib",
    ):
        shell.outside(line)
        (work / "vendor/other").unlink(missing_ok=True)
        (work / "vendor/lib").write_text("content of vendor/lib\n")
        (work / "vendor/lib").chmod(0o644)
        said = shell.refused(line)
        assert "Read-only file system" in said or "Permission denied" in said, (line, said)
    assert "Read-only file system" in shell.refused("chmod 600 vendor/lib")
    assert (work / "vendor/lib").read_text() == "content of vendor/lib\n"


@pytest.mark.parametrize("directory", ["src", "deep", "deep/down", "vendor", "later"])
def test_what_leads_to_a_protected_path_cannot_be_moved_aside(
    directory: str, shell: Shell, work: Path
) -> None:
    (work / "later").mkdir()
    shell.outside(f"mv {directory} moved && mv moved {directory}")
    assert "Device or resource busy" in shell.refused(f"mv {directory} moved")
    assert (work / directory).is_dir()


def test_a_denied_directory_is_empty_and_read_only(shell: Shell) -> None:
    assert shell.outside("ls src/keys") == "id\n"
    assert shell.inside("ls -A src/keys") == ""
    assert shell.refused("touch src/keys/planted")


def test_a_denied_path_that_is_missing_cannot_be_made(shell: Shell, work: Path) -> None:
    shell.outside("mkdir -p later && touch later/secret && rm -r later")
    shell.refused("mkdir -p later; echo planted > later/secret")
    shell.refused("mkdir -p later/secret && touch later/secret/x")
    assert not (work / "later/secret").is_file()


@pytest.mark.parametrize("name", [".env", ".env.shared"])
def test_a_denied_link_is_denied_with_the_file_that_it_leads_to(name: str, shell: Shell) -> None:
    assert shell.outside(f"cat {name}") == "content of .env.shared\n"
    assert "Permission denied" in shell.refused(f"cat {name}")


@pytest.mark.parametrize("line", ["rm -f .env", "mv notes .env", "ln -sf notes .env"])
def test_a_denied_link_cannot_be_replaced(line: str, shell: Shell, work: Path) -> None:
    shell.outside(line)
    (work / ".env").unlink(missing_ok=True)
    (work / ".env").symlink_to(".env.shared")
    (work / "notes").write_text("content of notes\n")
    shell.refused(line)
    assert os.readlink(work / ".env") == ".env.shared"
    assert (work / ".env.shared").read_text() == "content of .env.shared\n"


def test_tmp_and_home_are_private_and_gone_with_the_sandbox(shell: Shell) -> None:
    assert shell.inside("echo x > /tmp/mark && echo x > ~/mark && ls -A /tmp ~ | grep -c mark")
    assert not os.path.exists("/tmp/mark")
    assert not (Path.home() / "mark").exists()
    assert "No such file" in shell.refused("cat /tmp/mark")
    assert "No such file" in shell.refused("cat ~/mark")


def test_proc_shows_the_sandbox_alone(shell: Shell) -> None:
    inside = shell.inside("cd /proc && echo [0-9]*").split()
    assert str(os.getpid()) in os.listdir("/proc")
    assert len(inside) <= 3
    assert inside[0] == "1"
    assert "Read-only file system" in shell.refused("echo x > /proc/sys/kernel/core_pattern")


def test_a_denied_path_in_a_shared_tmp_stays_denied(sandbox: RunInSandbox, tmp_path: Path) -> None:
    folder = Path(tempfile.mkdtemp(prefix="nemoclaw-shared-", dir="/tmp"))
    work = Path(tempfile.mkdtemp(prefix="nemoclaw-work-", dir="/var/tmp"))
    secret = folder / "secret"
    secret.write_text("told\n")
    folder.chmod(0o755)
    policy = tmp_path / "shared.toml"
    policy.write_text(
        'version = 1\n[policy.default]\nextends = ["base"]\n[policy.default.filesystem]\n'
        f'write = ["{{workdir}}"]\ntmp = "shared"\ndeny = ["{secret}"]\n'
    )
    try:
        line = f"cat {secret}; test -d {folder} && echo the shared one"
        outside = subprocess.run(["sh", "-c", line], text=True, capture_output=True, check=True)
        assert outside.stdout == "told\nthe shared one\n"
        done = sandbox(["sh", "-c", line], policy=policy, workdir=work)
        assert done.stdout == b"the shared one\n"
    finally:
        shutil.rmtree(folder)
        shutil.rmtree(work)
