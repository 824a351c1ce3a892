"""ATTEMPTS.md says what there is."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent
RUNNER = ["/usr/bin/python3", str(HERE / "attempts.py")]


def _said(option: str) -> str:
    return subprocess.run([*RUNNER, option], check=True, capture_output=True, text=True).stdout


def test_the_page_lists_every_attempt() -> None:
    assert (HERE / "ATTEMPTS.md").read_text() == _said("--table")


def test_there_are_attempts_of_every_class() -> None:
    counted = Counter(attempt["name"].partition("-")[0] for attempt in json.loads(_said("--list")))
    assert set(counted) == {"files", "processes", "kernel", "network", "control"}
    assert min(counted.values()) >= 15
    assert sum(counted.values()) >= 75
