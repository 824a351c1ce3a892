"""The coordinator's end of a worker."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from bench.rivals import Command


class WorkerFailed(Exception):
    """The API behind a worker raised, or the worker died. The text is its own."""


class Worker:
    """A running worker. Use as a context manager."""

    def __init__(self, command: Command, errors: str) -> None:
        """Start it, and wait until it has imported its API.

        :param errors: file that gets its standard error.
        :raises WorkerFailed: it did not come up.
        """
        self._errors = errors
        with open(errors, "w") as file:
            self._process = subprocess.Popen(
                command.argv,
                env=command.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
            )
        self.pid = self._process.pid
        self._read()

    def run(self, way: str, argv: Sequence[str], count: int) -> list[float]:
        """Run ``argv`` ``count`` times and return the milliseconds of each.

        :raises WorkerFailed: a run did not exit with 0.
        """
        answer = self._ask({"do": "run", "way": way, "argv": list(argv), "count": count})
        bad = sorted({status for status in answer["statuses"] if status != 0})
        if bad:
            raise WorkerFailed(f"{way}: {argv[0]} ended with {bad}")
        wall: list[float] = answer["wall"]
        return wall

    def start(self, argv: Sequence[str], count: int) -> float:
        """Start ``count`` sandboxes and return the milliseconds until the last call returned."""
        wall: float = self._ask({"do": "start", "argv": list(argv), "count": count})["wall"]
        return wall

    def stop(self) -> float:
        """End all of them and return the milliseconds that the API took for it."""
        wall: float = self._ask({"do": "stop"})["wall"]
        return wall

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise WorkerFailed(self._last_words()) from None
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise WorkerFailed(self._last_words())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise WorkerFailed(answer["error"])
        return answer

    def _last_words(self) -> str:
        with open(self._errors, errors="replace") as file:
            lines = file.read().strip().splitlines()
        return lines[-1] if lines else f"the worker {self.pid} died without a word"

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
            self._process.wait(timeout=10)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
