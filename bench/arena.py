"""The directories that a benchmark runs in, and the environment of what it starts."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import attrs

BENCH = os.path.dirname(os.path.abspath(__file__))
RIVALS = os.path.join(BENCH, ".rivals")
"""Where bench/setup.py installs. Ignored by git."""

READABLE = tuple(
    path for path in ("/usr", "/lib", "/lib64", "/bin", "/sbin", "/etc") if os.path.exists(path)
)
"""What every sandbox may read. ``Arena.work`` is what it may write; it has no network."""

_PASSED = ("PATH", "HOME", "USER", "LANG", "TERM")


@attrs.frozen(slots=True, kw_only=True)
class Arena:
    """One directory that the sandboxes may write, and others that they must not."""

    base: str

    @property
    def work(self) -> str:
        """The one writable directory, and the current directory of what runs inside."""
        return os.path.join(self.base, "work")

    @property
    def outside(self) -> str:
        """Must stay out of reach."""
        return os.path.join(self.base, "outside")

    @property
    def settings(self) -> str:
        """Configuration files of rivals."""
        return os.path.join(self.base, "settings")

    @property
    def temporary(self) -> str:
        """TMPDIR of every launcher."""
        return os.path.join(self.base, "tmp")

    @property
    def runtime(self) -> str:
        """XDG_RUNTIME_DIR of every launcher."""
        return os.path.join(self.base, "xdg", "runtime")

    def environment(self, **more: str) -> dict[str, str]:
        """Environment of a launcher: little of the caller's, nothing kept in the caller's home.

        ``PYTHONDONTWRITEBYTECODE`` in particular must not get in, or every start compiles.
        """
        found = {name: os.environ[name] for name in _PASSED if name in os.environ}
        found["TMPDIR"] = self.temporary
        for kind in ("CACHE", "CONFIG", "STATE", "RUNTIME"):
            suffix = "DIR" if kind == "RUNTIME" else "HOME"
            found[f"XDG_{kind}_{suffix}"] = os.path.join(self.base, "xdg", kind.lower())
        return {**found, **more}


@contextmanager
def arena(parent: str | None = None) -> Iterator[Arena]:
    """Make an arena below ``parent`` (default: the temporary directory), remove it afterwards."""
    made = Arena(base=os.path.realpath(tempfile.mkdtemp(prefix="nemoclaw-bench-", dir=parent)))
    try:
        for path in (made.work, made.outside, made.settings, made.temporary):
            os.mkdir(path)
        for kind in ("cache", "config", "state", "runtime"):
            os.makedirs(os.path.join(made.base, "xdg", kind), mode=0o700)
        yield made
    finally:
        shutil.rmtree(made.base, ignore_errors=True)
