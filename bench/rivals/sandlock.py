"""sandlock: Landlock and a seccomp supervisor, through its Python API (it ships no command)."""

from __future__ import annotations

from collections.abc import Sequence

from bench.arena import Arena
from bench.rivals.rival import Command, Rival, distribution_version, rivals_python


def _version() -> str:
    return distribution_version("sandlock")


def _command(arena: Arena, argv: Sequence[str]) -> Command:
    return rivals_python(arena, "with_sandlock.py", "once", arena.work, *argv)


def _worker(arena: Arena) -> Command:
    return rivals_python(arena, "with_sandlock.py", "serve", arena.work)


SANDLOCK = Rival(
    name="sandlock",
    version=_version,
    command=_command,
    worker=_worker,
    ways=("run", "run_interactive"),
    starts=True,
)
