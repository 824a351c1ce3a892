"""The standard library's ways to start a process: what every sandbox adds to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys


def fork_exec(argv: list[str]) -> int:
    """os.fork and os.execv: the least that a sandbox with work to do in the child can do."""
    pid = os.fork()
    if pid == 0:
        try:
            os.execv(argv[0], argv)
        finally:
            os._exit(127)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def posix_spawn(argv: list[str]) -> int:
    """os.posix_spawn: vfork, nothing done in the child."""
    pid = os.posix_spawn(argv[0], argv, os.environ)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def run(argv: list[str]) -> int:
    """subprocess.run."""
    return subprocess.run(argv, check=False).returncode


class Nothing:
    """No sandbox."""

    ways = {"fork + exec": fork_exec, "posix_spawn": posix_spawn, "subprocess.run": run}  # noqa: RUF012

    def __init__(self) -> None:
        self._started: list[int] = []

    def start(self, argv: list[str]) -> None:
        """Start one process."""
        self._started.append(os.posix_spawn(argv[0], argv, os.environ))

    def stop(self) -> None:
        """Kill and collect all of them."""
        for pid in self._started:
            os.kill(pid, signal.SIGKILL)
        for pid in self._started:
            os.waitpid(pid, 0)
        self._started.clear()


if __name__ == "__main__":
    if sys.argv[1] == "once":
        sys.exit(run(sys.argv[3:]))
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    from bench.workers.serve import serve

    serve(Nothing())
