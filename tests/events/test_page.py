"""docs/events.md against the code: events, files, numbers, commands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nemoclaw_core.events import bus, chain, cursor, folder, record, text
from nemoclaw_core.events import log as log_module

from .test_ocsf import EVENTS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "events.md").read_text()


def rows(header: str) -> list[list[str]]:
    """Cells of the table whose first column is called ``header``."""
    table = PAGE.split(f"| {header} |", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def test_the_table_of_events_is_what_is_written() -> None:
    written: dict[str, tuple[str, str, set[str]]] = {}
    for make in EVENTS.values():
        made = make("x")
        kind = f"{made['class_uid']} {made['class_name']}"
        code = f"`{made['metadata']['event_code']}`"
        written.setdefault(code, (kind, made["activity_name"], set()))[2].add(
            str(made["severity_id"])
        )
    told = {row[0]: (row[1], row[2], set(row[3].split(", "))) for row in rows("event code")}
    assert told == written


def test_the_files_are_called_so() -> None:
    names = [row[0].strip("`") for row in rows("file")]
    assert names == [folder.LOG, folder.HEAD, folder.OUTPUT, f"{cursor.PREFIX}PLUGIN"]


@pytest.mark.parametrize(
    ("sentence", "value"),
    [
        (r"cut at ([\d,]+) bytes", text.LIMIT),
        (r"never exceeds (\d+) KiB", chain.MAX_LINE // 1024),
        (r"(\d+) KiB\s+are reserved", log_module._RESERVE // 1024),
        (r"more than (\d+) seconds", int(bus._ANSWER)),
    ],
)
def test_numbers_are_those_of_the_code(sentence: str, value: int) -> None:
    found = re.search(sentence, PAGE)
    assert found is not None
    assert int(found[1].replace(",", "")) == value


def test_the_schema_s_version_is_said() -> None:
    assert f"https://schema.ocsf.io/{record.SCHEMA}/" in PAGE
    for profile in record.PROFILES:
        assert f"`{profile}`" in PAGE
