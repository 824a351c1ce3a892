"""docs/install.md against the repository: the command by hand installs what make installs."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .conftest import Page

ROOT = Path(__file__).resolve().parents[2]
FLAGS = ("-e", "--editable")


def editable(command: str) -> list[str]:
    """What a pip command installs in editable form, in its order."""
    words = shlex.split(command.replace("\\\n", " "))
    return [after for word, after in pairwise(words) if word in FLAGS]


def test_the_command_by_hand_is_the_one_of_make(pages: Mapping[str, Page]) -> None:
    text = pages["docs/install.md"].text
    (by_hand,) = re.findall(r"(?m)^    (\.venv/bin/pip install (?:.*\\\n)*.*)$", text)
    made = subprocess.run(
        ["make", "--always-make", "--dry-run", "install"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    wanted = [each.removeprefix("./") for each in editable(made)]
    assert editable(by_hand) == wanted
    folders = {str(path.parent.relative_to(ROOT)) for path in ROOT.glob("*/*/pyproject.toml")}
    assert folders <= set(wanted), "make leaves a distribution out"


def test_continuous_integration_runs_make_test_and_nothing_else() -> None:
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    commands = [line for line in lines if line and not line.startswith("#")]
    assert commands[0] == "set -euo pipefail"
    assert commands[1].startswith("cd ")
    assert commands[2:] == ["exec make test"]
