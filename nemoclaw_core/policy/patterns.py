"""Paths as a policy writes them: ``~/.ssh``, ``{workdir}/src/**``, ``/lib64?``, ``**/.env``."""

from __future__ import annotations

import re
from typing import Literal

import attrs

from .problems import Misfit, nearest, quoted

Anchor = Literal["root", "workdir", "home"]
VARIABLES: dict[str, Anchor] = {"{workdir}": "workdir", "{home}": "home", "~": "home"}


@attrs.frozen(slots=True)
class PathPattern:
    """A path of the policy, split: where it starts, then the segments below.

    Two patterns are equal when they say the same path, however it was written.
    """

    anchor: Anchor
    segments: tuple[str, ...]
    optional: bool = False
    """Written with a trailing ``?``: no error when nothing is there."""
    text: str = attrs.field(default="", eq=False)

    @property
    def wild(self) -> bool:
        """True when a segment holds a wildcard; else it names one path."""
        return any("*" in segment for segment in self.segments)

    def same_path(self, other: PathPattern) -> bool:
        """True when both name the same path, whether or not it must exist."""
        return (self.anchor, self.segments) == (other.anchor, other.segments)


def path_pattern(text: str) -> PathPattern:
    """Read one path.

    A relative path starts at the work directory. ``.`` and empty segments are left out.

    :raises Misfit: empty, NUL, ``..``, an unknown variable, or ``**`` inside a segment.
    """
    if not text:
        raise Misfit("a path cannot be empty")
    if "\0" in text:
        raise Misfit(f"{quoted(text)} holds a NUL byte")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Misfit(f"{quoted(text)} is not valid Unicode") from None
    optional = text.endswith("?")
    body = text[:-1] if optional else text
    if not body:
        raise Misfit("a path cannot be empty", "the `?` follows a path, for instance /lib64?")
    first, _, rest = body.partition("/")
    anchor: Anchor = "workdir"
    if body.startswith("/"):
        anchor = "root"
    elif first in VARIABLES:
        anchor, body = VARIABLES[first], rest
    elif first.startswith("~"):
        raise Misfit(
            f"{quoted(text)}: the home of another user", "write that directory's path instead"
        )
    _variables(text, body)
    segments = tuple(each for each in body.split("/") if each not in ("", "."))
    for segment in segments:
        if segment == "..":
            raise Misfit(f"{quoted(text)} holds `..`", "write the path that is meant")
        if "**" in segment and segment != "**":
            raise Misfit(f"{quoted(text)}: `**` must stand alone between slashes")
    return PathPattern(anchor, segments, optional, text)


def _variables(text: str, body: str) -> None:
    for name in re.findall(r"\{[^}/]*\}?", body):
        if name in VARIABLES:
            raise Misfit(f"{quoted(text)}: {name} is not at the start, or not followed by a slash")
        near = nearest(name, ["{workdir}", "{home}"])
        hint = f"did you mean {near}?" if near else "there are {workdir} and {home}"
        raise Misfit(f"{quoted(text)}: there is no variable {quoted(name)}", hint)
