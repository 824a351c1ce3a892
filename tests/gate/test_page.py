"""ATTACKS.md says what there is."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from .battery.listing import ATTACKS, page
from .battery.registry import CLASSES

HERE = Path(__file__).parent


def test_the_page_lists_every_attack() -> None:
    assert (HERE / "ATTACKS.md").read_text() == page()


def test_there_are_attacks_of_every_class() -> None:
    counted = Counter(name.partition("-")[0] for name in ATTACKS)
    assert set(counted) == set(CLASSES)
    assert min(counted.values()) >= 5
