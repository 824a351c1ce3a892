"""Claims about how plugins are found and imported, and which versions are taken."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from nemoclaw_hookspecs import PluginError

from nemoclaw_core.plugins import PluginManager, discover

from .conftest import FS, Install, answers, enabling, loaded, refusal

# --- finding


def test_discover_reads_metadata_and_imports_nothing(install: Install) -> None:
    module = install("zebra", "raise SystemExit('imported')", distribution="vendor-zebra")
    found = {plugin.name: plugin for plugin in discover()}
    assert (found["zebra"].distribution, found["zebra"].version) == ("vendor-zebra", "1.0")
    assert module not in sys.modules


def test_a_plugin_that_is_not_enabled_is_never_imported(install: Install) -> None:
    wanted, unwanted = install("wanted", FS), install("unwanted", FS)
    assert loaded("wanted").loaded == ("wanted",)
    assert wanted in sys.modules
    assert unwanted not in sys.modules


def test_plugins_are_called_in_the_order_of_enable(install: Install) -> None:
    for name in ("alpha", "beta", "gamma"):
        install(name, FS)
    for order in (("gamma", "alpha", "beta"), ("beta", "gamma", "alpha")):
        assert [name for name, _ in answers(loaded(*order))] == list(order)


def test_a_name_enabled_twice_is_loaded_once(install: Install) -> None:
    install("alpha", FS)
    assert len(answers(loaded("alpha", "alpha"))) == 1


def test_two_distributions_with_one_name_are_refused_by_name(install: Install) -> None:
    first = install("twin", FS, distribution="honest-twin", version="1.0")
    second = install("twin", FS, distribution="evil-twin", version="6.6")
    error = refusal("twin")
    assert "honest-twin 1.0" in str(error)
    assert "evil-twin 6.6" in str(error)
    assert first not in sys.modules
    assert second not in sys.modules


def test_a_missing_plugin_is_refused_with_its_line_and_the_nearest_name(install: Install) -> None:
    install("landlocker", FS)
    error = refusal("landlockr")
    assert error.where == "policies.toml:7 plugins.enable[0]"
    assert "did you mean 'landlocker'?" in str(error)
    assert error.exit_code == 4


@pytest.mark.parametrize("name", ["core", "Core", "a b", "", "../x", "a\n"])
def test_a_plugin_cannot_have_a_name_that_misleads(name: str, install: Install) -> None:
    assert "cannot be a plugin's name" in refusal(name).what


def test_core_stays_reserved_when_somebody_installs_it(install: Install) -> None:
    module = install("core", FS)
    refusal("core")
    assert module not in sys.modules


def test_unreadable_metadata_is_refused_naming_the_distribution(
    install: Install, tmp_path: Path
) -> None:
    install("alpha", FS)
    broken = tmp_path / "site" / "broken-1.0.dist-info"
    broken.mkdir()
    (broken / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (broken / "entry_points.txt").write_text("[nemoclaw]\nthis is no entry point\n")
    error = refusal("alpha")
    assert "broken-1.0.dist-info" in str(error)


# --- importing


@pytest.mark.parametrize(
    "source", ["raise RuntimeError('boom')", "import sys; sys.exit(0)", "import no_such_module_x"]
)
def test_a_plugin_that_fails_to_import_is_an_error_and_does_not_stop_the_others(
    source: str, install: Install
) -> None:
    install("good", FS)
    install("bad", source, distribution="vendor-bad")
    error = refusal("bad", "good")
    assert error.plugin == "bad"
    assert "vendor-bad 1.0" in error.what
    manager = PluginManager()
    assert set(manager.attempt(enabling("bad", "good"))) == {"bad"}
    assert manager.loaded == ("good",)


def test_all_failures_are_told_at_once(install: Install) -> None:
    install("bad", "raise RuntimeError('boom')")
    error = refusal("bad", "missing")
    assert "boom" in str(error)
    assert "'missing' is not installed" in str(error)
    # A bare name would be asked of an index, where anybody may have registered it.
    assert "pip install" not in str(error)
    assert "nemoclaw-plugin-" not in str(error)
    assert "from where you got nemoclaw" in str(error)


def test_an_entry_point_may_be_an_object(install: Install) -> None:
    source = """
    class Walls:
        NEMOCLAW_API = (1, 0)

        @hookimpl
        def apply_fs(self, host):
            return Layer()

        @staticmethod
        @hookimpl
        def apply_net(policy):
            return None

        @classmethod
        @hookimpl
        def apply_syscall(cls):
            return None

    plugin = Walls()
    """
    install("walls", source, header="from nemoclaw_hookspecs import *\n", attribute="plugin")
    manager = loaded("walls")
    assert manager.hooks_of("walls") == ("apply_fs", "apply_net", "apply_syscall")
    for hook in manager.hooks_of("walls"):
        assert all(not isinstance(answer, PluginError) for _, answer in answers(manager, hook))


def test_a_class_as_entry_point_is_refused(install: Install) -> None:
    source = """
    class Walls:
        NEMOCLAW_API = (1, 0)

        @hookimpl
        def apply_fs(self, policy, host):
            return Layer()
    """
    install("walls", source, attribute="Walls")
    assert "self" in refusal("walls").what


# --- the version of the contract


@pytest.mark.parametrize(
    ("declared", "told"),
    [
        ("", "does not say"),
        ("NEMOCLAW_API = '1.0'", "does not say"),
        ("NEMOCLAW_API = (1,)", "does not say"),
        ("NEMOCLAW_API = (True, 0)", "does not say"),
        ("NEMOCLAW_API = [1, 0]", "does not say"),
        ("NEMOCLAW_API = (0, 9)", "upgrade the plugin"),
        ("NEMOCLAW_API = (2, 0)", "upgrade nemoclaw"),
        ("NEMOCLAW_API = (1, 1)", "upgrade nemoclaw"),
    ],
)
def test_an_incompatible_plugin_is_refused_with_what_to_upgrade(
    declared: str, told: str, install: Install
) -> None:
    header = f"from nemoclaw_hookspecs import *\n{declared}\n"
    install("old", FS, header=header, distribution="vendor-old", version="3.1")
    error = refusal("old")
    assert told in str(error)
    assert "vendor-old 3.1" in str(error)


def test_a_plugin_of_an_older_minor_version_is_taken(install: Install) -> None:
    install("old", FS)
    manager = PluginManager(api=(1, 7))
    manager.load(enabling("old"))
    assert manager.loaded == ("old",)


def test_core_imports_no_plugin_by_name() -> None:
    script = (
        "import sys, nemoclaw_core.plugins, nemoclaw_core.pipeline, nemoclaw_core.seal\n"
        "print([m for m in sys.modules if m.startswith('nemoclaw_plugin')])"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
