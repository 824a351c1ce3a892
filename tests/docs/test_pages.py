"""Pages that must be there, links that must lead somewhere, commands that must be described."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nemoclaw_core.cli import COMMANDS

if TYPE_CHECKING:
    from .conftest import Page

ROOT = Path(__file__).resolve().parents[2]


def test_every_distribution_has_a_page(pages: Mapping[str, Page]) -> None:
    for manifest in (*ROOT.glob("*/pyproject.toml"), *ROOT.glob("*/*/pyproject.toml")):
        assert f"{manifest.parent.relative_to(ROOT)}/README.md" in pages


def test_links_lead_to_files(pages: Mapping[str, Page]) -> None:
    for page in pages.values():
        for link in page.links():
            target = ROOT / Path(page.name).parent / link.split("#")[0]
            assert target.exists(), f"{page.name} links to {link}, which does not exist"


def test_every_command_is_described(pages: Mapping[str, Page]) -> None:
    headings = re.findall(r"(?m)^## nemoclaw ([\w-]+)", pages["docs/commands.md"].text)
    assert sorted(headings) == sorted(COMMANDS)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_option_is_described_and_every_described_option_exists(
    command: str, pages: Mapping[str, Page]
) -> None:
    words: list[tuple[str, ...]] = [(command,)]
    if command == "policy":
        words += [(command, each) for each in ("check", "explain", "diff", "try", "trust")]
    shown = "".join(help_of(*each) for each in words)
    parts = re.split(r"(?m)^## nemoclaw ([\w-]+)$", pages["docs/commands.md"].text)
    written = dict(zip(parts[1::2], parts[2::2], strict=True))[command]
    assert options(written) == options(shown) - {"--help"}


def options(text: str) -> set[str]:
    """Long options that are named in a text."""
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))


def help_of(*words: str) -> str:
    """What a command prints about itself."""
    command = [sys.executable, "-m", "nemoclaw_core.cli", *words, "--help"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_no_page_names_a_command_that_does_not_exist(pages: Mapping[str, Page]) -> None:
    for page in pages.values():
        code = re.findall(r"`([^`\n]+)`|(?m:^    (?:\$ )?(.+)$)|(?m:^\$ (.+)$)", page.text)
        for text in ("".join(groups) for groups in code):
            found = re.match(r"(?:\.venv/bin/)?nemoclaw ([a-z]\w*)", text)
            assert found is None or found[1] in COMMANDS, f"{page.name}: {text}"


def test_the_contract_of_exit_codes_is_written_down(pages: Mapping[str, Page]) -> None:
    from nemoclaw_hookspecs import errors

    written = {row[0] for table in pages["docs/exit-codes.md"].tables() for row in table}
    for each in vars(errors).values():
        if isinstance(each, type) and issubclass(each, errors.NemoclawError):
            assert str(each.exit_code) in written, each.__name__
