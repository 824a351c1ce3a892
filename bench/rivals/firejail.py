"""firejail: a setuid program with namespaces, mounts and a seccomp deny list."""

from __future__ import annotations

import os
from collections.abc import Sequence

from bench.arena import Arena
from bench.rivals.rival import Command, Rival, reported_version, require

_HOW = "apt install firejail"


def _version() -> str:
    return reported_version(require("firejail", _HOW), "--version")


def _command(arena: Arena, argv: Sequence[str]) -> Command:
    walls = ["--noprofile", "--net=none", "--seccomp", "--caps.drop=all", "--nonewprivs"]
    walls += ["--private-dev", f"--whitelist={arena.work}"]
    home = os.path.expanduser("~")
    if os.path.commonpath((home, arena.work)) != home:
        # Whitelisting inside the home directory hides the rest of it already, and excludes this.
        walls.append("--private")
    return Command(
        argv=(require("firejail", _HOW), "--quiet", *walls, "--", *argv),
        environment=arena.environment(),
    )


FIREJAIL = Rival(name="firejail", version=_version, command=_command)
