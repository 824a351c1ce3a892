"""sandlock's Python API."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

# Not `import sandlock`: type checkers run where it is not installed.
sandlock = import_module("sandlock")

READABLE = ("/usr", "/lib", "/lib64", "/bin", "/sbin", "/etc", "/dev/urandom")


def sandbox(work: str) -> Any:
    """System directories readable, ``work`` writable, no address may be reached (the default)."""
    readable = [path for path in READABLE if os.path.exists(path)]
    return sandlock.Sandbox(fs_readable=readable, fs_writable=[work, "/dev/null"], cwd=work)


def reaching(work: str, reach: str) -> Any:
    """The same, and GET requests to one server, ``HOST:PORT``, through its rules for HTTP."""
    host, _, port = reach.partition(":")
    readable = [path for path in READABLE if os.path.exists(path)]
    return sandlock.Sandbox(
        fs_readable=readable,
        fs_writable=[work, "/dev/null"],
        cwd=work,
        net_allow=[f"tcp://{reach}"],
        http_allow=[f"GET {host}/*", f"GET {reach}/*"],
        http_ports=[int(port)],
    )


class Sandlock:
    """Runs in one sandbox object, again and again; starts in one object each, as it demands."""

    def __init__(self, work: str) -> None:
        self._work = work
        self._sandbox = sandbox(work)
        self._started: list[Any] = []
        self.ways = {"run": self._run, "run_interactive": self._run_interactive}

    def _run(self, argv: list[str]) -> int:
        status: int = self._sandbox.run(argv).exit_code
        return status

    def _run_interactive(self, argv: list[str]) -> int:
        status: int = self._sandbox.run_interactive(argv)
        return status

    def start(self, argv: list[str]) -> None:
        """Start one sandbox."""
        self._started.append(sandbox(self._work).popen(argv))

    def stop(self) -> None:
        """Kill and collect all of them."""
        for process in self._started:
            process.kill()
        for process in self._started:
            process.wait()
        self._started.clear()


if __name__ == "__main__":
    if sys.argv[1] == "once":
        sys.exit(sandbox(sys.argv[2]).run_interactive(sys.argv[3:]))
    if sys.argv[1] == "reach":
        sys.exit(reaching(*sys.argv[2:4]).run_interactive(sys.argv[4:]))
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    from bench.workers.serve import serve

    serve(Sandlock(sys.argv[2]))
