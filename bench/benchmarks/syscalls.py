"""What a system call costs inside, against outside: a compiled loop, or Python's without gcc."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence

from bench.arena import Arena
from bench.field import Entrant, Field, is_ours
from bench.measure import rounds, settle, time_process
from bench.report import Budget, Column, Result, Row
from bench.rivals import Command, Rival

RUNS = 5
_CALLS = ("getpid", "pread", "open+close", "open+close-deep", "stat", "fork+wait")
_PROMISED = ("getpid", "pread", "open+close", "stat", "fork+wait")
_LIMIT = 1.25

_COLUMNS = (
    *(Column(key=call, title=f"{call} ns", digits=0) for call in _CALLS),
    Column(key="worst", title="worst ratio"),
)

_IN_PYTHON = """\
import os, sys, time
directory, result = sys.argv[1:3]
data, deep = directory + "/data", directory + "/a/b/c/d/e/f/g/h/data"
handle = os.open(data, os.O_RDONLY)
def fork():
    child = os.fork()
    if child == 0: os._exit(0)
    os.waitpid(child, 0)
def best(call, count):
    least = float("inf")
    for _ in range(7):
        start = time.perf_counter_ns()
        for _ in range(count): call()
        least = min(least, (time.perf_counter_ns() - start) / count)
    return least
loops = [("getpid", os.getpid, 50000), ("pread", lambda: os.pread(handle, 512, 0), 50000),
    ("open+close", lambda: os.close(os.open(data, 0)), 10000),
    ("open+close-deep", lambda: os.close(os.open(deep, 0)), 10000),
    ("stat", lambda: os.stat(data), 20000), ("fork+wait", fork, 100)]
with open(result, "w") as out:
    for name, call, count in loops: out.write(f"{name} {best(call, count):.1f}\\n")
"""


def measure(field: Field, arena: Arena, runs: int) -> Result:
    """The loop ``runs`` times behind each rival's walls, alternating; the best of each call."""
    inside, how, compiled = _program(arena)
    _make_files(arena)
    best: dict[str, dict[str, float]] = {}
    absent = list(field.missing(lambda _: True))
    entrants = [*field.entrants]
    if compiled:
        entrants[1:1] = [Entrant(rival=floor, version="") for floor in _FLOORS]
    taking_part = {entrant.name: entrant for entrant in entrants}
    for order in rounds(list(taking_part), runs):
        for name in order:
            if name not in taking_part:
                continue
            settle(2.0)
            found = _once(taking_part[name], arena, inside)
            if isinstance(found, str):
                version = taking_part.pop(name).version
                best.pop(name, None)
                absent.append(Row(name=name, version=version, absent=found))
                continue
            kept = best.setdefault(name, found)
            for call, spent in found.items():
                kept[call] = min(kept[call], spent)
    return _result(taking_part, best, absent, how)


def _filtered(arena: Arena, argv: Sequence[str]) -> Command:
    return Command(argv=(*argv, "filter"), environment=arena.environment())


def _restricted(arena: Arena, argv: Sequence[str]) -> Command:
    return Command(argv=(*argv, "landlock"), environment=arena.environment())


_FILTERED = Rival(name="bare, smallest seccomp filter", version=str, command=_filtered)
_RESTRICTED = Rival(
    name="bare, that and the smallest Landlock ruleset", version=str, command=_restricted
)
_FLOORS = (_FILTERED, _RESTRICTED)


def _program(arena: Arena) -> tuple[list[str], str, bool]:
    """Compile the loop into the arena; without a compiler, use the system's Python."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    program = os.path.join(arena.work, "syscalls")
    if compiler is not None:
        source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "syscalls.c")
        subprocess.run([compiler, "-O2", "-o", program, source], check=True)
        return [program], "A compiled loop; the best of all repetitions.", True
    with open(program, "w") as file:
        file.write(_IN_PYTHON)
    return (
        ["/usr/bin/python3", "-I", program],
        "No C compiler here: a Python loop, whose own time hides part of every difference.",
        False,
    )


def _make_files(arena: Arena) -> None:
    deep = os.path.join(arena.work, *"abcdefgh")
    os.makedirs(deep, exist_ok=True)
    for directory in (arena.work, deep):
        with open(os.path.join(directory, "data"), "wb") as file:
            file.write(b"x" * 4096)


def _once(entrant: Entrant, arena: Arena, inside: list[str]) -> dict[str, float] | str:
    """Nanoseconds by call, or why it failed."""
    result = os.path.join(arena.work, "nanoseconds")
    errors = os.path.join(arena.base, "errors")
    if os.path.exists(result):
        os.unlink(result)
    command = entrant.rival.command(arena, [*inside, arena.work, result])
    status = time_process(command.argv, command.environment, errors).status
    if status != 0 or not os.path.exists(result):
        with open(errors, errors="replace") as file:
            words = file.read().strip().splitlines()
        return f"failed ({status}): {words[-1] if words else ''}"[:120]
    with open(result) as file:
        return {name: float(value) for name, value in (line.split() for line in file)}


def _result(
    taking_part: dict[str, Entrant],
    best: dict[str, dict[str, float]],
    absent: list[Row],
    how: str,
) -> Result:
    bare = best["bare"]
    rows = [
        Row(
            name=name,
            version=entrant.version,
            values={
                **best[name],
                "worst": max(best[name][call] / bare[call] for call in _CALLS),
            },
        )
        for name, entrant in taking_part.items()
    ]
    notes = [how, "open+close-deep has no budget: Landlock walks from the file up to the root."]
    for floor in _FLOORS:
        if floor.name in best:
            ratios = (f"{call} {best[floor.name][call] / bare[call]:.2f} x" for call in _PROMISED)
            notes.append(f"Floor, {floor.name}: {', '.join(ratios)}.")
    budgets = [
        Budget(what=f"{call}, times bare", limit=_LIMIT, measured=found[call] / bare[call])
        for name, found in best.items()
        if is_ours(name)
        for call in _PROMISED
    ]
    return Result(
        name="syscalls",
        title="system calls inside, nanoseconds each",
        columns=_COLUMNS,
        rows=(*rows, *absent),
        budgets=budgets,
        notes=notes,
    )
