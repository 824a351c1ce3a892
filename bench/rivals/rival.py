"""What a benchmark knows about one sandbox."""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence

import attrs

from bench.arena import BENCH, RIVALS, Arena

SETUP = "python bench/setup.py"


class NotInstalled(Exception):
    """A rival, or something that it needs, is not on this machine. The text says how to get it."""


@attrs.frozen(slots=True, kw_only=True)
class Command:
    """A process to start."""

    argv: tuple[str, ...]
    environment: dict[str, str]


def _nothing(arena: Arena) -> None:
    """Prepare nothing: everything is on the command line."""


@attrs.frozen(slots=True, kw_only=True)
class Rival:
    """One sandbox, set to: no network, system directories readable, one directory writable."""

    name: str
    version: Callable[[], str]
    """What is installed.

    :raises NotInstalled: nothing is.
    """
    command: Callable[[Arena, Sequence[str]], Command]
    """A launcher that runs the given argv inside and exits with its status."""
    prepare: Callable[[Arena], None] = _nothing
    """Write the settings that ``command`` names."""
    worker: Callable[[Arena], Command] | None = None
    """A process that drives the Python API, see bench/workers/serve.py. None: there is no API."""
    ways: tuple[str, ...] = ()
    """The calls of the Python API that the worker can make, best known first."""
    starts: bool = False
    """True when the Python API can start many sandboxes from one process without waiting."""
    crowd: int = 500
    """The most sandboxes that a machine with little memory and patience can hold at once."""


def require(program: str, how: str) -> str:
    """Path of a program of the distribution.

    :raises NotInstalled: it is not on PATH.
    """
    found = shutil.which(program)
    if found is None:
        raise NotInstalled(how)
    return found


def reported_version(program: str, *arguments: str) -> str:
    """The last word of the first line that a program prints about its version."""
    printed = subprocess.run(
        [program, *arguments], capture_output=True, text=True, check=True
    ).stdout
    return printed.splitlines()[0].split()[-1]


def distribution_version(name: str) -> str:
    """Version of a Python distribution in the rivals' environment.

    :raises NotInstalled: it is not there.
    """
    escaped = name.replace("-", "_")
    found = glob.glob(f"{RIVALS}/python/lib/python3*/site-packages/{escaped}-*.dist-info")
    if not found:
        raise NotInstalled(SETUP)
    return os.path.basename(found[0]).removesuffix(".dist-info").rpartition("-")[2]


def rivals_python(arena: Arena, script: str, *arguments: str) -> Command:
    """Run one of bench/workers/ with the Python that has the rivals' packages."""
    return Command(
        argv=(f"{RIVALS}/python/bin/python", f"{BENCH}/workers/{script}", *arguments),
        environment=arena.environment(),
    )
