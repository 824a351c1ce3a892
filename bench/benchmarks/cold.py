"""A whole command from the shell's point of view: start the launcher, run /bin/true, all gone."""

from __future__ import annotations

import os

from bench.arena import Arena
from bench.field import Entrant, Field, is_ours
from bench.measure import Series, rounds, settle, time_process
from bench.report import Budget, Column, Result, Row
from bench.rivals import INTERPRETER
from bench.rivals.nemoclaw import NEMOCLAW_FIRST, NEMOCLAW_SCRIPT

RUNS = 25
_WARM_UPS = 3
_AHEAD_OF_US = ("bare", "bwrap", "nsjail", INTERPRETER.name)
"""Written in C and doing less: the budget is to beat everybody else."""

_COLUMNS = (
    Column(key="median", title="median ms"),
    Column(key="p95", title="p95 ms"),
    Column(key="min", title="min ms"),
    Column(key="cpu", title="CPU ms"),
    Column(key="ratio", title="x python -I -S"),
)


def measure(field: Field, arena: Arena, runs: int) -> Result:
    """Each launcher ``runs`` times, alternating."""
    absent = list(field.missing(lambda _: True))
    entrants = [*field.entrants, Entrant(rival=INTERPRETER, version="")]
    for entrant in field.entrants:
        if is_ours(entrant.name):
            entrants.append(Entrant(rival=NEMOCLAW_SCRIPT, version=entrant.version))
            entrants.append(Entrant(rival=NEMOCLAW_FIRST, version=entrant.version))
    wall: dict[str, list[float]] = {}
    cpu: dict[str, list[float]] = {}
    taking_part: dict[str, Entrant] = {}
    for entrant in entrants:
        failure = _warm_up(entrant, arena)
        if failure:
            absent.append(Row(name=entrant.name, version=entrant.version, absent=failure))
        else:
            taking_part[entrant.name] = entrant
    settle()
    for order in rounds(list(taking_part), runs):
        for name in order:
            command = taking_part[name].rival.command(arena, ["/bin/true"])
            timing = time_process(command.argv, command.environment)
            wall.setdefault(name, []).append(timing.wall)
            cpu.setdefault(name, []).append(timing.cpu)
            settle(0.3)
    return _result(taking_part, wall, cpu, absent)


def _warm_up(entrant: Entrant, arena: Arena) -> str:
    errors = os.path.join(arena.base, "errors")
    for _ in range(_WARM_UPS):
        command = entrant.rival.command(arena, ["/bin/true"])
        status = time_process(command.argv, command.environment, errors).status
        if status != 0:
            with open(errors, errors="replace") as file:
                words = file.read().strip().splitlines()
            return f"failed ({status}): {words[-1] if words else ''}"[:120]
    return ""


def _result(
    taking_part: dict[str, Entrant],
    wall: dict[str, list[float]],
    cpu: dict[str, list[float]],
    absent: list[Row],
) -> Result:
    series = {name: Series(tuple(values)) for name, values in wall.items()}
    floor = series[INTERPRETER.name].median
    rows = [
        Row(
            name=name,
            version=taking_part[name].version,
            values={
                "median": found.median,
                "p95": found.p95,
                "min": found.minimum,
                "cpu": Series(tuple(cpu[name])).median,
                "ratio": found.median / floor,
            },
            samples={"ms": found.samples, "cpu_ms": cpu[name]},
        )
        for name, found in sorted(series.items(), key=lambda item: item[1].median)
    ]
    budgets = []
    if "nemoclaw" in series:
        ours = series["nemoclaw"].median
        budgets.append(Budget(what="ms, cold process, cached plan", limit=30.0, measured=ours))
        budgets.append(Budget(what="times python -I -S -c pass", limit=4.0, measured=ours / floor))
        budgets += [
            Budget(what=f"ms, against {name}", limit=found.median, measured=ours)
            for name, found in series.items()
            if not is_ours(name) and name not in _AHEAD_OF_US
        ]
    return Result(
        name="cold",
        title="LAUNCHER -- /bin/true as a cold process",
        columns=_COLUMNS,
        rows=(*rows, *absent),
        budgets=budgets,
    )
