"""Claims about ``nemoclaw plugins``."""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nemoclaw_core.cli import main

if TYPE_CHECKING:
    from .conftest import Install

GOOD = """
@hookimpl
def on_event(event): return None

@hookimpl
def apply_fs(policy): return None
"""


@pytest.fixture
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A policy file in an empty work directory, with the plugins that a test writes into it."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    for variable in ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / "home"))
    return work / "mine.toml"


# The shipped policy requires its four layers, so these stand in for them.
SHIPPED = ("mounts", "landlock", "seccomp", "netns")


@pytest.fixture
def layers(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    """The four shipped names, provided by toys alone."""
    real = importlib.metadata.entry_points

    def only_toys(*, group: str) -> list[importlib.metadata.EntryPoint]:
        return [entry for entry in real(group=group) if entry.module.startswith("toy_plugin")]

    monkeypatch.setattr(importlib.metadata, "entry_points", only_toys)
    for name in SHIPPED:
        install(name, GOOD)


def write(policy: Path, *enable: str, more: str = "") -> None:
    names = json.dumps([*SHIPPED, *enable])
    policy.write_text(
        f"version = 1\n[policy.default.filesystem]\nread = []\n[plugins]\nenable = {names}\n{more}"
    )


def rows(policy: Path, capsys: pytest.CaptureFixture[str], status: int = 0) -> dict[str, Any]:
    assert main(["plugins", "--policy", str(policy), "--json"]) == status
    document = json.loads(capsys.readouterr().out)
    assert document["policy"] == f"{policy}:default"
    return {row["name"]: row for row in document["plugins"]}


@pytest.mark.usefixtures("layers")
def test_json_tells_everything_about_each_plugin(
    policy: Path, install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    write(policy, "sink")
    install("sink", GOOD, distribution="vendor-sink", version="2.5")
    module = install("zzz", GOOD)
    found = rows(policy, capsys)
    assert found["sink"] == {
        "name": "sink",
        "distribution": "vendor-sink",
        "version": "2.5",
        "enabled": True,
        "required": False,
        "hooks": ["apply_fs", "on_event"],
        "problem": None,
    }
    assert found["landlock"]["required"] is True
    assert found["zzz"]["enabled"] is False
    assert found["zzz"]["hooks"] is None
    assert "plugins.enable" in found["zzz"]["problem"]
    assert module not in sys.modules
    assert list(found)[:5] == [*SHIPPED, "sink"]


@pytest.mark.usefixtures("layers")
def test_a_broken_plugin_is_told_and_is_an_error(
    policy: Path, install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    write(policy, "bad", "gone")
    install("bad", "raise RuntimeError('boom')")
    found = rows(policy, capsys, status=4)
    assert "boom" in found["bad"]["problem"]
    assert f"{policy}:5 plugins.enable" in found["bad"]["problem"]
    assert "not installed" in found["gone"]["problem"]
    assert found["gone"]["distribution"] is None
    assert found["mounts"]["hooks"] == ["apply_fs", "on_event"]


@pytest.mark.usefixtures("layers")
def test_both_providers_of_one_name_are_shown(
    policy: Path, install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    write(policy, "twin")
    for distribution in ("honest-twin", "evil-twin"):
        install("twin", GOOD, distribution=distribution)
    assert main(["plugins", "--policy", str(policy)]) == 4
    shown = capsys.readouterr().out
    assert "honest-twin" in shown
    assert "evil-twin" in shown


@pytest.mark.usefixtures("layers")
def test_the_table_is_for_people(
    policy: Path, install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    write(policy)
    install("off", GOOD, version="9.9")
    assert main(["plugins", "--policy", str(policy)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["NAME", "DISTRIBUTION", "VERSION", "ENABLED", "HOOKS"]
    (off,) = (line for line in lines if line.startswith("off "))
    assert off.split() == ["off", "toy-off", "9.9", "no", "-"]
    (mounts,) = (line for line in lines if line.startswith("mounts "))
    assert mounts.split(maxsplit=4)[3:] == ["required", "apply_fs, on_event"]


def test_a_policy_that_is_not_valid_is_told_as_such(
    policy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy.write_text("version = 1\n[polcy.default]\n")
    assert main(["plugins", "--policy", str(policy)]) == 3
    assert "polcy" in capsys.readouterr().err


# --- what plugins say in `nemoclaw policy explain`


@pytest.mark.usefixtures("layers")
def test_policy_explain_prints_what_plugins_say(
    policy: Path, install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install("talker", f"{GOOD}\ndef explain(policy, host):\n    yield policy.name, host.machine\n")
    write(policy, "talker")
    assert main(["policy", "explain", f"{policy}:default"]) == 0
    text = capsys.readouterr().out
    row = repr(("default", os.uname().machine))
    assert text.startswith("policy default of ")
    assert text.endswith(f"\n\nplugin talker\n  {row}\n")
    assert "plugin mounts" not in text, "it has nothing to say"
    assert main(["policy", "explain", f"{policy}:default", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["plugins"] == {"talker": [row]}


@pytest.mark.usefixtures("layers")
@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("raise KeyError('x')", "failed in explain: KeyError"),
        ("raise PolicyError('no such call')", "refused in explain: no such call"),
        ("return 3", "failed in explain: TypeError"),
        ("yield 1; raise SystemExit", "failed in explain: SystemExit"),
    ],
)
def test_policy_explain_names_the_plugin_that_fails(
    body: str, told: str, policy: Path, install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install("broken", f"{GOOD}\ndef explain(policy, host):\n    {body}\n")
    write(policy, "broken")
    assert main(["policy", "explain", f"{policy}:default"]) == 4
    out, err = capsys.readouterr()
    assert out.startswith("policy default of "), "the values can be shown all the same"
    assert f"plugin 'broken' {told}" in err
    assert "Traceback" not in err
