"""Spawn and wait of /bin/true from Python, in one process that has its sandbox API imported."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack

from bench.arena import Arena
from bench.field import Entrant, Field, is_ours
from bench.measure import Series, rounds
from bench.report import Budget, Column, Result, Row
from bench.rivals import Rival
from bench.worker import Worker, WorkerFailed

RUNS = 200
_BATCH = 10
_BARE = "bare: fork + exec"
_PROMISED = ("nemoclaw: run", "nemoclaw: run, spare=2")
_LIMIT = 3.2 / 1.1
"""The budget is 3.2 ms on a machine where a bare fork and exec takes 1.1 ms."""

_COLUMNS = (
    Column(key="median", title="median ms"),
    Column(key="p95", title="p95 ms"),
    Column(key="min", title="min ms"),
    Column(key="ratio", title="x fork + exec"),
)


def _has_api(rival: Rival) -> bool:
    return rival.worker is not None


def measure(field: Field, arena: Arena, runs: int) -> Result:
    """Each call of each API ``runs`` times, in batches that alternate."""
    absent = list(field.missing(_has_api))
    calls: dict[str, tuple[Worker, Entrant, str]] = {}
    samples: dict[str, list[float]] = {}
    with ExitStack() as stack:
        for entrant in field.subset(_has_api):
            try:
                worker = stack.enter_context(_open(entrant, arena))
            except WorkerFailed as failure:
                absent.append(Row(name=entrant.name, version=entrant.version, absent=str(failure)))
                continue
            for way in entrant.rival.ways:
                calls[f"{entrant.name}: {way}"] = (worker, entrant, way)
        for name in list(calls):
            worker, entrant, way = calls[name]
            try:
                worker.run(way, ["/bin/true"], _BATCH)
            except WorkerFailed as failure:
                absent.append(Row(name=name, version=entrant.version, absent=str(failure)))
                del calls[name]
        for order in rounds(list(calls), max(1, runs // _BATCH)):
            for name in order:
                worker, _, way = calls[name]
                samples.setdefault(name, []).extend(worker.run(way, ["/bin/true"], _BATCH))
                # The kernel still removes this batch's namespaces; the next must not pay for it.
                time.sleep(0.1)
    return _result(calls, samples, absent)


def _open(entrant: Entrant, arena: Arena) -> Worker:
    assert entrant.rival.worker is not None
    return Worker(entrant.rival.worker(arena), os.path.join(arena.base, f"{entrant.name}.errors"))


def _result(
    calls: dict[str, tuple[Worker, Entrant, str]],
    samples: dict[str, list[float]],
    absent: list[Row],
) -> Result:
    series = {name: Series(tuple(values)) for name, values in samples.items()}
    bare = series[_BARE].median
    rows = [
        Row(
            name=name,
            version=calls[name][1].version,
            values={
                "median": found.median,
                "p95": found.p95,
                "min": found.minimum,
                "ratio": found.median / bare,
            },
            samples={"ms": found.samples},
        )
        for name, found in sorted(series.items(), key=lambda item: item[1].median)
    ]
    budgets = []
    for name in [name for name in _PROMISED if name in series]:
        ours = series[name].median
        budgets.append(
            Budget(what=f"{name}, times a bare fork + exec", limit=_LIMIT, measured=ours / bare)
        )
        budgets += [
            Budget(what=f"{name}, ms, against {other}", limit=found.median, measured=ours)
            for other, found in series.items()
            if not is_ours(other) and not other.startswith("bare")
        ]
    return Result(
        name="spawn",
        title="spawn and wait of /bin/true from Python, in process",
        columns=_COLUMNS,
        rows=(*rows, *absent),
        budgets=budgets,
    )
