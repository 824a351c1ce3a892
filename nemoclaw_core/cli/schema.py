"""``nemoclaw schema``."""

from __future__ import annotations

import sys

from nemoclaw_hookspecs.errors import UsageError

USAGE = """usage: nemoclaw schema

Print the JSON Schema (draft 2020-12) of the policy file on standard output."""


def main(argv: list[str]) -> int:
    """Print the JSON Schema of the policy file."""
    if argv in (["-h"], ["--help"]):
        print(USAGE)
        return 0
    if argv:
        raise UsageError(
            f"schema takes no argument, and got {argv[0]!r}",
            remedy="`nemoclaw schema --help` says what can be written",
        )
    import json

    from nemoclaw_core.policy.jsonschema import schema

    json.dump(schema(), sys.stdout, indent=2)
    print()
    return 0
