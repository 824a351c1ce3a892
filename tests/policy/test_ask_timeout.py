"""``network.ask_timeout``: how long an operator has to answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nemoclaw_core.policy import diff, explain

if TYPE_CHECKING:
    from .conftest import Ground

HEAD = "version = 1\n[policy.default.network]\nmode = 'proxy'\nunknown = 'ask'\n"


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("", 120.0), ("ask_timeout = '90s'", 90.0), ("ask_timeout = '1d'", 86400.0),
     ("ask_timeout = '250ms'", 0.25)],
)  # fmt: skip
def test_it_is_a_duration(ground: Ground, written: str, seconds: float) -> None:
    assert ground.load(HEAD + written).network.ask_timeout == seconds


@pytest.mark.parametrize("value", ["'0s'", "'25h'", "90", "'soon'", "true"])
def test_it_is_a_time_that_a_person_can_answer_in(ground: Ground, value: str) -> None:
    told = ground.refused(f"{HEAD}ask_timeout = {value}")
    assert "policies.toml:5 policy.default.network.ask_timeout" in told


def test_another_time_permits_neither_more_nor_less(ground: Ground) -> None:
    first, second = ground.load(HEAD), ground.load(f"{HEAD}ask_timeout = '1m'")
    (found,) = diff.compare(first, second)
    assert (found.direction, found.what) == ("other", "ask_timeout: 2m -> 1m")


def test_it_is_explained_where_it_matters(ground: Ground) -> None:
    shown = {each.key: each.shown for each in explain.values(ground.load(HEAD))}
    assert shown["ask_timeout"] == "2m"
    denying = ground.load(HEAD.replace("'ask'", "'deny'"))
    assert "ask_timeout" not in {each.key for each in explain.values(denying)}
