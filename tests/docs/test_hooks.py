"""docs/hooks.md against the hook specifications: names, signatures, rules, examples."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import pluggy
from nemoclaw_hookspecs import specs

if TYPE_CHECKING:
    from .conftest import Page


def signatures() -> dict[str, str]:
    """``name -> name(argument, ...)`` of every hook."""
    manager = pluggy.PluginManager(specs.PROJECT)
    manager.add_hookspecs(specs)
    hooks = {name for name in vars(manager.hook) if not name.startswith("_")}
    arguments = {name: inspect.signature(getattr(specs, name)).parameters for name in hooks}
    return {name: f"{name}({', '.join(given)})" for name, given in arguments.items()}


def sections(page: Page) -> dict[str, str]:
    """Heading to text of the sections that describe a hook."""
    parts = re.split(r"(?m)^### (\w+\(.*\))$", page.text)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_hook_has_a_section_with_its_signature(pages: Mapping[str, Page]) -> None:
    assert set(sections(pages["docs/hooks.md"])) == set(signatures().values())


def test_sections_say_what_the_specification_says(pages: Mapping[str, Page]) -> None:
    written = sections(pages["docs/hooks.md"])
    for name, signature in signatures().items():
        docstring = inspect.getdoc(getattr(specs, name)) or ""
        for part in ("When", "Returns", "On failure"):
            found = re.search(rf"(?ms)^{part}: (.*?)(?=^[A-Z][\w ]*:)", docstring)
            assert found, f"the docstring of {name} has no {part}"
            text = re.sub(r":class:`~\w+\.(\w+)`", r"`\1`", " ".join(found[1].split()))
            text = text.replace("``", "`")
            assert text in " ".join(written[signature].split()), f"{name}: {part}: {text}"


def test_enforcement_hooks_are_named(pages: Mapping[str, Page]) -> None:
    (line,) = re.findall(r"(?m)^Enforcement hooks: (.*)$", pages["docs/hooks.md"].text)
    assert set(re.findall(r"`(\w+)`", line)) == specs.ENFORCEMENT_HOOKS


def test_python_examples_parse(pages: Mapping[str, Page]) -> None:
    for page in pages.values():
        for block in page.blocks("python"):
            ast.parse(block.text, block.where)
