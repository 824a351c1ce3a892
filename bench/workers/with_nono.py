"""nono's Python API."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

# Not `import nono_py`: type checkers run where it is not installed.
nono = import_module("nono_py")

READABLE = ("/usr", "/lib", "/lib64", "/bin", "/sbin", "/etc")


def capabilities(work: str) -> Any:
    """System directories readable, ``work`` writable, network blocked."""
    granted = nono.CapabilitySet()
    for path in READABLE:
        if os.path.isdir(path):
            granted.allow_path(path, nono.AccessMode.READ)
    granted.allow_path(work, nono.AccessMode.READ_WRITE)
    granted.allow_file("/dev/null", nono.AccessMode.READ_WRITE)
    granted.allow_file("/dev/urandom", nono.AccessMode.READ)
    granted.block_network()
    return granted


def reach(work: str, host: str, argv: list[str]) -> int:
    """Run with the network through its proxy, which lets one host through."""
    proxy = nono.start_proxy(nono.ProxyConfig(allowed_hosts=[host]))
    granted = capabilities(work)
    granted.proxy_only(proxy)
    variables = proxy.env_vars()
    environment = list(variables.items() if isinstance(variables, dict) else variables)
    # Its output is captured, so what is printed inside goes to a file that is read here.
    result = nono.sandboxed_exec(granted, argv, cwd=work, env=environment, inherit_env=True)
    sys.stdout.buffer.write(result.stdout)
    sys.stderr.buffer.write(result.stderr)
    status: int = result.exit_code
    return status


class Nono:
    """Runs with one set of capabilities, again and again."""

    def __init__(self, work: str) -> None:
        self._work = work
        self._capabilities = capabilities(work)
        self.ways = {"sandboxed_exec": self.run}

    def run(self, argv: list[str]) -> int:
        """Run to the end. "seccomp": its default mode leaves UDP and MPTCP open."""
        result = nono.sandboxed_exec(
            self._capabilities, argv, cwd=self._work, enforcement_mode="seccomp"
        )
        status: int = result.exit_code
        return status

    def start(self, argv: list[str]) -> None:
        """Not possible: its one call waits for the end."""
        raise NotImplementedError("sandboxed_exec waits for the end")

    def stop(self) -> None:
        """Nothing was started."""


if __name__ == "__main__":
    if sys.argv[1] == "once":
        sys.exit(Nono(sys.argv[2]).run(sys.argv[3:]))
    if sys.argv[1] == "reach":
        sys.exit(reach(sys.argv[2], sys.argv[3], sys.argv[4:]))
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    from bench.workers.serve import serve

    serve(Nono(sys.argv[2]))
