"""Which refusals of names are worth an event: every new one, at a pace that a log can take."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Literal


class Refusals:
    """Remembers what was told. For one thread.

    Resolvers ask each name twice or more (A and AAAA, each server of the list, each attempt), and
    programs ask again. A name is told once per generation of the policy, and again after ``again``
    seconds. A flood of ever new names is told as one (``flood``) every ten seconds, with its size:
    an event for each of its names would be a way to fill the operator's disk.

    :param again: seconds until a name that is still asked for is told once more.
    :param burst: new names that may come at once.
    :param rate: new names a second in the long run.
    :param memory: names remembered.
    """

    def __init__(
        self,
        *,
        again: float = 300.0,
        burst: int = 1000,
        rate: float = 20.0,
        memory: int = 4096,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._again = again
        self._burst = float(burst)
        self._rate = rate
        self._memory = memory
        self._clock = clock
        self._told: OrderedDict[tuple[int, str], float] = OrderedDict()
        self._tokens = float(burst)
        self._filled = clock()
        self._flood = -again
        self._suppressed = 0

    def note(self, generation: int, name: str) -> Literal["tell", "known", "flood", "over"]:
        """What to do about a refused name.

        ``tell`` it; it is ``known``; tell that there is a ``flood`` (``suppressed`` says how many
        names went untold since the last time); or the flood is known too (``over``).
        """
        now = self._clock()
        key = (generation, name)
        told = self._told.get(key)
        if told is not None and now - told < self._again:
            self._told.move_to_end(key)
            return "known"
        self._tokens = min(self._burst, self._tokens + (now - self._filled) * self._rate)
        self._filled = now
        if self._tokens < 1.0:
            self._suppressed += 1
            if now - self._flood < 10.0:
                return "over"
            self._flood = now
            return "flood"
        self._tokens -= 1.0
        self._told[key] = now
        self._told.move_to_end(key)
        if len(self._told) > self._memory:
            self._told.popitem(last=False)
        return "tell"

    def suppressed(self) -> int:
        """How many names went untold since this was asked last."""
        count, self._suppressed = self._suppressed, 0
        return count
