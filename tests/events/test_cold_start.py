"""What every start imports of this room costs next to nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import nemoclaw_hookspecs
import pytest

import nemoclaw_core

PROGRAM = """
import os, sys
sys.path[:0] = sys.argv[2:]
before = set(sys.modules)
__import__(sys.argv[1])
print(sorted(set(sys.modules) - before))
"""
ALLOWED = {
    "__future__", "_blake2", "_ctypes", "_json", "_signal", "_struct", "_thread", "ctypes",
    "errno", "fcntl", "struct", "time",
    # What those and the hook specifications' package bring along.
    "importlib", "types", "warnings",
}  # fmt: skip
OURS = {"nemoclaw_core", "nemoclaw_hookspecs"}


def imported(module: str) -> set[str]:
    """Top-level names of the modules that importing ``module`` into a bare interpreter loads."""
    packages = (nemoclaw_core, nemoclaw_hookspecs)
    paths = [str(Path(package.__file__ or "").parents[1]) for package in packages]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", PROGRAM, module, *paths],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return {name.partition(".")[0] for name in ast.literal_eval(done.stdout)}


def test_the_probe_sees_an_import() -> None:
    assert {"json", "re"} <= imported("json")


@pytest.mark.parametrize("module", ["log", "ocsf", "record", "chain", "encoder", "folder"])
def test_the_writer_imports_little(module: str) -> None:
    assert imported(f"nemoclaw_core.events.{module}") - OURS <= ALLOWED
