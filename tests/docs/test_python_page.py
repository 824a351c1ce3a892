"""docs/python.md: every example runs, and prints what is shown below it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .conftest import Page


def test_examples_print_what_is_shown(pages: Mapping[str, Page], tmp_path: Path) -> None:
    page = pages["docs/python.md"]
    examples = re.findall(r"(?ms)^```python\n(.*?)^```\n\n```text\n(.*?)^```$", page.text)
    assert len(examples) == len(page.blocks("python")) >= 3, "an example without its output"
    work, home = tmp_path / "work", tmp_path / "home"
    work.mkdir()
    home.mkdir()
    for code, shown in examples:
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=work,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(home),
                "LANG": "C.UTF-8",
                "XDG_STATE_HOME": f"{home}/.local/state",
            },
            text=True,
            capture_output=True,
            timeout=60,
        )
        assert (done.returncode, done.stdout) == (0, shown), f"{code}\n{done.stderr}"
    assert (work / "file").read_text() == "made\n"
