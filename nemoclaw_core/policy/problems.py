"""What is wrong in a policy, and where; collected, so that a person sees all of it at once."""

from __future__ import annotations

from typing import NoReturn

import attrs
from nemoclaw_hookspecs import Origin, PolicyError

Key = tuple[str | int, ...]
"""A path of TOML keys and array indexes: ``("policy", "default", "filesystem", "read", 2)``."""


class Misfit(Exception):
    """A value does not fit its place.

    :param what: what is wrong, as a clause about the value: ``is a string, not a list``.
    :param at: where, relative to the value that is being looked at.
    :param depends_on: see :class:`Problem`.
    """

    def __init__(
        self, what: str, remedy: str | None = None, *, at: Key = (), depends_on: str = ""
    ) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy
        self.at = at
        self.depends_on = depends_on


class Misfits(Exception):
    """Several misfits of one table."""

    def __init__(self, found: list[Misfit]) -> None:
        super().__init__(f"{len(found)} misfits")
        self.found = found


@attrs.frozen(slots=True)
class Problem:
    """One thing that makes a policy invalid."""

    origin: Origin
    what: str
    remedy: str | None = None
    depends_on: str = ""
    """What it hangs on besides the policy: a path of this host, or the caller. Somewhere else the
    same policy may be fine. Empty: the policy is wrong anywhere."""

    def __str__(self) -> str:
        text = f"{self.origin}: {self.what}"
        return f"{text} ({self.remedy})" if self.remedy else text


def refuse(problems: list[Problem]) -> NoReturn:
    """Raise one :class:`PolicyError` that lists every problem, in file order, each once."""
    found = sorted(
        dict.fromkeys(problems),
        key=lambda each: (each.origin.file, each.origin.line, each.origin.key),
    )
    files = list(dict.fromkeys(each.origin.file for each in found))
    count = "1 problem" if len(found) == 1 else f"{len(found)} problems"
    raise PolicyError(
        f"{count} in {', '.join(files)}",
        where=str(found[0].origin),
        remedy=found[0].remedy,
        problems=tuple(map(str, found)),
    )


def dotted(key: Key) -> str:
    """``policy.default.filesystem.read[2]``; names that TOML would quote are quoted."""
    text = ""
    for part in key:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            plain = part.replace("-", "").replace("_", "")
            name = part if plain.isascii() and plain.isalnum() else quoted(part)
            text += f".{name}" if text else name
    return text


def quoted(text: str, limit: int = 80) -> str:
    """A value in an error message: on one line, without control characters, of bounded length."""
    cut = text if len(text) <= limit else text[: limit - 3] + "..."
    body = "".join(
        each if each.isprintable() and each not in '"\\' else ascii(each)[1:-1].replace('"', '\\"')
        for each in cut
    )
    return f'"{body}"'


def quoted_path(path: str) -> str:
    """A path of this machine in an error message: whole, unless somebody made it absurdly long."""
    return quoted(path, 512)


def nearest(name: str, known: list[str]) -> str | None:
    """The known name that is most like ``name``, or None when none is."""
    from difflib import get_close_matches

    # Two letters off in a long name is a slip; a shared letter in a short one is not.
    found = get_close_matches(name, known, n=1, cutoff=0.6)
    return found[0] if found else None


def shown_kind(value: object) -> str:
    """What a TOML value is, for a person: ``a string``, ``a table`` ..."""
    for kind, text in (
        (bool, "true or false"),
        (str, "a string"),
        (int, "an integer"),
        (float, "a number"),
        (list, "a list"),
        (dict, "a table"),
    ):
        if isinstance(value, kind):
            return text
    return "a date or time"
