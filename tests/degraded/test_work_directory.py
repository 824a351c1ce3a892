"""A work directory without mounts: what an agent can do in it, and what it cannot.

Each attempt that must fail inside is made outside too, as the same user, where it must work.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .conftest import Poor

WIDER = """version = 1
[policy.default]
extends = ["base"]
filesystem.compatibility = "best-effort"
filesystem.read = ["{secret}"]
"""


def outside(poor: Poor, script: str) -> subprocess.CompletedProcess[str]:
    """The same script without nemoclaw."""
    return subprocess.run(
        ["sh", "-c", script],
        cwd=poor.work,
        capture_output=True,
        text=True,
        **poor.desk.user.arguments(),
    )


def test_an_agent_works_in_an_ordinary_project(poor: Poor) -> None:
    poor.make("README", "src/main.c", "src/.env.example", "build/")
    done = poor.agent(
        "set -e; ls; echo made > made; echo more >> README; mv made renamed; "
        "mkdir -p src/deep/er && echo x > src/deep/er/file; rm src/main.c; ln -s deep src/link"
    )
    assert done.returncode == 0, done.stderr
    assert (poor.work / "renamed").read_text() == "made\n"
    assert (poor.work / "src/deep/er/file").exists()
    assert not (poor.work / "src/main.c").exists()


def test_a_repository_can_be_worked_in_below_its_top(poor: Poor) -> None:
    poor.make("README", "src/main.c", ".git/HEAD", ".git/hooks/", ".git/objects/")
    done = poor.agent("set -e; echo x > src/new; echo y >> README; cat .git/HEAD src/main.c")
    assert done.returncode == 0, done.stderr
    assert (poor.work / "src/new").exists()
    assert "cannot list" in done.stderr
    assert f"{poor.work}/.git/hooks" in done.stderr


@pytest.mark.parametrize(
    "script",
    [
        "cat .git/hooks/old",
        "ls .git/hooks",
        "echo x > .git/hooks/pre-commit",
        "echo x >> .git/hooks/old",
        "mkdir .git/hooks/sub",
        "rm .git/hooks/old",
        "mv src/main.c .git/hooks/pre-commit",
        "ln src/main.c .git/hooks/pre-commit",
        "ln .git/hooks/old src/old",
        "mv .git/hooks src/hooks",
        "mv .git src/git",
        "mv .git .git2",
        "mv src .git/hooks/src",
        "cat .env",
        "echo x > .env",
        "rm .env",
        "mv .env src/env",
        "ln .env src/env",
        "cat src/deep/.env",
        "mv src/deep/.env src/env",
        "mv src/deep other/deep",
        "mv src/deep src/deeper",
    ],
)
def test_what_the_policy_denies_stays_denied(poor: Poor, script: str) -> None:
    names = [".env", ".git/HEAD", ".git/hooks/old", "src/main.c", "src/deep/.env", "other/file"]
    poor.make(*names)
    inside = poor.agent(f"cat other/file && {{ {script}; }}")
    assert inside.stdout == "content of other/file\n", inside.stderr
    assert inside.returncode != 0
    done = outside(poor, script)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "script",
    [
        "mkdir .git",
        "mkdir -p src/g/hooks && mv src/g .git",
        "mkdir -p src/g/hooks && ln -s src/g .git",
        "mkdir -p src/g/hooks && mv -T src .git",
    ],
)
def test_a_denied_path_that_is_missing_cannot_be_made(poor: Poor, script: str) -> None:
    poor.make("src/main.c")
    inside = poor.agent(f"echo x > made && {{ {script}; }}")
    assert (poor.work / "made").exists(), inside.stderr
    assert inside.returncode != 0
    assert "cannot make directories or symbolic links directly in" in inside.stderr
    assert outside(poor, f"rm -rf src/g; {script}").returncode == 0


def plant(poor: Poor, name: str, how: str) -> str:
    """The agent plants a policy; returns the file that it would open."""
    secret = poor.desk.base / "inside" / "home" / "secret"
    if not secret.exists():
        secret.write_text("the secret\n")
        secret.chmod(0o644)
    text = WIDER.format(secret=secret)
    done = poor.agent(how.format(name=name, text=f"cat <<'END'\n{text}END\n"))
    assert done.returncode == 0, done.stderr
    assert (poor.work / name).exists()
    return str(secret)


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("policies.toml", "{{ {text} }} > {name}"),
        ("policies.toml", "{{ {text} }} > other && mv other {name}"),
        ("policies.toml", "{{ {text} }} > other && ln other {name}"),
        ("src/policies.toml", "{{ {text} }} > {name}"),
        ("src/policies.toml", "{{ {text} }} > other && ln -s ../other {name}"),
    ],
)
def test_a_planted_policy_is_not_used_unasked(poor: Poor, name: str, how: str) -> None:
    poor.make("src/main.c")
    assert poor.nemoclaw("policy", "explain").returncode == 0
    secret = plant(poor, name, how)
    folder = (poor.work / name).parent
    read = ["run", "--", "cat", secret]
    program = (
        "import sys; from nemoclaw_core import Sandbox\n"
        "with Sandbox() as sandbox: sandbox.run(['cat', sys.argv[1]])"
    )
    for _ in range(2):
        for done in (
            poor.nemoclaw(*read, folder=folder),
            poor.nemoclaw("run", "--dry-run", "--", "true", folder=folder),
            poor.nemoclaw("run", "--policy", "default", "--", "cat", secret, folder=folder),
            poor.nemoclaw("policy", "explain", folder=folder),
            poor.nemoclaw("policy", "diff", "default", "base", folder=folder),
            poor.nemoclaw("plugins", folder=folder),
            poor.python("-c", program, secret, folder=folder),
        ):
            assert done.returncode != 0
            assert "an agent may have written it" in done.stderr
            assert "the secret" not in done.stdout
    doctor = poor.nemoclaw("doctor", folder=folder)
    assert "an agent may have written it" in doctor.stdout
    # The proof that the file would have done what it was made for.
    path = str(poor.work / name)
    named = poor.nemoclaw("run", "--policy", path, "--", "cat", secret, folder=folder)
    assert named.stdout == "the secret\n", named.stderr
    assert poor.nemoclaw("policy", "trust", "--yes", path).returncode == 0
    assert poor.nemoclaw(*read, folder=folder).stdout == "the secret\n"
    with open(path, "a") as file:
        file.write("# changed\n")
    assert "an agent may have written it" in poor.nemoclaw(*read, folder=folder).stderr


def test_the_gap_is_printed_and_logged_each_time(poor: Poor) -> None:
    for number in range(2):
        done = poor.nemoclaw("run", "--policy", poor.policy, "--name", f"n{number}", "--", "true")
        assert f"keeping {poor.work}/policies.toml from being made" in done.stderr
        assert "`nemoclaw policy trust`" in done.stderr
        logged = poor.nemoclaw("logs", f"n{number}", "--json").stdout
        assert f"keeping {poor.work}/policies.toml from being made" in logged


def test_a_policy_file_that_is_there_cannot_be_removed_or_read(poor: Poor) -> None:
    """Its removal would make the next file count, which may permit more."""
    poor.make("policies.toml", "src/main.c")
    for script in ("rm policies.toml", "mv policies.toml src/x", "cat policies.toml"):
        done = poor.agent(f"echo x > src/made && {{ {script}; }}")
        assert (poor.work / "src/made").exists(), done.stderr
        assert done.returncode != 0
        assert "keep policy files elsewhere" not in done.stdout
        assert f"{poor.work}/policies.toml" in done.stderr
    assert outside(poor, "cat policies.toml && rm policies.toml").returncode == 0


@pytest.mark.parametrize("name", ["writable-roots", "trusted-policies"])
def test_the_notes_about_policies_are_out_of_reach(poor: Poor, name: str) -> None:
    poor.agent("true")
    folder = poor.desk.base / "inside" / "state" / "nemoclaw"
    assert (folder / "writable-roots").exists()
    if name == "trusted-policies":
        poor.make("src/policies.toml")
        (poor.work / "src/policies.toml").write_text("version = 1\n")
        assert poor.nemoclaw("policy", "trust", "--yes", "src/policies.toml").returncode == 0
    path = folder / name
    before = path.read_bytes()
    attempts = [
        f"rm {path}",
        f": > {path}",
        f"truncate -s 0 {path}",
        f"echo x >> {path}",
        f"mv {path} made",
        f"mv {folder} made",
        f"cat {path}",
    ]
    for script in attempts:
        assert poor.agent(f"{{ {script}; }}").returncode != 0
        assert path.read_bytes() == before
    assert outside(poor, f"cat {path} && truncate -s 0 {path}").returncode == 0


def test_a_list_of_what_is_there_is_looked_up_again(poor: Poor) -> None:
    """A plan from the cache knows the entries of yesterday; a new one must not be left out."""
    poor.make(".env", "src/main.c")
    assert poor.agent("echo x > later/file").returncode != 0
    poor.make("later/", "src/main.c")
    done = poor.agent("echo x > later/file")
    assert done.returncode == 0, done.stderr
