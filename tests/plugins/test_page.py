"""docs/plugins.md is true: its plugin loads, does what the page says, and passes its own tests."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import attrs
import pytest
import tomli
from nemoclaw_hookspecs import Mask, PluginPolicy, PolicyError
from nemoclaw_testing import make_host, make_policy

from nemoclaw_core.pipeline import compile_plan
from nemoclaw_core.plugins import PluginManager

PAGE = Path(__file__).parents[2] / "docs" / "plugins.md"


def blocks() -> list[str]:
    """The fenced blocks: module, pyproject, tests, policy."""
    return re.findall(r"^```(?:python|ini)\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page's files, installed as the page's pyproject says."""
    module, manifest, tests, _ = blocks()
    project = tomli.loads(manifest)["project"]
    (tmp_path / "nemoclaw_plugin_hide.py").write_text(module)
    (tmp_path / "test_hide.py").write_text(tests)
    info = tmp_path / f"nemoclaw_plugin_hide-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    (name, value), *_ = project["entry-points"]["nemoclaw"].items()
    (info / "entry_points.txt").write_text(f"[nemoclaw]\n{name} = {value}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "nemoclaw_plugin_hide", raising=False)
    return tmp_path


@pytest.mark.usefixtures("folder")
def test_the_plugin_of_the_page_does_what_the_page_says() -> None:
    table = tomli.loads(blocks()[3])["plugins"]
    assert "hide" in table["enable"]
    plugins = PluginPolicy(enable=("hide",), options={"hide": table["hide"]})
    manager = PluginManager()
    manager.load(plugins)
    policy = attrs.evolve(make_policy(), plugins=plugins)
    with pytest.raises(Exception, match="without a mount namespace"):
        compile_plan(policy, make_host(), manager)  # it is no wall of its own
    ((_, layer),) = manager.call_layer("apply_fs", policy, make_host())
    assert layer.operations == (Mask(target="/srv", kind="directory"),)  # type: ignore[union-attr]


@pytest.mark.usefixtures("folder")
def test_the_plugin_of_the_page_judges_its_options() -> None:
    with pytest.raises(PolicyError, match="list of paths"):
        PluginManager().load(PluginPolicy(enable=("hide",), options={"hide": {"paths": "/srv"}}))


def test_the_tests_of_the_page_pass(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert "11 passed" in done.stdout
