"""Desks: a home and a work directory in which one program runs, first without and then with walls.

A test runs its program twice, from equal files, as the same user. It counts only if the program
works outside; and then it must do the same inside the policy that ships, without a flag.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest

from .callers import PATH, PYTHON, User

PACKAGES = {
    "git": "git",
    "gcc": "gcc",
    "make": "make",
    "node": "nodejs",
    "npm": "npm",
    "rg": "ripgrep",
    "sqlite3": "sqlite3",
    "ssh-keygen": "openssh-client",
    "perl": "perl",
    "javac": "default-jdk-headless",
    PYTHON: "python3",
}
"""Programs that tests need, and the Debian package that has each."""


@attrs.frozen(slots=True, kw_only=True)
class Outcome:
    """What became of one run."""

    code: int
    out: str
    err: str


@attrs.frozen(slots=True, kw_only=True)
class Desk:
    """Two work directories with the same files: one for the run outside, one for the run inside."""

    base: Path
    user: User

    def folder(self, side: str) -> Path:
        """The work directory of ``outside`` or ``inside``."""
        return self.base / side / "work"

    def environment(self, side: str) -> dict[str, str]:
        """Variables of a login: nothing of the test runner's own."""
        base = self.base / side
        variables = {
            "PATH": PATH,
            "HOME": str(base / "home"),
            "LANG": "C.UTF-8",
            "TERM": "xterm",
            "XDG_CACHE_HOME": str(base / "cache"),
            "XDG_CONFIG_HOME": str(base / "config"),
            "XDG_RUNTIME_DIR": str(base / "run"),
            "XDG_STATE_HOME": str(base / "state"),
        }
        return variables if side == "outside" else {**variables, **self.user.variables()}

    def needs(self, *programs: str) -> None:
        """Skip the test, and say what is missing, unless every program is on PATH."""
        for program in programs:
            if shutil.which(program, path=PATH) is None:
                package = PACKAGES[program]
                pytest.skip(f"{program} is missing: apt-get install {package}")

    def write(self, name: str, content: str | bytes, mode: int = 0o644) -> None:
        """Put a file into both work directories."""
        data = content.encode() if isinstance(content, str) else content
        for side in ("outside", "inside"):
            target = self.folder(side) / name
            for parent in reversed(target.relative_to(self.folder(side)).parents):
                directory = self.folder(side) / parent
                directory.mkdir(exist_ok=True)
                os.chown(directory, self.user.uid, self.user.gid)
            target.write_bytes(data)
            target.chmod(mode)
            os.chown(target, self.user.uid, self.user.gid)

    def command(self, side: str, argv: Sequence[str]) -> list[str]:
        """The whole command line of one side."""
        return list(argv) if side == "outside" else [*self.user.nemoclaw, "run", "--", *argv]

    def run(self, side: str, argv: Sequence[str], stdin: str = "", timeout: float = 60) -> Outcome:
        """Run ``argv`` on one side, in its work directory."""
        done = subprocess.run(
            self.command(side, argv),
            cwd=self.folder(side),
            env=self.environment(side),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            **self.user.arguments(),
        )
        return Outcome(code=done.returncode, out=done.stdout, err=done.stderr)

    def agree(self, *argv: str, stdin: str = "", timeout: float = 60) -> str:
        """Run outside and inside; both must succeed with the same output, which is returned."""
        outside = self.run("outside", argv, stdin, timeout)
        assert outside.code == 0, f"fails without nemoclaw:\n{outside.out}{outside.err}"
        inside = self.run("inside", argv, stdin, timeout)
        assert inside.code == 0, f"fails inside ({inside.code}):\n{inside.out}{inside.err}"
        assert inside.out == outside.out
        return inside.out


@contextmanager
def place(user: User, name: str) -> Iterator[Path]:
    """A new directory of the user, gone in the end.

    Not pytest's own temporary directory: another user cannot enter that one.
    """
    base = Path(tempfile.mkdtemp(prefix=f"nemoclaw-{name}-"))
    base.chmod(0o755)
    os.chown(base, user.uid, user.gid)
    try:
        yield base
    finally:
        _remove(base)


def _remove(folder: Path) -> None:
    """Remove a tree. A sandbox that was killed with its terminal may be tidying up there too."""
    for _ in range(20):
        try:
            shutil.rmtree(folder)
            return
        except FileNotFoundError:
            time.sleep(0.1)
    shutil.rmtree(folder)


@contextmanager
def desk_of(user: User) -> Iterator[Desk]:
    """An empty desk of the user."""
    with place(user, "desk") as base:
        for side in ("outside", "inside"):
            for name in ("", "home", "work", "cache", "config", "run", "state"):
                folder = base / side / name
                folder.mkdir(mode=0o755 if name in ("", "work") else 0o700)
                os.chown(folder, user.uid, user.gid)
        yield Desk(base=base, user=user)
