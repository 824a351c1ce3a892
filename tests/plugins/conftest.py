"""Toy plugins, installed for real: a module and its dist-info on the path."""

from __future__ import annotations

import itertools
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

_numbers = itertools.count()

HEADER = """
from nemoclaw_hookspecs import *
NEMOCLAW_API = (1, 0)
"""


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
