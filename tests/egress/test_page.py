"""docs/network.md against the code."""

from __future__ import annotations

import re
from pathlib import Path

from nemoclaw_core.credentials import broker
from nemoclaw_core.egress.reasons import REASONS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "network.md"


def test_every_code_of_a_denial_is_written_down_with_its_meaning() -> None:
    table = PAGE.read_text().partition("| code | meaning |\n")[2].partition("\n\n")[0]
    rows = re.findall(r"(?m)^\| `([a-z-]+)` \| (.+) \|$", table)
    assert {code: text.replace("`", "") for code, text in rows} == {
        **REASONS,
        **broker.REASONS,
    }
