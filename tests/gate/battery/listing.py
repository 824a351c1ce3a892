"""All attacks."""

from __future__ import annotations

from . import callers, framing, hosts, load, names, paths, places
from .registry import ATTACKS, CLASSES

__all__ = ["ATTACKS", "page"]

MODULES = (callers, framing, hosts, load, names, paths, places)
"""To be imported is what registers attacks."""


def page() -> str:
    """All attacks, as a table for each class."""
    text = "# Attacks\n\nWritten by `python3 -m battery`; a test compares.\n"
    for kind in CLASSES:
        found = [each for name, each in ATTACKS.items() if name.startswith(f"{kind}-")]
        text += f"\n## {kind} ({len(found)})\n\n| name | what it tries |\n|---|---|\n"
        for each in found:
            limit = f" **Works inside:** {each.limit}." if each.limit else ""
            text += f"| `{each.name}` | {each.claim.replace('|', chr(92) + '|')}{limit} |\n"
    return text
