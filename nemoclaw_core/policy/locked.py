"""What of a policy is locked when an agent starts, as it was written.

As written, and not as it was resolved: that an agent has made a second ``.env`` since does not
change its policy.
"""

from __future__ import annotations

from .check import plugins
from .context import Context
from .locate import Located, locate
from .merge import Merged, merge
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
    return locked_in(located, merged)


def locked_in(located: Located, merged: Merged) -> dict[str, str]:
    """The same, of a policy that was found."""
    problems: list[Problem] = []
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
    # The view was built without those that it would have shown, and is not built again.
    files = sorted(
        path.text
        for source, _ in merged.lineage
        for credential in source.document.credential.values()
        for path in credential.files
    )
    if files:
        locked["credential.from_file"] = ", ".join(files)
    # Who judges connections was loaded at the start, with its options.
    enabled = plugins(located.source, located.shipped, problems)
    locked["plugins.enable"] = repr(enabled.enable)
    locked["plugins.required"] = repr(sorted(enabled.required))
    for name, options in enabled.options.items():
        locked[f"plugins.{name}"] = repr(sorted(options.items()))
    return locked
