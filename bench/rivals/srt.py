"""srt, Anthropic's sandbox runtime: Node, bubblewrap, a seccomp filter, proxies."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

from bench.arena import RIVALS, Arena
from bench.rivals.rival import SETUP, Command, NotInstalled, Rival, require

_PACKAGE = f"{RIVALS}/node/node_modules/@anthropic-ai/sandbox-runtime"


def _version() -> str:
    try:
        with open(f"{_PACKAGE}/package.json") as file:
            version: str = json.load(file)["version"]
    except FileNotFoundError:
        raise NotInstalled(SETUP) from None
    for program, package in (("bwrap", "bubblewrap"), ("socat", "socat"), ("rg", "ripgrep")):
        require(program, f"apt install {package}")
    return version


def _settings(arena: Arena) -> str:
    return os.path.join(arena.settings, "srt.json")


def _prepare(arena: Arena) -> None:
    settings = {
        "network": {"allowedDomains": [], "deniedDomains": []},
        "filesystem": {"denyRead": [], "allowWrite": [arena.work], "denyWrite": []},
    }
    with open(_settings(arena), "w") as file:
        json.dump(settings, file)


def _command(arena: Arena, argv: Sequence[str]) -> Command:
    return Command(
        argv=(f"{RIVALS}/node/node_modules/.bin/srt", "-s", _settings(arena), "--", *argv),
        environment=arena.environment(),
    )


SRT = Rival(name="srt", version=_version, command=_command, prepare=_prepare, crowd=20)
