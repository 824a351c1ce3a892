"""Hundreds of sandboxes at once: until all run, what they hold, until all are gone."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import attrs

from bench import processes
from bench.arena import Arena
from bench.field import Entrant, Field, is_ours
from bench.measure import settle
from bench.report import Budget, Column, Result, Row, Value
from bench.worker import Worker, WorkerFailed

RUNS = 500
_PATIENCE = 60.0
"""Seconds that a rival may take until all of its sandboxes run."""
_GONE = 10.0
"""Seconds after which what still lives after the end of its sandbox is called left behind."""
_MIB = 1 << 20

_COLUMNS = (
    Column(key="count", title="sandboxes"),
    Column(key="short", title="did not start"),
    Column(key="up", title="all run, s"),
    Column(key="processes", title="processes each", digits=1),
    Column(key="private", title="private MiB each"),
    Column(key="threads", title="supervisor threads, more"),
    Column(key="descriptors", title="supervisor descriptors, more each"),
    Column(key="gone", title="all gone, s"),
    Column(key="left", title="left behind"),
)


class NotAllUp(Exception):
    """Some sandboxes did not come up in time. The text says how many did."""


class _Supervisor(Protocol):
    """Whatever starts the sandboxes and can end them."""

    def start(self, argv: list[str], count: int) -> None: ...

    def stop(self) -> None: ...

    def given_up(self) -> int:
        """Sandboxes that ended before they were told to."""


class _Launchers:
    """We ourselves, with one launcher process a sandbox."""

    def __init__(self, entrant: Entrant, arena: Arena) -> None:
        self._entrant = entrant
        self._arena = arena
        self._pids: list[int] = []

    def start(self, argv: list[str], count: int) -> None:
        command = self._entrant.rival.command(self._arena, argv)
        null = [
            (os.POSIX_SPAWN_OPEN, descriptor, os.devnull, os.O_RDWR, 0) for descriptor in (0, 1, 2)
        ]
        for _ in range(count):
            self._pids.append(
                os.posix_spawnp(
                    command.argv[0], command.argv, command.environment, file_actions=null
                )
            )

    def stop(self) -> None:
        processes.reap()
        for pid in set(self._pids) & processes.descendants(os.getpid()):
            os.kill(pid, signal.SIGTERM)

    def given_up(self) -> int:
        processes.reap()
        return len(set(self._pids) - processes.descendants(os.getpid()))


class _Api:
    """One worker, with all sandboxes started from its Python API."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def start(self, argv: list[str], count: int) -> None:
        self._worker.start(argv, count)

    def stop(self) -> None:
        self._worker.stop()

    def given_up(self) -> int:
        return 0


@attrs.frozen(slots=True)
class _Held:
    """What the supervisor's own processes hold, without those of the sandboxes."""

    threads: int
    descriptors: int


def measure(field: Field, arena: Arena, runs: int) -> Result:
    """Each rival once, with ``runs`` sandboxes or as many as it stands."""
    rows: list[Row] = []
    for entrant in field.entrants:
        count = min(runs, entrant.rival.crowd)
        try:
            with _supervisor(entrant, arena) as supervisor:
                values = _once(supervisor, count, f"{86400 + len(rows)}")
        except (WorkerFailed, NotAllUp) as failure:
            rows.append(Row(name=entrant.name, version=entrant.version, absent=str(failure)))
        else:
            rows.append(Row(name=entrant.name, version=entrant.version, values=values))
        finally:
            processes.kill_all(processes.descendants(os.getpid()))
            processes.gone(set(), 10.0)
    return Result(
        name="many",
        title="sandboxes of `sleep` at the same time",
        columns=_COLUMNS,
        rows=(*rows, *field.missing(lambda _: True)),
        budgets=[budget for row in rows if is_ours(row.name) for budget in _budgets(row)],
        notes=(
            "Private memory is that of every process that came with the sandboxes, and what the"
            " supervisor grew by.",
            "Rivals without an API that starts and does not wait: one launcher process a sandbox,"
            " so the launchers are counted with the sandboxes and the supervisor holds nothing.",
        ),
    )


def _supervisor(entrant: Entrant, arena: Arena) -> AbstractContextManager[_Supervisor]:
    return _in_process(entrant, arena) if entrant.rival.starts else _outside(entrant, arena)


@contextmanager
def _in_process(entrant: Entrant, arena: Arena) -> Iterator[_Supervisor]:
    assert entrant.rival.worker is not None
    errors = os.path.join(arena.base, "errors")
    with Worker(entrant.rival.worker(arena), errors) as worker:
        # A first one, so that what is built once (a fork server, a plan) is not counted as each.
        worker.run(entrant.rival.ways[0], ["/bin/true"], 1)
        yield _Api(worker)


@contextmanager
def _outside(entrant: Entrant, arena: Arena) -> Iterator[_Supervisor]:
    yield _Launchers(entrant, arena)


def _once(supervisor: _Supervisor, count: int, mark: str) -> dict[str, Value]:
    us = os.getpid()
    settle()
    before = processes.descendants(us)
    memory_before = processes.total_private_memory(before)
    held_before = _held(before)
    argv = ["/bin/sleep", mark]
    start = time.perf_counter()
    supervisor.start(argv, count)
    running = _wait_until_up(supervisor, tuple(word.encode() for word in argv), count)
    up = time.perf_counter() - start
    now = processes.descendants(us)
    memory = processes.total_private_memory(now)
    held = _held(now & before)
    start = time.perf_counter()
    supervisor.stop()
    left = processes.gone(before, _GONE)
    gone = time.perf_counter() - start
    return {
        "count": running,
        "short": count - running,
        "up": up,
        "processes": len(now - before) / running,
        "private": None
        if memory is None or memory_before is None
        else (memory - memory_before) / running / _MIB,
        "threads": held.threads - held_before.threads,
        "descriptors": (held.descriptors - held_before.descriptors) / running,
        "gone": gone if not left else "never",
        "left": len(left),
    }


def _held(pids: set[int]) -> _Held:
    return _Held(
        threads=sum(map(processes.threads, pids)),
        descriptors=sum(map(processes.descriptors, pids)),
    )


def _wait_until_up(supervisor: _Supervisor, argv: tuple[bytes, ...], count: int) -> int:
    """Wait until ``count`` processes have exactly this command line, and return how many have.

    Launchers have it too, but at the end of a longer one. Less than ``count`` are returned when
    some launchers have given up and all others run.

    :raises NotAllUp: they did not within ``_PATIENCE``, or every launcher has given up.
    """
    running: set[int] = set()
    end = time.monotonic() + _PATIENCE
    while True:
        start = time.monotonic()
        for pid in processes.descendants(os.getpid()) - running:
            if processes.command_line(pid) == argv:
                running.add(pid)
        if len(running) >= count:
            return count
        given_up = supervisor.given_up()
        if given_up >= count:
            raise NotAllUp(f"{given_up} of {count} launchers gave up")
        if len(running) + given_up >= count:
            return len(running)
        if time.monotonic() > end:
            raise NotAllUp(f"only {len(running)} of {count} run after {_PATIENCE:.0f} s")
        # Looking must not take what the launchers need: a fifth of one core at most.
        time.sleep(max(0.02, 4 * (time.monotonic() - start)))


def _budgets(row: Row) -> Iterator[Budget]:
    promised = {
        "short": ("sandboxes that did not start", 0.0),
        "up": ("s until all run", 5.0),
        "threads": ("threads more, for all together", 0.0),
        "descriptors": ("descriptors each", 4.0),
        "private": ("MiB private each", 2.0),
        "gone": ("s until all are gone", 2.0),
        "left": ("processes left behind", 0.0),
    }
    for key, (what, limit) in promised.items():
        value = row.values.get(key)
        if isinstance(value, (int, float)):
            yield Budget(what=what, limit=limit, measured=float(value))
