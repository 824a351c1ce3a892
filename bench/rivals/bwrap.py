"""bubblewrap: namespaces and mounts, no filter."""

from __future__ import annotations

import os
from collections.abc import Sequence

from bench.arena import READABLE, Arena
from bench.rivals.rival import Command, Rival, reported_version, require

_HOW = "apt install bubblewrap"


def _version() -> str:
    return reported_version(require("bwrap", _HOW), "--version")


def _command(arena: Arena, argv: Sequence[str]) -> Command:
    view: list[str] = []
    for path in READABLE:
        if os.path.islink(path):
            view += ["--symlink", os.readlink(path), path]
        else:
            view += ["--ro-bind", path, path]
    view += ["--bind", arena.work, arena.work, "--chdir", arena.work]
    view += ["--proc", "/proc", "--dev", "/dev"]
    walls = ("--unshare-all", "--die-with-parent", "--new-session")
    return Command(
        argv=(require("bwrap", _HOW), *view, *walls, "--", *argv), environment=arena.environment()
    )


BWRAP = Rival(name="bwrap", version=_version, command=_command)
