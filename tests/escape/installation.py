"""An interpreter with nemoclaw in it that a given user can start."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

SYSTEM_PYTHON = "/usr/bin/python3"
_TRIAL = "import attrs, cattrs, nemoclaw_core.cli, nemoclaw_hookspecs.specs, pluggy, tomli"


def command_for(prefix: tuple[str, ...], copy_to: str) -> tuple[list[str], dict[str, str]]:
    """The command that starts nemoclaw for the user that ``prefix`` becomes, and its variables.

    That is the interpreter of the tests, unless it or the checkout lies in somebody's home, as
    root's often does: then nemoclaw and what it needs are copied into the directory ``copy_to``.

    :raises RuntimeError: not even the copy works.
    """
    command = ["-m", "nemoclaw_core.cli"]
    if _works(prefix, sys.executable, ""):
        return [sys.executable, *command], {}
    for installed in _closure("nemoclaw"):
        _copy(installed, Path(copy_to))
    if not _works(prefix, SYSTEM_PYTHON, copy_to):
        raise RuntimeError(f"neither {sys.executable} nor a copy in {copy_to} works by {prefix}")
    return [SYSTEM_PYTHON, *command], {"PYTHONPATH": copy_to}


def _works(prefix: tuple[str, ...], interpreter: str, path: str) -> bool:
    variables = {"PATH": "/usr/bin:/bin", "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    trial = [*prefix, interpreter, "-c", _TRIAL]
    return subprocess.run(trial, cwd="/", env=variables, capture_output=True).returncode == 0


def _closure(root: str) -> list[Distribution]:
    """An installed distribution and everything that it requires."""
    found: dict[str, Distribution] = {}
    waiting = [root]
    while waiting:
        name = waiting.pop()
        try:
            installed = distribution(name)
        except PackageNotFoundError:
            continue  # required on other versions of Python
        if name not in found:
            found[name] = installed
            required = [text for text in installed.requires or () if "extra ==" not in text]
            waiting += [re.split(r"[^\w.-]", text, maxsplit=1)[0] for text in required]
    return list(found.values())


def _copy(installed: Distribution, target: Path) -> None:
    name = installed.name.replace("-", "_")
    package = "nemoclaw_core" if name == "nemoclaw" else name
    spec = find_spec(package) if name.startswith("nemoclaw") else None
    if spec is not None and spec.origin is not None:
        # Ours may be an editable installation, whose files are not listed.
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(Path(spec.origin).parent, target / package, ignore=ignored)
    for file in installed.files or ():
        wanted = not file.parts[0].startswith("..") and file.suffix not in (".pth", ".pyc")
        if wanted and not (target / file).exists():
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(str(file.locate()), target / file)
