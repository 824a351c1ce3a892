"""Time and what is made of it: series of samples, interleaved rounds, one timed process."""

from __future__ import annotations

import math
import os
import random
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence

import attrs


@attrs.frozen(slots=True)
class Series:
    """Samples of one quantity, in one unit."""

    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle: what a user gets on most days."""
        return statistics.median(self.samples)

    @property
    def p95(self) -> float:
        """The nearest-rank 95th percentile."""
        ordered = sorted(self.samples)
        return ordered[max(0, math.ceil(0.95 * len(ordered)) - 1)]

    @property
    def minimum(self) -> float:
        """The best: what noise of other work disturbs least."""
        return min(self.samples)


@attrs.frozen(slots=True, kw_only=True)
class Timing:
    """One process from before its start until it was waited for."""

    wall: float
    """Milliseconds."""
    cpu: float
    """Milliseconds of user and system time, of the process and of those it waited for."""
    status: int
    """Exit status; negative: the signal that ended it."""


def rounds(names: Sequence[str], count: int, *, seed: int = 1) -> Iterator[list[str]]:
    """Give ``count`` orders of ``names``.

    Rivals alternate so that a slow minute of the machine hits all of them, and the order changes
    so that none always follows the one that leaves the kernel most to clean up.
    """
    shuffler = random.Random(seed)
    for _ in range(count):
        order = list(names)
        shuffler.shuffle(order)
        yield order


def time_process(
    argv: Sequence[str], environment: Mapping[str, str], errors: str = os.devnull
) -> Timing:
    """Start ``argv`` with no input or output, wait for it, and say how long that took.

    :param errors: file that gets its standard error.
    """
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
        (os.POSIX_SPAWN_OPEN, 2, errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
    ]
    start = time.perf_counter_ns()
    pid = os.posix_spawnp(argv[0], list(argv), dict(environment), file_actions=actions)
    _, status, usage = os.wait4(pid, 0)
    wall = (time.perf_counter_ns() - start) / 1e6
    return Timing(
        wall=wall,
        cpu=(usage.ru_utime + usage.ru_stime) * 1e3,
        status=os.waitstatus_to_exitcode(status),
    )


def settle(limit: float = 10.0) -> None:
    """Wait until the machine is idle again, for at most ``limit`` seconds.

    The kernel removes network namespaces after their last process has gone, in a worker of its
    own; what one rival left must not be charged to the next.
    """
    end = time.monotonic() + limit
    while time.monotonic() < end:
        if _busy(0.1) < 0.1:
            return


def _busy(seconds: float) -> float:
    """Share of all cores' time, 0 to 1, that was not idle during the next ``seconds``."""
    before = _ticks()
    time.sleep(seconds)
    after = _ticks()
    idle, total = after[0] - before[0], after[1] - before[1]
    return 1 - idle / total if total else 0.0


def _ticks() -> tuple[int, int]:
    with open("/proc/stat") as lines:
        values = [int(field) for field in lines.readline().split()[1:9]]
    return values[3] + values[4], sum(values)
