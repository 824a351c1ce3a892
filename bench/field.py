"""Which rivals take part in a run, and what keeps the others away."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from bench.arena import Arena
from bench.report import Row
from bench.rivals import FIELD, NEMOCLAW, NotInstalled, Rival
from bench.walls import OUTSIDE, probe


class ProbeFailed(Exception):
    """The probe does not do outside what it must not be able to do inside: it proves nothing."""


@attrs.frozen(slots=True, kw_only=True)
class Entrant:
    """A rival that is here, and its version."""

    rival: Rival
    version: str

    @property
    def name(self) -> str:
        """The rival's name."""
        return self.rival.name


@attrs.frozen(slots=True, kw_only=True)
class Field:
    """Who runs, who does not and why."""

    entrants: tuple[Entrant, ...]
    absent: tuple[Row, ...]
    notes: tuple[str, ...]

    def subset(self, wanted: Callable[[Rival], bool]) -> tuple[Entrant, ...]:
        """Entrants that a benchmark can use."""
        return tuple(entrant for entrant in self.entrants if wanted(entrant.rival))

    def missing(self, wanted: Callable[[Rival], bool]) -> tuple[Row, ...]:
        """Rows for rivals that a benchmark would use but that are not here."""
        names = {rival.name for rival in FIELD if wanted(rival)}
        return tuple(row for row in self.absent if row.name in names)


def assemble(arena: Arena, only: Sequence[str] = ()) -> Field:
    """Find, set up and probe every rival (or those in ``only``; bare always takes part).

    A rival whose walls differ from the others' still runs, with a note: the reader judges.

    :raises ProbeFailed: see there.
    """
    entrants: list[Entrant] = []
    absent: list[Row] = []
    notes: list[str] = []
    for rival in FIELD:
        if only and rival.name not in (*only, "bare"):
            continue
        try:
            version = rival.version()
        except NotInstalled as missing:
            absent.append(Row(name=rival.name, absent=f"not installed: {missing}"))
            continue
        rival.prepare(arena)
        walls = probe(rival, arena)
        if rival.name == "bare":
            if walls.found != OUTSIDE:
                raise ProbeFailed(f"bare, the probe found only {sorted(walls.found)}")
        elif walls.status != 0:
            absent.append(Row(name=rival.name, version=version, absent=str(walls)))
            continue
        elif not walls.equal:
            notes.append(f"{rival.name}: {walls}")
        entrants.append(Entrant(rival=rival, version=version))
    return Field(entrants=tuple(entrants), absent=tuple(absent), notes=tuple(notes))


def is_ours(name: str) -> bool:
    """True for nemoclaw and its variants."""
    return name.startswith(NEMOCLAW.name)
