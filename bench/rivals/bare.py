"""No sandbox at all: what the machine itself costs."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from bench.arena import BENCH, Arena
from bench.rivals.rival import Command, Rival


def _version() -> str:
    return ""


def _command(arena: Arena, argv: Sequence[str]) -> Command:
    return Command(argv=tuple(argv), environment=arena.environment())


def _worker(arena: Arena) -> Command:
    script = os.path.join(BENCH, "workers", "with_nothing.py")
    return Command(
        argv=(sys.executable, script, "serve", arena.work), environment=arena.environment()
    )


def _interpreter(arena: Arena, argv: Sequence[str]) -> Command:
    return Command(argv=(sys.executable, "-I", "-S", "-c", "pass"), environment=arena.environment())


BARE = Rival(
    name="bare",
    version=_version,
    command=_command,
    worker=_worker,
    ways=("fork + exec", "posix_spawn", "subprocess.run"),
    starts=True,
)

INTERPRETER = Rival(name="python -I -S -c pass", version=_version, command=_interpreter)
"""Runs nothing but an empty Python: the floor of every command that is written in Python."""
