"""docs/sandboxes.md: what `ps` is shown to print is what it prints."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .conftest import Page


def cells(line: str) -> list[str]:
    """A row without what differs from run to run: numbers, and folders."""
    shown = [re.sub(r"\d+", "N", cell) for cell in line.split()]
    return [re.sub(r"/\S*/", "DIRECTORY/", cell) for cell in shown]


def test_the_listing_is_a_real_one(pages: Mapping[str, Page], tmp_path: Path) -> None:
    shown = re.search(
        r"(?m)^    \$ nemoclaw (run --detach .*)\n    (\w+)\n    \$ nemoclaw ps\n((?:    .+\n)+)",
        pages["docs/sandboxes.md"].text,
    )
    assert shown is not None
    for name in ("work", "run", "home"):
        (tmp_path / name).mkdir(mode=0o700)

    def nemoclaw(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "nemoclaw_core.cli", *arguments],
            cwd=tmp_path / "work",
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(tmp_path / "home"),
                "XDG_STATE_HOME": str(tmp_path / "home/.local/state"),
                "XDG_RUNTIME_DIR": str(tmp_path / "run"),
                "LANG": "C.UTF-8",
            },
            text=True,
            capture_output=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert nemoclaw(*shlex.split(shown[1])) == f"{shown[2]}\n"
    try:
        listed = nemoclaw("ps")
    finally:
        nemoclaw("stop", "--grace", "0", shown[2])
    assert [cells(line) for line in shown[3].splitlines()] == [
        cells(line) for line in listed.splitlines()
    ]
