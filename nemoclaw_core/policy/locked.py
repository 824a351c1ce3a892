"""What of a policy is locked when an agent starts, as it was written.

As written, and not as it was resolved: that an agent has made a second ``.env`` since does not
change its policy.
"""

from __future__ import annotations

from .check import plugins
from .context import Context
from .locate import locate
from .merge import merge
from .problems import Problem, refuse
from .walk import Observer

_TABLES = ("filesystem.", "process.", "syscalls.")
_KEYS = ("network.mode",)


def locked_values(selector: str | None, context: Context) -> dict[str, str]:
    """Each locked key that a policy and what it extends write, and its value as a text.

    :raises PolicyError: there is no such policy.
    """
    located = locate(selector, context, Observer())
    problems: list[Problem] = []
    merged = merge(located.name, located.source, located.shipped, problems)
    if merged is None:
        refuse(problems)
    found: dict[str, str] = {}
    for key, written in merged.scalars.items():
        found[key] = repr(written.value)
    for key, items in merged.lists.items():
        found[key] = ", ".join(sorted(repr(item.value) for item in items))
    for key, entries in merged.tables.items():
        for name, written in entries.items():
            found[f"{key}.{name}"] = repr(written.value)
    locked = {
        key: value
        for key, value in sorted(found.items())
        if key.startswith(_TABLES) or key in _KEYS
    }
    # Who judges connections was loaded at the start, with its options.
    enabled = plugins(located.source, located.shipped, problems)
    locked["plugins.enable"] = repr(enabled.enable)
    locked["plugins.required"] = repr(sorted(enabled.required))
    for name, options in enabled.options.items():
        locked[f"plugins.{name}"] = repr(sorted(options.items()))
    return locked
