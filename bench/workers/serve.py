"""The loop of a worker: one JSON request a line on standard input, one JSON answer a line.

``{"do": "run", "way": NAME, "argv": [...], "count": N}``  run it N times, one after the other;
    answer ``{"wall": [milliseconds, ...], "statuses": [...]}``
``{"do": "start", "argv": [...], "count": N}``  start N and return; ``{"wall": milliseconds}``
``{"do": "stop"}``  end all that were started; ``{"wall": milliseconds}``

A request that fails is answered by ``{"error": text}``.
"""

from __future__ import annotations

import json
import os
import resource
import time
from collections.abc import Callable, Mapping
from typing import IO, Any, Protocol


class Driver(Protocol):
    """One Python API."""

    @property
    def ways(self) -> Mapping[str, Callable[[list[str]], int]]:
        """Calls that run a command to its end and return its exit status."""

    def start(self, argv: list[str]) -> None:
        """Start one more sandbox and do not wait for it."""

    def stop(self) -> None:
        """Kill and collect every sandbox that was started."""


def serve(driver: Driver) -> None:
    """Answer until standard input ends."""
    # What runs inside must not hold our pipes, or find anything on its standard input.
    requests = os.fdopen(os.dup(0), "r")
    answers = os.fdopen(os.dup(1), "w")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    _answer(answers, {"ready": True})
    for line in requests:
        try:
            _answer(answers, _do(driver, json.loads(line)))
        except Exception as error:
            # The coordinator shows it in the table: one broken API must not stop the others.
            _answer(answers, {"error": f"{type(error).__name__}: {error}"})


def _answer(answers: IO[str], answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def _do(driver: Driver, request: dict[str, Any]) -> dict[str, Any]:
    if request["do"] == "run":
        return _run(driver.ways[request["way"]], request["argv"], request["count"])
    start = time.perf_counter_ns()
    if request["do"] == "start":
        for _ in range(request["count"]):
            driver.start(request["argv"])
    else:
        driver.stop()
    return {"wall": (time.perf_counter_ns() - start) / 1e6}


def _run(call: Callable[[list[str]], int], argv: list[str], count: int) -> dict[str, Any]:
    wall: list[float] = []
    statuses: list[int] = []
    for _ in range(count):
        start = time.perf_counter_ns()
        status = call(argv)
        wall.append((time.perf_counter_ns() - start) / 1e6)
        statuses.append(status)
    return {"wall": wall, "statuses": statuses}
