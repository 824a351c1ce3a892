"""Desks: a home and a work directory in which one program runs, first without and then with walls.

Every test here runs its program twice, from equal files, as the same user. It counts only if the
program works outside; and then it must do the same inside the policy that ships, without a flag.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import attrs
import pytest

PATH = "/usr/local/bin:/usr/bin:/bin"
PYTHON = "/usr/bin/python3"
"""An interpreter that is there inside: the one of the tests may be in somebody's home."""

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
class User:
    """Who starts nemoclaw, and with which interpreter."""

    name: str
    uid: int
    gid: int
    nemoclaw: tuple[str, ...]
    """The command line of nemoclaw for this user."""
    path: str = ""
    """PYTHONPATH that it needs, if any."""

    def arguments(self) -> dict[str, Any]:
        """What :class:`subprocess.Popen` needs to run a command as this user."""
        if os.getuid() != 0:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


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
        if side == "inside" and self.user.path:
            variables["PYTHONPATH"] = self.user.path
        return variables

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


def run_as(user: User, command: Sequence[str]) -> bool:
    """True when ``command`` can be executed, and succeeds, as ``user``."""
    try:
        done = subprocess.run(
            command,
            cwd="/",
            env={"PATH": PATH, "PYTHONPATH": user.path},
            capture_output=True,
            **user.arguments(),
        )
    except PermissionError:
        return False
    return done.returncode == 0


def closure(root: str) -> dict[str, Distribution]:
    """An installed distribution and everything that it requires, by name."""
    found: dict[str, Distribution] = {}
    waiting = [root]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            continue  # a requirement of another version of Python
        for text in found[name].requires or ():
            if "extra ==" not in text:
                waiting.append(re.split(r"[^\w.-]", text, maxsplit=1)[0])
    return found


def copy_installation(target: Path) -> None:
    """Copy nemoclaw and what it requires out of this environment, to where anybody can read it."""
    for name, each in closure("nemoclaw").items():
        package = "nemoclaw_core" if name == "nemoclaw" else name.replace("-", "_")
        spec = find_spec(package) if name.startswith("nemoclaw") else None
        if spec is not None and spec.origin is not None:
            # Ours may be an editable installation: no copy of the package to list.
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(Path(spec.origin).parent, target / package, ignore=ignore)
        for file in each.files or ():
            inside = not file.parts[0].startswith("..") and file.suffix not in (".pth", ".pyc")
            if inside and not (target / file).exists():
                (target / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(str(file.locate()), target / file)


@pytest.fixture(scope="session")
def users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, User]]:
    """Callers by name: root and an ordinary user, or the one user who runs the tests."""
    own = (sys.executable, "-m", "nemoclaw_core.cli")
    if os.getuid() != 0:
        yield {"user": User(name="user", uid=os.getuid(), gid=os.getgid(), nemoclaw=own)}
        return
    try:
        entry = pwd.getpwuid(1000)
    except KeyError:
        entry = pwd.getpwnam("nobody")
    root = User(name="root", uid=0, gid=0, nemoclaw=own)
    user = User(name="user", uid=entry.pw_uid, gid=entry.pw_gid, nemoclaw=own)
    shared = Path(tempfile.mkdtemp(prefix="nemoclaw-installed-"))
    shared.chmod(0o755)
    if not run_as(user, [sys.executable, "-c", "import nemoclaw_core"]):
        # The interpreter or the checkout is in a home that others may not enter.
        copy_installation(shared)
        user = attrs.evolve(user, nemoclaw=(PYTHON, *own[1:]), path=str(shared))
        assert run_as(user, [PYTHON, "-c", "import nemoclaw_core.cli, nemoclaw_hookspecs.specs"])
    yield {"root": root, "user": user}
    shutil.rmtree(shared)


def remove(folder: Path) -> None:
    """Remove a desk. A sandbox that was killed with its terminal may be tidying up there too."""
    for _ in range(20):
        try:
            shutil.rmtree(folder)
            return
        except FileNotFoundError:
            time.sleep(0.1)
    shutil.rmtree(folder)


@pytest.fixture(params=["root", "user"])
def desk(request: pytest.FixtureRequest, users: Mapping[str, User]) -> Iterator[Desk]:
    """An empty desk, once as root and once as an ordinary user."""
    if request.param not in users:
        pytest.skip("needs root: run the tests with sudo to see this one")
    user = users[request.param]
    # Not pytest's own temporary directory: another user cannot enter that one.
    base = Path(tempfile.mkdtemp(prefix="nemoclaw-desk-"))
    base.chmod(0o755)
    for side in ("outside", "inside"):
        for name in ("", "home", "work", "cache", "config", "run", "state"):
            folder = base / side / name
            folder.mkdir(mode=0o755 if name in ("", "work") else 0o700)
            os.chown(folder, user.uid, user.gid)
    yield Desk(base=base, user=user)
    remove(base)
