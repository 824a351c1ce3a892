"""``nemoclaw version``."""

from __future__ import annotations

from nemoclaw_core import __version__


def main(argv: list[str]) -> int:
    """Print the version of nemoclaw and of the plugin contract."""
    from nemoclaw_hookspecs.version import API

    print(f"nemoclaw {__version__} (plugin contract {API[0]}.{API[1]})")
    return 0
