"""nemoclaw's Python API."""

from __future__ import annotations

import os
import sys

from nemoclaw_core import Sandbox
from nemoclaw_core.process import Process


class Nemoclaw:
    """Runs in one Sandbox, again and again: each run gets walls of its own."""

    def __init__(self, work: str) -> None:
        self._sandbox = Sandbox(workdir=work)
        self._pool = Sandbox(workdir=work, spare=2)
        self._started: list[Process] = []
        self.ways = {
            "run": self._run,
            "run, output captured": self._run_captured,
            "run, spare=2": self._run_spare,
        }

    def _run(self, argv: list[str]) -> int:
        return self._sandbox.run(argv).returncode

    def _run_captured(self, argv: list[str]) -> int:
        return self._sandbox.run(argv, capture_output=True).returncode

    def _run_spare(self, argv: list[str]) -> int:
        return self._pool.run(argv).returncode

    def start(self, argv: list[str]) -> None:
        """Start one sandbox."""
        self._started.append(self._sandbox.start(argv))

    def stop(self) -> None:
        """Kill and collect all of them."""
        for process in self._started:
            process.kill()
        for process in self._started:
            process.wait()
        self._started.clear()

    def close(self) -> None:
        """End both pools."""
        self._sandbox.close()
        self._pool.close()


if __name__ == "__main__":
    if sys.argv[1] == "once":
        with Sandbox(workdir=sys.argv[2]) as sandbox:
            sys.exit(sandbox.run(sys.argv[3:]).returncode)
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    from bench.workers.serve import serve

    driver = Nemoclaw(sys.argv[2])
    try:
        serve(driver)
    finally:
        driver.close()
