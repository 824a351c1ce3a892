"""Run benchmarks: ``python bench/run.py spawn|cold|syscalls|many|teardown|all``."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys

if __name__ == "__main__":
    # Started as a script, Python's path has this folder; the package is its parent's.
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from bench import machine, processes, report
from bench.arena import Arena, arena
from bench.field import Field, ProbeFailed, assemble
from bench.rivals import FIELD

_HEAD = """\
# Benchmarks

Written by `python bench/run.py`; bench/README.md says how each figure is made.
"""

BENCHMARKS = ("spawn", "cold", "syscalls", "many", "teardown", "egress")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python bench/run.py",
        description="Measure nemoclaw against other sandboxes, all set to the same walls.",
    )
    parser.add_argument("benchmark", nargs="?", default="all", choices=(*BENCHMARKS, "all"))
    parser.add_argument(
        "--runs",
        type=int,
        metavar="N",
        help="measurements a rival (for many: sandboxes); default: as bench/README.md says",
    )
    parser.add_argument(
        "--only",
        metavar="NAME,...",
        default="",
        help=f"rivals that take part, of {', '.join(rival.name for rival in FIELD)}",
    )
    parser.add_argument("--json", metavar="FILE", help="write every sample to FILE")
    parser.add_argument("--markdown", metavar="FILE", help="write the tables to FILE as well")
    parser.add_argument(
        "--arena", metavar="DIR", help="work below DIR instead of the tmp directory"
    )
    parser.add_argument("--check", action="store_true", help="exit with 1 when a budget is missed")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Measure, print tables, and return the exit status."""
    parser = _parser()
    options = parser.parse_args(argv)
    names = BENCHMARKS if options.benchmark == "all" else (options.benchmark,)
    if options.runs is not None and options.runs < 1:
        parser.error("--runs is at least 1")
    only = tuple(name for name in options.only.split(",") if name)
    unknown = sorted(set(only) - {rival.name for rival in FIELD})
    if unknown:
        parser.error(f"no such rival: {', '.join(unknown)}")
    outputs = {
        kind: os.path.abspath(path)
        for kind in ("json", "markdown")
        if (path := getattr(options, kind))
    }
    facts = machine.facts()
    noisy = machine.noisy()
    processes.become_subreaper()
    with arena(options.arena) as made:
        os.chdir(made.work)
        try:
            field = assemble(made, only)
            results = [_measure(name, field, made, options.runs) for name in names]
        except ProbeFailed as failure:
            print(f"bench: {failure}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 130
        finally:
            processes.kill_all(processes.descendants(os.getpid()))
            os.chdir("/")
    facts["load afterwards"] = machine.facts()["load"]
    page = _page(facts, field, results, noisy=noisy)
    print(page)
    if "markdown" in outputs:
        with open(outputs["markdown"], "w") as file:
            file.write(page)
    if "json" in outputs:
        with open(outputs["json"], "w") as file:
            json.dump(report.document(facts, results), file, indent=1)
    missed = any(not budget.met for result in results for budget in result.budgets)
    return 1 if options.check and missed else 0


def _measure(name: str, field: Field, made: Arena, runs: int | None) -> report.Result:
    print(f"bench: {name} ...", file=sys.stderr, flush=True)
    module = importlib.import_module(f"bench.benchmarks.{name}")
    result: report.Result = module.measure(field, made, runs or module.RUNS)
    return result


def _page(facts: dict[str, str], field: Field, results: list[report.Result], *, noisy: bool) -> str:
    parts = [_HEAD, report.machine_table(facts)]
    if noisy:
        parts.append("**Other work was running: compare ratios, not milliseconds.**\n")
    parts += [f"Not the same walls: {note}\n" for note in field.notes]
    parts += [report.markdown(result) for result in results]
    return "\n".join(parts)


if __name__ == "__main__":
    sys.exit(main())
