"""nemoclaw itself: its command, and its Python API."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence

from bench.arena import BENCH, Arena
from bench.rivals.rival import Command, NotInstalled, Rival


def launcher() -> tuple[str, ...]:
    """The ``nemoclaw`` of the Python that runs the benchmark."""
    beside = os.path.join(os.path.dirname(sys.executable), "nemoclaw")
    if os.access(beside, os.X_OK):
        return (beside,)
    if importlib.util.find_spec("nemoclaw_core") is not None:
        # From a source tree that is on the path but not installed.
        return (
            sys.executable,
            "-c",
            "import sys; from nemoclaw_core.cli import main; sys.exit(main())",
        )
    found = shutil.which("nemoclaw")
    if found is not None:
        return (found,)
    raise NotInstalled("pip install the checkout, see README")


def _version() -> str:
    launcher()
    from nemoclaw_core import __version__

    return __version__


def _environment(arena: Arena) -> dict[str, str]:
    if "PYTHONPATH" in os.environ:
        return arena.environment(PYTHONPATH=os.environ["PYTHONPATH"])
    return arena.environment()


def _command(arena: Arena, argv: Sequence[str]) -> Command:
    return Command(argv=(*launcher(), "run", "--", *argv), environment=_environment(arena))


def _first_command(arena: Arena, argv: Sequence[str]) -> Command:
    usual = _command(arena, argv)
    # An empty cache each time: the policy is read, the plugins are called, the filter is compiled.
    empty = tempfile.mkdtemp(prefix="cache-", dir=arena.base)
    return Command(argv=usual.argv, environment={**usual.environment, "XDG_CACHE_HOME": empty})


def _script_command(arena: Arena, argv: Sequence[str]) -> Command:
    script = os.path.join(BENCH, "workers", "with_nemoclaw.py")
    return Command(
        argv=(sys.executable, script, "once", arena.work, *argv), environment=_environment(arena)
    )


def _worker(arena: Arena) -> Command:
    script = os.path.join(BENCH, "workers", "with_nemoclaw.py")
    return Command(
        argv=(sys.executable, script, "serve", arena.work), environment=_environment(arena)
    )


NEMOCLAW = Rival(
    name="nemoclaw",
    version=_version,
    command=_command,
    worker=_worker,
    ways=("run", "run, output captured", "run, spare=2"),
    starts=True,
)

NEMOCLAW_SCRIPT = Rival(name="nemoclaw (Python API)", version=_version, command=_script_command)
"""A script that imports nemoclaw and runs one command: what sandlock and nono are measured as."""

NEMOCLAW_FIRST = Rival(name="nemoclaw (no cached plan)", version=_version, command=_first_command)
"""The very first run of a policy."""
