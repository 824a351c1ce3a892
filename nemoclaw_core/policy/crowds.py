"""Patterns that stand for more, or for deeper, paths than a sandbox can be built with."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable

from nemoclaw_hookspecs import Origin

from nemoclaw_core import globs

from .problems import quoted

MOST = 3_000
"""Paths that one pattern may stand for, with the directories that lead to them: each becomes a
mount, or a rule of the kernel."""


def places(base: str, paths: Iterable[str]) -> Counter[str]:
    """Each path below ``base`` and each directory on the way to it; how many paths it leads to."""
    found: Counter[str] = Counter()
    for path in paths:
        while path != base and path != "/":
            found[path] += 1
            path = os.path.dirname(path)
    return found


def busiest(base: str, found: Counter[str]) -> str:
    """The deepest directory that leads to more than half of the paths; ``base`` if there is none.

    What an agent has filled is mostly one directory.
    """
    total = sum(count for path, count in found.items() if os.path.dirname(path) == base)
    heavy = (path for path, count in found.items() if count > total / 2)
    return max(heavy, key=len, default=base)


def too_deep(origin: Origin, pattern: str, unlistable: Iterable[str]) -> tuple[str, ...]:
    """What is said about a denial's directories that were not looked into because of their depth:
    one sentence, or nothing."""
    deep = sorted(each for each in unlistable if globs.too_deep(each))
    if not deep:
        return ()
    more = f" and {len(deep) - 1} more: each" if len(deep) > 1 else ""
    return (
        f"{origin}: {quoted(deep[0], 180)}{more} is nested too deep to look for {quoted(pattern)} "
        "in it, so the agent sees nothing of what it holds",
    )
