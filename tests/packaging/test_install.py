"""The wheels in a clean environment: plain pip installs them and the command works."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .conftest import Distribution, Environment, NewEnvironment, Wheel

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = sorted(path.parent.name for path in ROOT.glob("plugins/*/pyproject.toml"))

pytestmark = pytest.mark.timeout(600)


def test_none_of_ours_comes_from_an_index(
    installed: Environment, distributions: tuple[Distribution, ...]
) -> None:
    # PEP 610: pip writes direct_url.json for what it was given as a file, and only for that.
    program = (
        "import importlib.metadata as m, json;"
        "print(json.dumps({d.name: d.read_text('direct_url.json') for d in m.distributions()}))"
    )
    origins = json.loads(installed.run("python", "-c", program).stdout)
    for each in distributions:
        assert json.loads(origins[each.name])["url"].startswith("file://"), each.name


def test_nothing_is_installed_under_a_general_name(installed: Environment) -> None:
    for name in ("hookspecs", "plugins", "contrib", "tests", "bench", "docs"):
        done = installed.run("python", "-c", f"import {name}")
        assert "ModuleNotFoundError" in done.stderr, name


def test_version_runs(installed: Environment) -> None:
    done = installed.run("nemoclaw", "version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("nemoclaw 0.1.0 ")


def test_all_four_plugins_are_listed_and_enabled(installed: Environment) -> None:
    done = installed.run("nemoclaw", "plugins", "--json")
    assert done.returncode == 0, done.stderr
    listed = {each["name"]: each for each in json.loads(done.stdout)["plugins"]}
    assert set(PLUGINS) <= set(listed)
    for name in PLUGINS:
        assert listed[name]["enabled"] is True, listed[name]
        assert listed[name]["distribution"] == f"nemoclaw-plugin-{name}"
        assert listed[name]["hooks"], f"{name} implements no hook"


def test_the_shipped_policy_is_valid(installed: Environment) -> None:
    program = "import nemoclaw_core, os; print(os.path.dirname(nemoclaw_core.__file__))"
    package = installed.run("python", "-c", program).stdout.strip()
    done = installed.run("nemoclaw", "policy", "check", f"{package}/policies.toml")
    assert done.returncode == 0, done.stderr


def test_a_command_runs_behind_the_walls(installed: Environment) -> None:
    done = installed.run("nemoclaw", "run", "--", "/bin/true")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    done = installed.run("nemoclaw", "run", "--", "/bin/sh", "-c", "exit 7")
    assert done.returncode == 7, done.stderr


@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_plugin_needs_nothing_but_the_contract(
    plugin: str, libraries: Environment, built: dict[str, Wheel], tmp_path: Path
) -> None:
    for name in ("nemoclaw-hookspecs", f"nemoclaw-plugin-{plugin}"):
        with zipfile.ZipFile(built[name].path) as archive:
            archive.extractall(tmp_path)
    program = f"""
import importlib.util, sys
sys.path.insert(0, {str(tmp_path)!r})
assert importlib.util.find_spec("nemoclaw_core") is None
import pluggy, nemoclaw_hookspecs.specs as specs
import nemoclaw_plugin_{plugin} as plugin
assert plugin.NEMOCLAW_API == (1, 0), plugin.NEMOCLAW_API
manager = pluggy.PluginManager("nemoclaw")
manager.add_hookspecs(specs)
manager.register(plugin)
manager.check_pending()
assert manager.get_hookcallers(plugin), "no hook is implemented"
"""
    done = libraries.run("python", "-I", "-c", program)
    assert done.returncode == 0, done.stderr


def other_pythons() -> list[str]:
    """The oldest and the newest supported interpreter of this machine, besides this one."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    usable = []
    for minor in range(10, 20):
        name = f"python3.{minor}"
        found = [shutil.which(name), *map(str, sorted(pyenv.glob(f"versions/*/bin/{name}")))]
        for python in found if minor != sys.version_info.minor else ():
            # A version manager's shim may be there for an interpreter that it does not start.
            probe = [python or "", "-c", "import venv"]
            if python and subprocess.run(probe, capture_output=True).returncode == 0:
                usable.append(python)
                break
    return list(dict.fromkeys([*usable[:1], *usable[-1:]]))


@pytest.mark.parametrize("python", other_pythons() or [""])
def test_wheels_work_on_other_pythons(
    python: str, built: dict[str, Wheel], new_environment: NewEnvironment, tmp_path: Path
) -> None:
    if not python:
        pytest.skip("needs another interpreter (python3.10, ..., python3.13) on this machine")
    environment = new_environment(tmp_path, python)
    files = [str(wheel.path) for wheel in built.values()]
    environment.pip("install", "--constraint", str(ROOT / "constraints.txt"), *files)
    for command in (("version",), ("plugins", "--json"), ("run", "--", "/bin/true")):
        done = environment.run("nemoclaw", *command)
        assert done.returncode == 0, f"{command}: {done.stderr}"
