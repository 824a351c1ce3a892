"""Examples in the pages: policies are valid, and shown commands print what is shown."""

from __future__ import annotations

import difflib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import tomli

if TYPE_CHECKING:
    from .conftest import Block, Page

CHEAP = ("version", "schema", "plugins", "policy", "run", "demo")
"""Commands whose shown output is compared."""

VARIABLE = (
    (r"\b[a-z]+-[a-z]+-[0-9a-f]{4}\b", "SANDBOX"),
    (r"/\S*/(?=policies\.toml|SANDBOX)", "DIRECTORY/"),
    (r"(?<=policies\.toml:)\d+", "LINE"),
)
"""What differs from run to run, and what stands for it in a comparison."""


def complete(text: str) -> str:
    """A fragment as a whole policy file."""
    document = tomli.loads(text)
    if "version" not in document:
        text = f"version = 1\n{text}"
    if "policy" not in document:
        text = f'{text}\n[policy.default]\nextends = ["base"]\n'
    return text


def nemoclaw(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command of nemoclaw in a work directory in ``folder``, with a home beside it."""
    home, work = folder / "home", folder / "work"
    home.mkdir(exist_ok=True)
    work.mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, "-m", "nemoclaw_core.cli", *arguments],
        cwd=work,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "XDG_STATE_HOME": f"{home}/.local/state",
        },
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
    )


def settled(text: str) -> str:
    """Text with what differs from run to run replaced."""
    for pattern, word in VARIABLE:
        text = re.sub(pattern, word, text)
    return text


def all_blocks(pages: Mapping[str, Page], language: str) -> list[Block]:
    return [block for page in pages.values() for block in page.blocks(language)]


def test_policy_examples_are_valid(pages: Mapping[str, Page], tmp_path: Path) -> None:
    blocks = all_blocks(pages, "toml")
    assert len(blocks) >= 5, "the pages show hardly any policy"
    broken = {}
    for block in blocks:
        file = tmp_path / "policies.toml"
        file.write_text(complete(block.text))
        done = nemoclaw(["policy", "check", str(file)], tmp_path)
        if done.returncode != 0:
            broken[block.where] = done.stdout
    assert not broken, "\n".join(f"{where}\n{out}" for where, out in broken.items())


def test_an_invalid_example_would_be_found(tmp_path: Path) -> None:
    file = tmp_path / "policies.toml"
    file.write_text(complete("[policy.default.filesystem]\nraed = []\n"))
    assert nemoclaw(["policy", "check", str(file)], tmp_path).returncode == 3


def test_shown_commands_print_what_is_shown(pages: Mapping[str, Page], tmp_path: Path) -> None:
    blocks = all_blocks(pages, "console")
    assert blocks, "no page shows a command with its output"
    for block in blocks:
        for part in re.split(r"(?m)^\$ ", block.text)[1:]:
            line, _, shown = part.partition("\n")
            program, *arguments = shlex.split(line)
            if program != "nemoclaw" or arguments[0] not in CHEAP:
                continue
            shown, printed = settled(shown), settled(nemoclaw(arguments, tmp_path).stdout)
            # A line of dots stands for any lines.
            pattern = re.escape(shown).replace(re.escape("...\n"), "(?:.*\n)*?")
            if not re.fullmatch(pattern, printed):
                change = difflib.ndiff(shown.splitlines(), printed.splitlines())
                pytest.fail(f"{block.where}: $ {line}\n" + "\n".join(change))
