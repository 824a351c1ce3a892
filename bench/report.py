"""Results, and how they are shown: Markdown for people, JSON for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

Value = float | int | str | None


@attrs.frozen(slots=True, kw_only=True)
class Column:
    """One column of a table."""

    key: str
    title: str
    digits: int = 2


@attrs.frozen(slots=True, kw_only=True)
class Row:
    """One rival's line: its values, or why there are none."""

    name: str
    version: str = ""
    values: Mapping[str, Value] = attrs.field(factory=dict)
    samples: Mapping[str, Sequence[float]] = attrs.field(factory=dict)
    """Every single measurement, for the JSON."""
    absent: str = ""
    """Why nothing was measured: not installed, and how to install; or how it failed."""


@attrs.frozen(slots=True, kw_only=True)
class Budget:
    """What nemoclaw has promised, and what was measured."""

    what: str
    limit: float
    measured: float

    @property
    def met(self) -> bool:
        """True when the promise is kept."""
        return self.measured <= self.limit


@attrs.frozen(slots=True, kw_only=True)
class Result:
    """One benchmark's outcome."""

    name: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    budgets: Sequence[Budget] = ()
    notes: Sequence[str] = ()


def markdown(result: Result) -> str:
    """A section with a table, the budgets and the notes."""
    lines = [f"## {result.name}: {result.title}", ""]
    lines.append("| " + " | ".join(["", *(column.title for column in result.columns)]) + " |")
    lines.append("|---|" + "--:|" * len(result.columns))
    for row in result.rows:
        name = f"{row.name} {row.version}".strip()
        if row.absent:
            cells = [row.absent] + [""] * (len(result.columns) - 1)
        else:
            cells = [_cell(row.values.get(column.key), column) for column in result.columns]
        lines.append("| " + " | ".join([name, *cells]) + " |")
    lines.append("")
    for budget in result.budgets:
        verdict = "met" if budget.met else "MISSED"
        lines.append(
            f"- {verdict}: {budget.what}: {budget.measured:.2f}, budget {budget.limit:.2f}"
        )
    lines += [f"- {note}" for note in result.notes]
    return "\n".join(lines).rstrip() + "\n"


def machine_table(facts: Mapping[str, str]) -> str:
    """The machine, as a table."""
    lines = [
        "| machine | |",
        "|---|---|",
        *(f"| {key} | {value} |" for key, value in facts.items()),
    ]
    return "\n".join(lines) + "\n"


def document(facts: Mapping[str, str], results: Sequence[Result]) -> dict[str, Any]:
    """Everything, samples included, as one JSON document."""
    return {
        "version": 1,
        "machine": dict(facts),
        "benchmarks": [
            {
                **attrs.asdict(result, filter=lambda field, _: field.name != "budgets"),
                "budgets": [
                    {**attrs.asdict(budget), "met": budget.met} for budget in result.budgets
                ],
            }
            for result in results
        ],
    }


def _cell(value: Value, column: Column) -> str:
    if value is None:
        return "n/a"
    if isinstance(value, float):
        return f"{value:.{column.digits}f}"
    return str(value)
