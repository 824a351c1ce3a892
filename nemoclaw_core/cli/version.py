"""``nemoclaw version``."""

from __future__ import annotations

from nemoclaw_hookspecs.errors import UsageError

from nemoclaw_core import __version__

USAGE = """usage: nemoclaw version

Print the version of nemoclaw and of the plugin contract."""


def main(argv: list[str]) -> int:
    """Print the version of nemoclaw and of the plugin contract."""
    if argv in (["-h"], ["--help"]):
        print(USAGE)
        return 0
    if argv:
        raise UsageError(
            f"version takes no argument, and got {argv[0]!r}",
            remedy="`nemoclaw version --help` says what can be written",
        )
    from nemoclaw_hookspecs.version import API

    print(f"nemoclaw {__version__} (plugin contract {API[0]}.{API[1]})")
    return 0
