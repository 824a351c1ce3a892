"""Toy plugins, installed for real: a module and its dist-info on the path."""

from __future__ import annotations

import inspect
import itertools
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest
from nemoclaw_hookspecs import Origin, PluginError, PluginPolicy, specs

from nemoclaw_core.plugins import PluginManager

_numbers = itertools.count()

HEADER = """
from nemoclaw_hookspecs import *
NEMOCLAW_API = (1, 0)
"""
FS = """
@hookimpl
def apply_fs(policy, host):
    return Layer(operations=(Tmpfs(target="/scratch"),))
"""
"""A plugin with one layer."""


class Install(Protocol):
    """Installs a plugin and returns the name of its module."""

    def __call__(
        self,
        name: str,
        source: str,
        *,
        header: str = HEADER,
        distribution: str = "",
        version: str = "1.0",
        attribute: str = "",
    ) -> str: ...


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    modules = []

    def install_plugin(
        name: str,
        source: str,
        *,
        header: str = HEADER,
        distribution: str = "",
        version: str = "1.0",
        attribute: str = "",
    ) -> str:
        module = f"toy_plugin_{next(_numbers)}"
        modules.append(module)
        (site / f"{module}.py").write_text(header + textwrap.dedent(source))
        distribution = distribution or f"toy-{name}"
        info = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
        )
        value = f"{module}:{attribute}" if attribute else module
        (info / "entry_points.txt").write_text(f"[nemoclaw]\n{name} = {value}\n")
        return module

    yield install_plugin
    for module in modules:
        sys.modules.pop(module, None)


def enabling(*names: str, **options: dict[str, object]) -> PluginPolicy:
    places = [f"enable[{at}]" for at in range(len(names))]
    places += [f"{name}.{key}" for name, table in options.items() for key in table]
    return PluginPolicy(
        enable=names,
        options=options,
        origins={at: Origin(file="policies.toml", line=7, key=f"plugins.{at}") for at in places},
    )


def loaded(*names: str, **options: dict[str, object]) -> PluginManager:
    manager = PluginManager()
    manager.load(enabling(*names, **options))
    return manager


def refusal(*names: str, **options: dict[str, object]) -> PluginError:
    with pytest.raises(PluginError) as caught:
        loaded(*names, **options)
    return caught.value


def answers(manager: PluginManager, hook: str = "apply_fs") -> list[tuple[str, object]]:
    return [
        (outcome.plugin, outcome.error or outcome.value)
        for outcome in manager.each(hook, policy=None, host=None)
    ]


def no_arguments(hook: str) -> dict[str, None]:
    """None for each argument of a hook, for implementations that look at none."""
    return dict.fromkeys(inspect.signature(getattr(specs, hook)).parameters)
