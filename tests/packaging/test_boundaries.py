"""Arrows point one way: plugins -> hookspecs <- core, and the launcher knows only the library."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .conftest import Distribution

ROOT = Path(__file__).resolve().parents[2]
OURS = ("nemoclaw_core", "nemoclaw_hookspecs", "nemoclaw_plugin_", "nemoclaw_testing")
# The import name of a requirement, where it is not the requirement's own.
IMPORT_NAMES = {"attrs": {"attr", "attrs"}, "graphql-core": {"graphql"}}


def for_types(tree: ast.AST) -> set[ast.AST]:
    """Nodes under ``if TYPE_CHECKING:``, which never run."""
    blocks = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
    ]
    return {inner for block in blocks for part in block.body for inner in ast.walk(part)}


def imported(source: Path, *, types: bool = True) -> Iterator[tuple[str, str]]:
    """``(where, absolute module)`` of every import statement; relative imports are left out.

    :param types: with imports that serve type checkers alone.
    """
    tree = ast.parse(source.read_text(), str(source))
    left_out = set() if types else for_types(tree)
    for node in ast.walk(tree):
        if node in left_out:
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        else:
            continue
        for name in names:
            yield f"{source.relative_to(ROOT)}:{node.lineno}", name


def named(source: Path, prefix: str) -> Iterator[str]:
    """Where a string literal names a module, as ``import_module`` would take it."""
    for node in ast.walk(ast.parse(source.read_text(), str(source))):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            continue
        if re.fullmatch(rf"{prefix}[\w.]*", node.value):
            yield f"{source.relative_to(ROOT)}:{node.lineno}"


def every_import(folder: Path, *, types: bool = True) -> list[tuple[str, str]]:
    sources = sorted(folder.rglob("*.py"))
    assert sources, f"{folder} holds no module"
    return [pair for source in sources for pair in imported(source, types=types)]


def requirements(each: Distribution) -> set[str]:
    """Import names of what a distribution declares, extras included."""
    text = (each.folder / "pyproject.toml").read_text()
    names: set[str] = set()
    for block in re.findall(r"(?ms)^(?:dependencies|[\w-]+) = \[(.*?)\]$", text):
        for requirement in re.findall(r'"([A-Za-z][\w.-]*)', block):
            names |= IMPORT_NAMES.get(requirement, {requirement.replace("-", "_")})
    return names


def test_no_plugin_imports_the_core_or_another_plugin(
    distributions: tuple[Distribution, ...],
) -> None:
    for each in distributions:
        if not each.name.startswith("nemoclaw-plugin-"):
            continue
        for where, module in every_import(each.sources):
            if module.startswith(OURS):
                assert module.split(".")[0] in (each.package, "nemoclaw_hookspecs"), where
        for source in each.sources.rglob("*.py"):
            assert not list(named(source, "nemoclaw_core"))


def test_the_core_names_no_plugin() -> None:
    for where, module in every_import(ROOT / "nemoclaw_core"):
        assert not module.startswith(("nemoclaw_plugin_", "nemoclaw_testing")), where
    for source in (ROOT / "nemoclaw_core").rglob("*.py"):
        assert not list(named(source, "nemoclaw_plugin_"))


def test_the_contract_imports_neither_side() -> None:
    for where, module in every_import(ROOT / "hookspecs" / "src"):
        if module.startswith(OURS):
            assert module.split(".")[0] == "nemoclaw_hookspecs", where


def test_the_launcher_imports_the_standard_library_alone() -> None:
    folder = ROOT / "nemoclaw_core" / "launcher"
    for where, module in every_import(folder, types=False):
        top = module.split(".")[0]
        own = module.startswith("nemoclaw_core.launcher")
        assert own or top in sys.stdlib_module_names, f"{where} imports {module}"
    for source in sorted(folder.rglob("*.py")):
        tree = ast.parse(source.read_text())
        for node in set(ast.walk(tree)) - for_types(tree):
            if isinstance(node, ast.ImportFrom):
                assert node.level <= len(source.relative_to(folder).parts), (
                    f"{source.relative_to(ROOT)}:{node.lineno} reaches out of the launcher"
                )


def test_whatever_is_imported_is_declared(distributions: tuple[Distribution, ...]) -> None:
    for each in distributions:
        allowed = requirements(each) | {each.package} | sys.stdlib_module_names
        for where, module in every_import(each.sources, types=False):
            assert module.split(".")[0] in allowed, f"{where}: {module} is not a dependency"
