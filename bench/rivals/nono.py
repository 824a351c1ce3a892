"""nono: Landlock and a seccomp filter, through its Python API (no command on PyPI)."""

from __future__ import annotations

from collections.abc import Sequence

from bench.arena import Arena
from bench.rivals.rival import Command, Rival, distribution_version, rivals_python


def _version() -> str:
    return distribution_version("nono-py")


def _command(arena: Arena, argv: Sequence[str]) -> Command:
    return rivals_python(arena, "with_nono.py", "once", arena.work, *argv)


def _worker(arena: Arena) -> Command:
    return rivals_python(arena, "with_nono.py", "serve", arena.work)


NONO = Rival(
    name="nono",
    version=_version,
    command=_command,
    worker=_worker,
    ways=("sandboxed_exec",),
    crowd=100,
)
