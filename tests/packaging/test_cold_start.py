"""What the everyday commands may not import. Imports, not the kernel, are what a start costs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"aiohttp", "pyroute2", "numpy", "onnxruntime", "rich", "pydantic"}
NOT_WHEN_CACHED = {
    "argparse",
    "asyncio",
    "attr",
    "attrs",
    "cattrs",
    "importlib.metadata",
    "json",
    "pluggy",
    "re",
    "tomli",
    "tomllib",
    "typing",
}

Home = dict[str, str]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Variables of a person who never ran nemoclaw before."""
    names = {
        "HOME": "home",
        "XDG_CACHE_HOME": "cache",
        "XDG_CONFIG_HOME": "config",
        "XDG_RUNTIME_DIR": "run",
        "XDG_STATE_HOME": "state",
    }
    for name in names.values():
        (tmp_path / name).mkdir(mode=0o700)
    (tmp_path / "work").mkdir()
    return {key: str(tmp_path / name) for key, name in names.items()}


def importing(*arguments: str, home: Home) -> set[str]:
    """Modules that ``nemoclaw ARGUMENT...`` imports on top of a bare interpreter."""
    bare = modules([sys.executable, "-X", "importtime", "-c", "pass"], home)
    program = "import sys; from nemoclaw_core.cli import main; sys.exit(main())"
    command = [sys.executable, "-X", "importtime", "-c", program, *arguments]
    return modules(command, home) - bare


def modules(command: list[str], home: Home) -> set[str]:
    """Modules that the interpreter reports as imported (``-X importtime``), however it ends."""
    done = subprocess.run(
        command,
        cwd=Path(home["HOME"]).parent / "work",
        env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **home},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return set(re.findall(r"(?m)^import time: +\d+ \| +\d+ \| +([\w.]+)$", done.stderr))


def within(names: set[str], found: set[str]) -> set[str]:
    """Those of ``found`` that are, or are below, one of ``names``."""
    return {
        module
        for module in found
        if any(module == name or module.startswith(f"{name}.") for name in names)
    }


def test_the_probe_sees_an_import(home: Home) -> None:
    command = [sys.executable, "-X", "importtime", "-c", "import json, os; os._exit(0)"]
    assert within(NOT_WHEN_CACHED, modules(command, home)) >= {"json"}


@pytest.mark.parametrize("arguments", [("--version",), ("--help",), ("doctor",)])
def test_everyday_commands_import_nothing_heavy(arguments: tuple[str, ...], home: Home) -> None:
    assert within(HEAVY, importing(*arguments, home=home)) == set()


def test_version_and_help_load_no_plugin_machinery(home: Home) -> None:
    for argument in ("--version", "--help"):
        found = importing(argument, home=home)
        assert within({"attr", "cattrs", "pluggy", "importlib.metadata"}, found) == set()


def test_a_cached_run_imports_no_policy_and_no_plugin(home: Home) -> None:
    first = importing("run", "--", "/bin/true", home=home)
    assert within({"pluggy"}, first), "the first run compiles a plan"
    second = importing("run", "--", "/bin/true", home=home)
    assert within(HEAVY | NOT_WHEN_CACHED, second) == set()
    assert within({"nemoclaw_core.policy", "nemoclaw_core.pipeline"}, second) == set()
    assert not [name for name in second if name.startswith("nemoclaw_plugin_")]
