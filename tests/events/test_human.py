"""A record as a line for a person."""

from __future__ import annotations

import io
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemoclaw_core.events import human, ocsf
from nemoclaw_core.events.record import Context

if TYPE_CHECKING:
    from .conftest import Shelf

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
KEYS = ("time", "severity_id", "message", "metadata", "unmapped", "remediation")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "localtime", time.gmtime)


def test_a_line_says_when_how_bad_and_what(shelf: Shelf) -> None:
    record = shelf.launch("/bin/ls") | {"time": 1_700_000_000_123}
    assert human.one_line(record) == (
        "2023-11-14 22:13:20.123  info      starting /bin/ls (0 arguments) under "
        "policies.toml:default"
    )


def test_a_remedy_is_said() -> None:
    gap = ocsf.gap_left(
        Context("box"), plugin="netns", what="TCP", consequence="open", remedy="upgrade the kernel"
    )
    assert human.one_line(gap).endswith("(remedy: upgrade the kernel)")


def test_colour_marks_what_needs_attention() -> None:
    context = Context("box")
    gap = ocsf.gap_left(context, plugin="p", what="w", consequence="c", remedy="")
    assert "\x1b[31mhigh    \x1b[0m" in human.one_line(gap, colour=True)
    assert "\x1b" not in human.one_line(gap)
    assert "\x1b" not in human.one_line(ocsf.nemoclaw_stopped(context), colour=True)


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({"TERM": "xterm"}, True),
        ({"TERM": "xterm", "NO_COLOR": ""}, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
        ({}, False),
    ],
)
def test_colour_is_for_terminals_that_want_it(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], wanted: bool
) -> None:
    for name in ("TERM", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert human.wants_colour(Terminal()) is wanted
    assert not human.wants_colour(io.StringIO())


@given(st.dictionaries(st.sampled_from(KEYS), JSON))
def test_whatever_stands_in_the_log_is_one_harmless_line(record: dict[str, Any]) -> None:
    assert human.one_line(record).isprintable()


@given(JSON)
def test_what_is_no_record_is_one_harmless_line(value: object) -> None:
    assert human.one_line(value).isprintable()


def test_an_agent_cannot_steer_the_terminal(shelf: Shelf) -> None:
    record = json.loads(json.dumps(shelf.launch("/tmp/\x1b]0;owned\x07\u202e")))
    assert "\\x1b]0;owned\\x07\\u202e" in human.one_line(record)
