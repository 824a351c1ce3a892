"""Requests out of a sandbox, through its rules for the network; the clients run inside."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import attrs

from bench import processes
from bench.arena import BENCH, Arena
from bench.egress_ways import MITMPROXY, WAYS, Way, setting
from bench.field import Field
from bench.measure import Series, rounds, settle
from bench.report import Budget, Column, Result, Row

RUNS = 3
CONNECTIONS = 16
SECONDS = 2.0
_WARM_UP = 0.5
_PATIENCE = 30.0
"""Seconds for one sandbox."""

_KINDS = ("proxy", "one", "tunnel", "connect", "close", "bulk", "tls")
_TITLES = {
    "proxy": "inspected keep-alive x16",
    "one": "the same x1",
    "tunnel": "in a tunnel x16",
    "connect": "new CONNECT x16",
    "close": "new connection x16",
    "tls": "inspected TLS x16",
}
_COLUMNS = (
    *(Column(key=kind, title=f"{title} /s", digits=0) for kind, title in _TITLES.items()),
    Column(key="bulk", title="bulk x2 MB/s", digits=0),
    Column(key="p50", title="keep-alive x1 p50 us", digits=0),
    Column(key="p99", title="p99 us", digits=0),
    Column(key="cpu", title="CPU us a request"),
    Column(key="cpu_connect", title="CPU us a CONNECT"),
    Column(key="pss", title="PSS MB, 16 conns", digits=1),
    Column(key="pss_many", title="1,000 conns", digits=1),
)


@attrs.frozen(slots=True, kw_only=True)
class Sample:
    """One load."""

    rate: float
    megabytes: float
    p50: float
    p99: float
    cpu: float
    """Microseconds that the sandbox's processes ran for a response, without the clients."""
    pss: float
    """MB of the same processes."""


def measure(field: Field, arena: Arena, runs: int) -> Result:
    """Each kind of load ``runs`` times in each sandbox, alternating."""
    compiler = shutil.which("cc")
    if compiler is None:
        absent = [Row(name="all", absent="there is no C compiler (apt install gcc)")]
        return Result(name="egress", title="requests out of a sandbox", columns=(), rows=absent)
    program = os.path.join(arena.work, "traffic")
    source = os.path.join(BENCH, "traffic", "traffic.c")
    subprocess.run([compiler, "-O2", "-o", program, source], check=True)
    shutil.copy(os.path.join(BENCH, "traffic", "load_tls.py"), arena.work)
    here = {entrant.name: entrant.version for entrant in field.entrants}
    if os.access(MITMPROXY, os.X_OK):
        here["mitmproxy"] = ""
    absent = list(field.missing(lambda rival: any(way.rival == rival.name for way in WAYS)))
    samples: dict[str, dict[str, list[Sample]]] = {}
    failures: dict[tuple[str, str], str] = {}
    with setting(arena, program) as where:
        ways = {way.name: way for way in WAYS if way.rival in here}
        for kind in (*_KINDS, "many"):
            taking_part = [name for name, way in ways.items() if kind in way.kinds]
            for order in rounds(taking_part, 1 if kind == "many" else runs):
                for name in order:
                    if (name, kind) in failures:
                        continue
                    settle(0.5)
                    found = _once(ways[name], kind, arena, where)
                    if isinstance(found, str):
                        failures[name, kind] = found
                    else:
                        samples.setdefault(name, {}).setdefault(kind, []).append(found)
        versions = {name: here[way.rival] for name, way in ways.items()}
    notes = [f"{name}, {kind}: {what}" for (name, kind), what in failures.items()]
    rows = [_row(name, versions[name], found) for name, found in samples.items()]
    rows += [
        Row(name=name, version=versions[name], absent=notes[0])
        for name in ways
        if name not in samples
    ]
    return Result(
        name="egress",
        title="requests out of a sandbox, clients inside, rules in force",
        columns=_COLUMNS,
        rows=(*rows, *absent),
        budgets=_budgets(samples),
        notes=notes,
    )


def _once(way: Way, kind: str, arena: Arena, where: dict[str, str]) -> Sample | str:
    """One sandbox: a load to warm up, then the one that counts; or what went wrong."""
    connections = {"one": 1, "bulk": 2, "many": 1000}.get(kind, CONNECTIONS)
    load = way.load("proxy" if kind == "one" else "idle" if kind == "many" else kind)
    loads = [load.format(n=connections, s=seconds, **where) for seconds in (_WARM_UP, SECONDS)]
    script = f"{' && '.join(loads)} && read x"
    command = way.command(arena, ("/bin/sh", "-c", script), where)
    errors = os.path.join(arena.base, "errors")
    with open(errors, "w") as file, _started(command.argv, command.environment, file) as process:
        assert process.stdout is not None
        watch = threading.Timer(_PATIENCE, process.kill)
        watch.start()
        first = process.stdout.readline().split()
        before = _cpu(process.pid)
        if kind == "many":
            time.sleep(SECONDS / 2)
        second = process.stdout.readline().split()
        pss = _pss(process.pid)
        after = _cpu(process.pid)
        watch.cancel()
    if len(first) != 6 or len(second) != 6:
        with open(errors, errors="replace") as read:
            words = read.read().strip().splitlines()
        return (words[-1] if words else "it ended early")[:160]
    count, octets, failed = map(int, second[:3])
    seconds, p50, p99 = map(float, second[3:])
    if failed > count // 100 or (not count and not octets):
        return f"{failed} of {count} requests failed"
    return Sample(
        rate=count / seconds,
        megabytes=octets / seconds / 1e6,
        p50=p50,
        p99=p99,
        cpu=(after - before) * 1e6 / count if count else 0.0,
        pss=pss,
    )


@contextmanager
def _started(
    argv: tuple[str, ...], environment: dict[str, str], errors: IO[str]
) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        argv,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
    )
    try:
        yield process
        assert process.stdin is not None
        process.stdin.close()
        process.wait(10)
    except subprocess.TimeoutExpired:
        pass
    finally:
        processes.kill_all(processes.descendants(process.pid) | {process.pid})
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _servants(root: int) -> set[int]:
    """The sandbox's processes, without the clients inside."""
    clients = (b"traffic", b"load_tls.py")
    found = processes.descendants(root) | {root}
    return {
        pid
        for pid in found
        if not any(
            word.endswith(client) for client in clients for word in processes.command_line(pid)[:2]
        )
    }


def _cpu(root: int) -> float:
    """Seconds that they ran."""
    ticks = 0
    for pid in _servants(root):
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                ticks += sum(map(int, file.read().rpartition(b")")[2].split()[11:13]))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return ticks / os.sysconf("SC_CLK_TCK")


def _pss(root: int) -> float:
    total = 0
    for pid in _servants(root):
        try:
            with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
                total += sum(int(line.split()[1]) for line in file if line.startswith(b"Pss:"))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return total / 1000


def _row(name: str, version: str, found: dict[str, list[Sample]]) -> Row:
    values: dict[str, float | int | str | None] = {}
    for kind, each in found.items():
        values[kind] = Series(
            tuple(sample.megabytes if kind == "bulk" else sample.rate for sample in each)
        ).median
    for key, kind, what in (
        ("p50", "one", "p50"),
        ("p99", "one", "p99"),
        ("cpu", "proxy", "cpu"),
        ("cpu_connect", "connect", "cpu"),
        ("pss", "proxy", "pss"),
        ("pss_many", "many", "pss"),
    ):
        if kind in found:
            values[key] = Series(tuple(getattr(each, what) for each in found[kind])).median
    samples = {kind: [sample.rate for sample in each] for kind, each in found.items()}
    return Row(name=name, version=version, values=values, samples=samples)


def _budgets(samples: dict[str, dict[str, list[Sample]]]) -> list[Budget]:
    """Rates are given as microseconds a request, so that less is better in all of them."""
    ours = _row("", "", samples.get("nemoclaw", {})).values
    found = []
    for key, least in (("proxy", 25_000), ("connect", 6_000), ("tunnel", 45_000)):
        if ours.get(key):
            what = f"us a request, {_TITLES[key]}"
            found.append(Budget(what=what, limit=1e6 / least, measured=1e6 / float(ours[key] or 1)))
    for key, limit in (("pss", 35.0), ("pss_many", 60.0)):
        if key in ours:
            found.append(Budget(what=f"MB, {key}", limit=limit, measured=float(ours[key] or 0)))
    bare = _row("", "", samples.get("bare", {})).values
    for key, limit in (("p50", 300.0), ("p99", 2000.0)):
        if key in ours and key in bare:
            added = float(ours[key] or 0) - float(bare[key] or 0)
            found.append(
                Budget(what=f"us added, {key}, one connection", limit=limit, measured=added)
            )
    rival = _row("", "", samples.get("mitmproxy", {})).values
    if ours.get("tls") and rival.get("tls"):
        what = "of mitmproxy's time for an inspected TLS request"
        ratio = float(rival["tls"] or 0) / float(ours["tls"] or 1)
        found.append(Budget(what=what, limit=0.2, measured=ratio))
    return found
