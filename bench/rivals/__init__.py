"""The field: every sandbox that the benchmarks compare, all set to the same three walls."""

from __future__ import annotations

from bench.rivals.bare import BARE, INTERPRETER
from bench.rivals.bwrap import BWRAP
from bench.rivals.codex import CODEX
from bench.rivals.firejail import FIREJAIL
from bench.rivals.nemoclaw import NEMOCLAW
from bench.rivals.nono import NONO
from bench.rivals.nsjail import NSJAIL
from bench.rivals.rival import Command, NotInstalled, Rival
from bench.rivals.sandlock import SANDLOCK
from bench.rivals.srt import SRT

FIELD: tuple[Rival, ...] = (BARE, NEMOCLAW, BWRAP, NSJAIL, FIREJAIL, CODEX, SANDLOCK, NONO, SRT)

__all__ = ["BARE", "FIELD", "INTERPRETER", "NEMOCLAW", "Command", "NotInstalled", "Rival"]
