"""Who starts nemoclaw in the tests: root and an ordinary user, or the one user who runs them."""

from __future__ import annotations

import ctypes
import os
import pwd
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import attrs

PATH = "/usr/local/bin:/usr/bin:/bin"
PYTHON = "/usr/bin/python3"
"""An interpreter that everybody has: the one of the tests may be in somebody's home."""
_NEMOCLAW = ("-m", "nemoclaw_core.cli")
_TRIAL = "import attrs, cattrs, nemoclaw_core.cli, nemoclaw_hookspecs.specs, pluggy, tomli"


@attrs.frozen(slots=True, kw_only=True)
class User:
    """Who starts nemoclaw, and with which interpreter."""

    name: str
    """``root`` or ``user``."""
    uid: int
    gid: int
    nemoclaw: tuple[str, ...] = (sys.executable, *_NEMOCLAW)
    """The command line of nemoclaw for this user."""
    path: str = ""
    """PYTHONPATH that it needs, if any."""

    def arguments(self) -> dict[str, Any]:
        """What :class:`subprocess.Popen` needs to run a command as this user."""
        if os.getuid() != 0:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def variables(self) -> dict[str, str]:
        """Environment variables that nemoclaw needs besides those of a login."""
        return {"PYTHONPATH": self.path} if self.path else {}

    def become(self) -> None:
        """Make this process, a forked child of root's, one of this user; for good."""
        os.setgroups([])
        os.setgid(self.gid)
        os.setuid(self.uid)
        # A process that changed its user keeps its own files in /proc from itself, as one that was
        # started by that user does not (prctl(2), PR_SET_DUMPABLE).
        ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
        sys.executable = self.nemoclaw[0]
        sys.path[:0] = [self.path] if self.path else []


def everybody() -> list[User]:
    """The users of this test run, before it is known how each starts nemoclaw."""
    if os.getuid() != 0:
        return [User(name="user", uid=os.getuid(), gid=os.getgid())]
    try:
        entry = pwd.getpwuid(1000)
    except KeyError:
        entry = pwd.getpwnam("nobody")
    ordinary = User(name="user", uid=entry.pw_uid, gid=entry.pw_gid)
    return [User(name="root", uid=0, gid=0), ordinary]


def installed(user: User, copies: Path) -> User:
    """The user with a command line of nemoclaw that works.

    That is the interpreter of the tests, unless it or the checkout is in a home that others may not
    enter, as root's often is: then nemoclaw and what it requires are copied to ``copies``.

    :raises RuntimeError: not even the copy works.
    """
    if _runs(user, [sys.executable, "-c", _TRIAL]):
        return user
    if not any(copies.iterdir()):
        copy_installation(copies)
    user = attrs.evolve(user, nemoclaw=(PYTHON, *_NEMOCLAW), path=str(copies))
    if not _runs(user, [PYTHON, "-c", _TRIAL]):
        raise RuntimeError(f"{user.name} can use neither {sys.executable} nor a copy in {copies}")
    return user


def _runs(user: User, command: Sequence[str]) -> bool:
    try:
        done = subprocess.run(
            command,
            cwd="/",
            env={"PATH": PATH, **user.variables()},
            capture_output=True,
            **user.arguments(),
        )
    except PermissionError:
        return False
    return done.returncode == 0


def _closure(root: str) -> dict[str, Distribution]:
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


def copy_installation(target: Path, root: str = "nemoclaw") -> None:
    """Copy a distribution and all that it requires into a directory of the path."""
    for name, each in _closure(root).items():
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
    # Who uses the copy cannot write into it, and would compile it anew at every start.
    subprocess.run([PYTHON, "-m", "compileall", "-q", str(target)], check=True)
