"""Plugins as real modules in a temporary directory."""

from __future__ import annotations

import importlib
import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

_numbers = itertools.count()
HEADER = "from nemoclaw_hookspecs import *\n"


@pytest.fixture
def module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], ModuleType]]:
    """Makes an importable module out of source text."""
    monkeypatch.syspath_prepend(str(tmp_path))
    made = []

    def make(source: str) -> ModuleType:
        name = f"toy_layer_{next(_numbers)}"
        made.append(name)
        (tmp_path / f"{name}.py").write_text(HEADER + source)
        importlib.invalidate_caches()
        return importlib.import_module(name)

    yield make
    for name in made:
        sys.modules.pop(name, None)
