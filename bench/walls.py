"""Proof that the rivals are compared behind the same walls, before anything is timed.

A small shell script tries four things. Bare, all four work (else the script proves nothing); in
every sandbox the first two must work and the last two must not.
"""

from __future__ import annotations

import os
import socket

import attrs

from bench.arena import Arena
from bench.measure import time_process
from bench.rivals import Rival

_SCRIPT = """\
out=$1/found; port=$2; outside=$3
: > "$out" || exit 3
[ -r /usr/bin/env ] && echo reads-system >> "$out"
(echo x > "$1/file") 2>/dev/null && echo writes-work >> "$out"
(echo x > "$outside/file") 2>/dev/null && echo writes-outside >> "$out"
(exec 3<> "/dev/tcp/127.0.0.1/$port") 2>/dev/null && echo connects >> "$out"
exit 0
"""

INSIDE = frozenset({"reads-system", "writes-work"})
OUTSIDE = INSIDE | {"writes-outside", "connects"}


@attrs.frozen(slots=True, kw_only=True)
class Walls:
    """What a program could do inside."""

    found: frozenset[str]
    status: int
    errors: str
    """Last line of standard error."""

    @property
    def equal(self) -> bool:
        """True when exactly the intended was possible."""
        return self.status == 0 and self.found == INSIDE

    def __str__(self) -> str:
        if self.status != 0:
            return f"failed ({self.status}): {self.errors}"[:120]
        lacks = [f"not {name}" for name in sorted(INSIDE - self.found)]
        return ", ".join([*lacks, *sorted(self.found - INSIDE)])


def probe(rival: Rival, arena: Arena) -> Walls:
    """Run the script behind the walls of ``rival``."""
    result = os.path.join(arena.work, "found")
    errors = os.path.join(arena.base, "errors")
    for path in (result, os.path.join(arena.work, "file"), os.path.join(arena.outside, "file")):
        if os.path.exists(path):
            os.unlink(path)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        argv = ("/bin/bash", "-c", _SCRIPT, "probe", arena.work, port, arena.outside)
        command = rival.command(arena, argv)
        try:
            status = time_process(command.argv, command.environment, errors).status
        except OSError as refusal:
            return Walls(found=frozenset(), status=126, errors=str(refusal))
    found: frozenset[str] = frozenset()
    if os.path.exists(result):
        with open(result) as file:
            found = frozenset(file.read().split())
    with open(errors, errors="replace") as file:
        lines = file.read().strip().splitlines()
    return Walls(found=found, status=status, errors=lines[-1] if lines else "")
