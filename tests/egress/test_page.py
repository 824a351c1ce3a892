"""docs/network.md against the code."""

from __future__ import annotations

import re
from pathlib import Path

from nemoclaw_core.egress.rules import REASONS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "network.md"


def test_every_code_of_a_denial_is_written_down_with_its_meaning() -> None:
    rows = re.findall(r"(?m)^\| `([a-z-]+)` \| (.+) \|$", PAGE.read_text())
    assert {code: text.replace("`", "") for code, text in rows} == REASONS
