"""What a query's keys, or the members of a JSON value, may be: patterns of keys, and of values.

An allowance is complete: each key that is there has to be covered, each pattern that covers it has
to match, and each key that is written without ``?`` and without a wildcard has to be there. For a
denial it is enough that each key that is written has one value that matches.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence

from nemoclaw_core import globs

Member = tuple[str, "tuple[str, ...]"]
"""A key, and every reading that a server may have of its value."""

_SEPARATOR = re.compile(r"[/\\]")
_SHOWN = 80


class Budget:
    """How many names all patterns together compare for one body, or message.

    :param error: what is raised when it is spent.
    """

    __slots__ = ("_error", "_left")

    MOST = 10_000

    def __init__(self, error: Exception) -> None:
        self._error = error
        self._left = self.MOST

    def spend(self, names: int) -> None:
        """Before they are compared."""
        self._left -= names
        if self._left < 0:
            raise self._error


class Members:
    """Compiled.

    :param pointers: keys are JSON pointers, whose first slash may be left out.
    :raises ValueError: a pattern is none.
    """

    __slots__ = ("_deny", "_pointers", "_required", "_wanted")

    def __init__(self, wanted: Mapping[str, str], *, deny: bool, pointers: bool) -> None:
        self._deny = deny
        self._pointers = pointers
        self._wanted: list[tuple[str, str]] = []
        required = []
        for written, value in wanted.items():
            key = written.removesuffix("?")
            optional = key != written
            if pointers and key and not key.startswith("/"):
                key = f"/{key}"
            if not optional and not globs.is_pattern(key):
                required.append(key)
            globs.matches(key, "")  # both raise where it is no pattern
            globs.matches(value, "")
            self._wanted.append((key.casefold(), value.casefold()) if deny else (key, value))
        self._required = frozenset(required)

    def __len__(self) -> int:
        """How many patterns there are."""
        return len(self._wanted)

    def refusal(self, found: Sequence[Member]) -> str:
        """Why an allowance does not cover these; empty: it does."""
        seen = set()
        for key, readings in found:
            seen.add(key)
            covering = [value for wanted, value in self._wanted if globs.matches(wanted, key)]
            if not covering:
                return f"{shown(key)} is not among those that the rule names"
            for pattern in covering:
                if not all(fits(pattern, reading) for reading in readings):
                    return f"{shown(key)} is not as the rule asks"
        missing = self._required - seen
        return f"{shown(min(missing))} is missing" if missing else ""

    def denies(self, found: Sequence[Member]) -> bool:
        """Whether a denial is for these."""
        known = [(tuple(self._names(key)), tuple(_wide(readings))) for key, readings in found]
        return all(
            any(
                any(globs.matches(wanted, name) for name in names)
                and any(globs.matches(value, reading) for reading in readings)
                for names, readings in known
            )
            for wanted, value in self._wanted
        )

    def _names(self, key: str) -> Iterable[str]:
        """A key, and what a server may take it for: a part of what holds it, or one of a list."""
        key = key.casefold()
        yield key
        if self._pointers:
            while key.count("/") > 1:
                key = key.rpartition("/")[0]
                yield key
        elif "[" in key:
            yield key.partition("[")[0]


def fits(pattern: str, text: str) -> bool:
    """Whether a pattern allows a value. One that climbs (``/srv/../etc``) is allowed only by its
    own text, or by ``**``, which is anything; so is one with a NUL, where some programs end."""
    if pattern in ("**", text):
        return True
    if "\0" in text or _climbs(text):
        return False
    return globs.matches(pattern, text)


def fits_denial(pattern: str, text: str) -> bool:
    """Whether a denial's pattern, in lower case, is for a value."""
    return any(globs.matches(pattern, reading) for reading in _wide((text,)))


def _climbs(text: str) -> bool:
    if "." not in text and "%" not in text:
        return False
    return ".." in _SEPARATOR.split(_unquoted(text))


def _unquoted(text: str) -> str:
    if "%" not in text:
        return text
    from urllib.parse import unquote  # imports much, and is needed by few

    return unquote(text)


def _wide(readings: Iterable[str]) -> Iterable[str]:
    for reading in readings:
        reading = reading.casefold()
        yield reading
        if "\0" in reading:
            yield reading.partition("\0")[0]
        if "/" in reading or "\\" in reading or "%" in reading:
            settled = _unquoted(reading).casefold().replace("\\", "/")
            scheme, colon, rest = settled.rpartition("://")
            path = re.sub("^//", "/", posixpath.normpath(rest))
            yield f"{scheme}{colon}{path}"


def shown(key: str) -> str:
    """A name that the agent has chosen, short enough for a reason, on one line."""
    text = key if len(key) <= _SHOWN else f"{key[: _SHOWN - 3]}..."
    return "".join(each if each.isprintable() else "?" for each in text) or "(empty)"
