"""What one network policy changes of another, rule by rule: for events, and for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import attrs

from ..events.encoder import encode
from ..events.text import bounded, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_LISTED = 24
"""Changes of one reload that are named in a line."""
_ROOM = 3000
"""Bytes of an event for the changes that it names; it counts the others."""
_TEXT = 64
"""Bytes of a rule's name and of its host in an event."""
MARKS = {"added": "+", "removed": "-", "changed": "~"}

Kind = Literal["added", "removed", "changed"]


@attrs.frozen(slots=True)
class Change:
    """A rule that is new, gone, or says something else in ``keys``; a setting has no host."""

    kind: Kind
    name: str
    host: str = ""
    keys: tuple[str, ...] = ()

    def __str__(self) -> str:
        keys = f" ({', '.join(self.keys)})" if self.keys else ""
        return f"{MARKS[self.kind]} {self.name}{keys}"


def compare(
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    gone: Sequence[Mapping[str, Any]],
    new: Sequence[Mapping[str, Any]],
) -> tuple[Change, ...]:
    """Changes, first of the settings, then of the rules.

    A rule that is gone and a new one are one that has changed where they have the same name, or
    where neither has a name, the same host.

    :param before: settings of the policy, without its rules; encoded, like the rules.
    :param gone: rules that are not in the new policy.
    :param new: rules that are not in the old one.
    """
    found = [
        Change("changed", key)
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key)
    ]
    left: dict[str, list[Mapping[str, Any]]] = {}
    for rule in gone:
        left.setdefault(_name(rule), []).append(rule)
    for rule in new:
        name = _name(rule)
        others = left.get(name)
        if others:
            keys = _differing(others.pop(0), rule)
            found.append(Change("changed", name, rule["host"], keys))
        else:
            found.append(Change("added", name, rule["host"]))
    found += [
        Change("removed", name, rule["host"]) for name, rules in left.items() for rule in rules
    ]
    return tuple(found)


def told(changes: Sequence[Change], limit: int = _LISTED) -> str:
    """The changes in one line."""
    listed = [str(change) for change in changes[:limit]]
    if len(changes) > limit:
        listed.append(f"and {len(changes) - limit} more")
    return ", ".join(listed) or "no rule has changed"


def as_data(changes: Sequence[Change]) -> dict[str, Any]:
    """The changes as an event carries them: bounded, whatever their number."""
    listed: list[dict[str, Any]] = []
    room = _ROOM
    for change in changes:
        name = bounded(printable(change.name), _TEXT)
        item: dict[str, Any] = {"change": change.kind, "rule": name}
        if change.host:
            item["host"] = bounded(change.host, _TEXT)
        if change.keys:
            item["keys"] = [bounded(key, _TEXT) for key in change.keys[:16]]
        room -= len(encode(item))
        if room < 0:
            break
        listed.append(item)
    return {
        **{kind: _count(changes, kind) for kind in ("added", "removed", "changed")},
        "changes": listed,
    }


def _count(changes: Iterable[Change], kind: str) -> int:
    return sum(change.kind == kind for change in changes)


def _name(rule: Mapping[str, Any]) -> str:
    return str(rule["name"] or rule["host"])


def _differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    keys = {*before, *after} - {"origin"}
    return tuple(sorted(key for key in keys if before.get(key) != after.get(key)))
