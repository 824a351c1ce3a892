"""How a sandbox dies: by SIGTERM or SIGKILL of its launcher, or because its command ended.

Inside runs a shell that has left two children in the background. "Gone" is when no process that
came with the launcher is alive, wherever it was reparented to. Traces are what is there then and
was not before: mounts, control groups, anything in the work directory, files and sockets in the
directories for temporary and run-time files.
"""

from __future__ import annotations

import os
import signal
import sys
import time

import attrs

from bench import processes
from bench.arena import Arena
from bench.field import Entrant, Field, is_ours
from bench.measure import Series
from bench.report import Budget, Column, Result, Row, Value
from bench.rivals.nemoclaw import NEMOCLAW_SCRIPT

RUNS = 5
_PATIENCE = 2.0
"""Seconds after which what still lives is an orphan."""
_START = 30.0
"""Seconds that a launcher may take until the command runs inside."""
_LIMIT = 50.0
_MARK = b"86399"

_STAYS = "sleep 86399 & sleep 86399 & sleep 86399"
_ENDS = "sleep 86399 & sleep 86399 & sleep 0.4"

_CASES = ("SIGTERM", "SIGKILL", "command ends")

_COLUMNS = tuple(
    column
    for case in _CASES
    for column in (
        Column(key=case, title=f"{case}: gone, ms", digits=1),
        Column(key=f"{case} left", title="alive"),
        Column(key=f"{case} traces", title="traces"),
    )
)


@attrs.frozen(slots=True)
class _Death:
    """One death."""

    wall: float
    """Milliseconds until nothing lived, or until we lost patience."""
    left: int
    """Processes that were alive then."""
    traces: tuple[str, ...]
    """What else was there then and not before."""


class DidNotStart(Exception):
    """The command inside did not come up."""


def measure(field: Field, arena: Arena, runs: int) -> Result:
    """Each rival dies ``runs`` times of each cause."""
    entrants = [entrant for entrant in field.entrants if entrant.name != "bare"]
    for entrant in field.entrants:
        if is_ours(entrant.name):
            entrants.append(Entrant(rival=NEMOCLAW_SCRIPT, version=entrant.version))
    rows = [_row(entrant, arena, runs) for entrant in entrants]
    return Result(
        name="teardown",
        title="nothing is left behind",
        columns=_COLUMNS,
        rows=(*rows, *field.missing(lambda rival: rival.name != "bare")),
        budgets=[
            Budget(what=f"{row.name}, {case}: {what}", limit=limit, measured=max(row.samples[key]))
            for row in rows
            if is_ours(row.name) and not row.absent
            for case in _CASES
            for what, key, limit in (
                ("ms until gone, worst", case, _LIMIT),
                ("processes left alive", f"{case} left", 0.0),
                ("traces left", f"{case} traces", 0.0),
            )
        ],
        notes=(
            f"Alive: processes {_PATIENCE:.0f} s later. Traces: mounts, control groups and files"
            " that stay longer. Times are medians; the rest, and budgets, are the worst.",
            "`command ends` counts from the end of the command inside: a launcher that waits for"
            " background children is shown with what still runs.",
        ),
    )


def _row(entrant: Entrant, arena: Arena, runs: int) -> Row:
    values: dict[str, Value] = {}
    samples: dict[str, list[float]] = {}
    found: set[str] = set()
    for case in _CASES:
        deaths: list[_Death] = []
        for _ in range(runs):
            try:
                deaths.append(_die(entrant, arena, case))
            except DidNotStart as failure:
                return Row(name=entrant.name, version=entrant.version, absent=str(failure))
            finally:
                processes.kill_all(processes.descendants(os.getpid()))
                processes.gone(set(), 10.0)
        samples[case] = [death.wall for death in deaths]
        samples[f"{case} left"] = [float(death.left) for death in deaths]
        samples[f"{case} traces"] = [float(len(death.traces)) for death in deaths]
        worst = max(death.left for death in deaths)
        values[case] = Series(tuple(samples[case])).median if worst == 0 else "never"
        values[f"{case} left"] = worst
        values[f"{case} traces"] = max(len(death.traces) for death in deaths)
        found.update(trace for death in deaths for trace in death.traces)
    for trace in sorted(found)[:20]:
        print(f"bench: {entrant.name} left {trace}", file=sys.stderr)
    return Row(name=entrant.name, version=entrant.version, values=values, samples=samples)


def _die(entrant: Entrant, arena: Arena, case: str) -> _Death:
    script = _ENDS if case == "command ends" else _STAYS
    command = entrant.rival.command(arena, ["/bin/sh", "-c", script])
    before = _traces(arena)
    null = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in (0, 1, 2)]
    launcher = os.posix_spawnp(
        command.argv[0], command.argv, command.environment, file_actions=null
    )
    sleepers = 2 if case == "command ends" else 3
    shell = _wait_until_up(sleepers)
    if case == "command ends":
        _wait_for_end(shell)
    start = time.perf_counter()
    if case != "command ends":
        os.kill(launcher, signal.Signals[case])
    left = processes.gone(set(), _PATIENCE)
    wall = (time.perf_counter() - start) * 1e3
    traces = _traces(arena) - before
    if traces:
        # Control groups and mounts are the whole machine's: what other work made goes again.
        time.sleep(_PATIENCE)
        traces &= _traces(arena)
    return _Death(wall=wall, left=len(left), traces=tuple(sorted(traces)))


def _traces(arena: Arena) -> set[str]:
    """Everything that a sandbox could forget, as it is now."""
    found = processes.mounts()
    for root, directories, _ in os.walk("/sys/fs/cgroup"):
        found.update(os.path.join(root, name) for name in directories)
    for root, directories, files in os.walk(arena.work):
        found.update(os.path.join(root, name) for name in (*directories, *files))
    for scratch in (arena.temporary, arena.runtime):
        for root, _, files in os.walk(scratch):
            found.update(os.path.join(root, name) for name in files)
    return found


def _wait_until_up(sleepers: int) -> int:
    """Wait until the background children run, and return the pid of the shell that left them."""
    end = time.monotonic() + _START
    while time.monotonic() < end:
        living = processes.descendants(os.getpid())
        found = [pid for pid in living if processes.command_line(pid) == (b"sleep", _MARK)]
        if len(found) >= sleepers:
            return processes.parent(found[0])
        if not living:
            break
        time.sleep(0.005)
    processes.reap()
    raise DidNotStart("the command inside did not start")


def _wait_for_end(shell: int) -> None:
    """Wait until the shell has ended (it waits for `sleep 0.4` only)."""
    while shell in processes.descendants(os.getpid()):
        time.sleep(0.0005)
