"""What the policies of a file permit beyond those that ship, in few lines: for somebody who is
about to vouch for the file, and whom its text may want to mislead."""

from __future__ import annotations

import os
from collections.abc import Iterator

import attrs
from nemoclaw_hookspecs import NemoclawError, Policy

from . import diff
from .context import Context
from .locate import DEFAULT, Located
from .problems import quoted
from .reader import Source
from .resolve import resolve
from .walk import Observer

_POLICIES = 5
_ITEMS = 40
"""Of a domain. The weightiest come first, whatever names an agent has given the others."""
_GRANTS = ("write", "read")
_LONGEST = 110
"""Characters of one item. An agent may have chosen them, so they do not fill a screen."""


def beyond(source: Source, shipped: Source) -> list[str]:
    """A few lines for each policy of a file: what it permits more than, or otherwise than, the
    policy of that name that ships, or else the default one.

    Paths are looked up as a start in the file's directory would. What cannot be told is said.
    """
    context = attrs.evolve(Context.at(os.path.dirname(source.file)), own_code=None)
    # Those that a start without a name, or with the name of one that ships, would use.
    names = sorted(source.document.policy, key=lambda name: _rank(name, shipped))
    lines = [line for name in names[:_POLICIES] for line in _of(name, source, shipped, context)]
    if len(names) > _POLICIES:
        lines.append(f"and {len(names) - _POLICIES} more policies")
    return lines


def _rank(name: str, shipped: Source) -> tuple[bool, bool, str]:
    return name != DEFAULT, name not in shipped.document.policy, name


def _of(name: str, source: Source, shipped: Source, context: Context) -> Iterator[str]:
    other = name if name in shipped.document.policy else DEFAULT
    label = f"{quoted(_short(name))}, compared with the {quoted(other)} that ships"
    try:
        policies: list[Policy] = [
            resolve(Located(source=file, name=each, shipped=shipped), context, Observer())
            for file, each in ((shipped, other), (source, name))
        ]
    except NemoclawError as error:
        yield f"{label}: cannot be told here: {_short(str(error))}"
        return
    found = [each for each in diff.compare(*policies) if each.direction != "less"]
    yield f"{label}: permits {'this besides' if found else 'nothing besides'}"
    for domain in diff.DOMAINS:
        items = sorted((each for each in found if each.domain == domain), key=_weight)
        for each in items[:_ITEMS]:
            yield f"  {'+' if each.direction == 'more' else '~'} {domain}: {_short(each.what)}"
        if len(items) > _ITEMS:
            yield f"  + {domain}: {len(items) - _ITEMS} more"


def _weight(each: diff.Difference) -> tuple[int, int]:
    """Sorts what permits most to the front: writing before reading, a directory before what is
    below it, variables of the environment before numbers."""
    if each.domain == "filesystem":
        path, _, change = each.what.rpartition(": ")
        rank = _GRANTS.index(last) if (last := change.split()[-1]) in _GRANTS else 2
        return rank, path.rstrip("/").count("/")
    return int(each.domain == "process" and not each.what.startswith("environment")), 0


def _short(text: str) -> str:
    text = " ".join(text.split())
    # What is granted stands at the end, behind a path that may be of any length.
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 43]}...{text[-40:]}"
