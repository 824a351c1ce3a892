"""Read-only islands where nemoclaw's own code lies in what an agent may write."""

from __future__ import annotations

from collections.abc import Iterable

from .access import covers
from .combine import CODE, Combination, Found
from .own_code import Code
from .problems import Problem, quoted
from .walk import Observer

_REMEDY = "install nemoclaw apart from what agents work on"


class Kept:
    """The code that lies in writable trees, or holds some.

    Of the rest nothing is noted: it would have to be looked at again at each start.

    :param writable: paths of the policy's grants for writing.
    """

    def __init__(self, code: Iterable[Code], writable: list[str], observer: Observer) -> None:
        found: list[tuple[Found, bool]] = []
        unnoted = Observer()
        for each in code:
            walked = unnoted.follow(each.path)
            ways = (walked.path, *(step.path for step in walked.links))
            around = each.whole and any(covers(walked.path, root) for root in writable)
            if around or any(covers(root, way) for root in writable for way in ways):
                kept = Found(
                    access="read",
                    walked=observer.follow(each.path),
                    origin=CODE,
                    text=each.path,
                    literal=True,
                    optional=False,
                )
                found.append((kept, each.whole))
        # What holds others first: nothing in it is writable then, links included.
        self._found = sorted(found, key=lambda pair: len(pair[0].walked.path))

    def spares(self, grant: Found, problems: list[Problem]) -> bool:
        """Whether a grant leaves the code alone; notes a problem where a rule names it."""
        if grant.access != "write":
            return True
        path = grant.walked.path
        for code, whole in self._found:
            place = code.walked.path
            if place == path or (whole and covers(place, path)):
                if grant.literal:
                    what = (
                        f"{quoted(path)} is what nemoclaw itself runs from ({quoted(place)}): an "
                        "agent that can write it has no walls at the next start"
                    )
                    problems.append(Problem(grant.origin, what, _REMEDY, path))
                return False
        return True

    def hold(self, combined: Combination, problems: list[Problem]) -> None:
        """Make the code read-only; notes a problem where the way to it can be replaced."""
        for each, _ in self._found:
            combined.keep(each)
            for step in each.walked.links:
                if not step.last and combined.is_writable(step.path):
                    what = (
                        f"{quoted(each.text)} cannot be kept from the agent: it goes through "
                        f"{step.path}, a symbolic link that the agent can replace"
                    )
                    problems.append(Problem(each.origin, what, _REMEDY, step.path))
