"""``codex sandbox``, the sandbox of the Codex agent: bubblewrap and a seccomp filter."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Sequence

from bench.arena import READABLE, RIVALS, Arena
from bench.rivals.rival import SETUP, Command, NotInstalled, Rival


def _home(arena: Arena) -> str:
    # Codex keeps out of a home below TMPDIR; the arena's own TMPDIR is beside this.
    return os.path.join(arena.settings, "codex")


def _binary() -> str:
    # The native program: the npm entry point starts Node first, which is not codex's fault.
    found = glob.glob(f"{RIVALS}/node/node_modules/@openai/codex-linux-*/vendor/*/bin/codex")
    if not found:
        raise NotInstalled(SETUP)
    return found[0]


def _version() -> str:
    _binary()
    with open(f"{RIVALS}/node/node_modules/@openai/codex/package.json") as file:
        version: str = json.load(file)["version"]
    return version


def _prepare(arena: Arena) -> None:
    home = _home(arena)
    os.makedirs(home, exist_ok=True)
    # It re-executes itself inside, so its own files must be readable there.
    readable = (*READABLE, os.path.dirname(os.path.dirname(_binary())), home)
    lines = ["[permissions.bench.filesystem]", '":minimal" = "read"']
    lines += [f'{json.dumps(path)} = "read"' for path in readable]
    lines += [f'{json.dumps(arena.work)} = "write"']
    lines += ["[permissions.bench.network]", "enabled = false", ""]
    with open(f"{home}/config.toml", "w") as file:
        file.write("\n".join(lines))


def _command(arena: Arena, argv: Sequence[str]) -> Command:
    return Command(
        argv=(_binary(), "sandbox", "-P", "bench", "--", *argv),
        environment=arena.environment(CODEX_HOME=_home(arena)),
    )


CODEX = Rival(name="codex", version=_version, command=_command, prepare=_prepare, crowd=100)
