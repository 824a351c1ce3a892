"""The ``http`` and ``deny_http`` entries of rules, compiled, and the requests that they cover."""

from __future__ import annotations

from nemoclaw_core import globs

from . import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from nemoclaw_hookspecs import HttpRule

_OVERRIDES = frozenset({"x-http-method-override", "x-http-method", "x-method-override"})
"""Headers by which many frameworks let a client say another method than that of the request."""


class Entry:
    """One entry: methods, and a pattern of the path's readings.

    GET covers HEAD too. A denial is matched without regard to case and to a slash at the end, since
    to many servers those make no difference.
    """

    __slots__ = ("_deny", "_head", "_methods", "_path", "_pattern", "_rest")

    def __init__(self, rule: HttpRule, *, deny: bool) -> None:
        methods = set(rule.methods)
        if "GET" in methods:
            methods.add("HEAD")
        self._methods = None if "*" in methods else frozenset(methods)
        self._deny = deny
        self._path = rule.path
        found = paths.pattern(rule.path, wide=deny)
        self._pattern = found.casefold() if deny else found
        # Most patterns are a path, or all below one: no need to take those apart each time.
        self._head, star, rest = self._pattern.partition("*")
        whole_tail = star and rest == "*" and self._head.endswith("/")
        self._rest = "below" if whole_tail else "wild" if star else "same"
        globs.matches(self._pattern, "/")  # raises where it is no pattern

    def takes_method(self, method: str) -> bool:
        """Whether the method is one of the entry's."""
        if self._methods is None:
            return True
        return (method.upper() if self._deny else method) in self._methods

    def takes_path(self, reading: str) -> bool:
        """Whether the pattern covers one reading of the path."""
        if not self._deny:
            return self._covers(reading)
        reading = reading.casefold()
        shorter = reading.rstrip("/")
        return self._covers(reading) or (shorter != reading and self._covers(shorter))

    def _covers(self, reading: str) -> bool:
        if not reading.startswith(self._head):
            return False
        if self._rest == "below":
            return True
        if self._rest == "same":
            return len(reading) == len(self._head)
        return globs.matches(self._pattern, reading)

    def __str__(self) -> str:
        methods = "any method" if self._methods is None else "|".join(sorted(self._methods))
        return f"{methods} {self._path}"


def methods_of(method: str, headers: Mapping[str, str]) -> tuple[str, ...]:
    """Every method that a server may take the request for."""
    found = [method]
    for name, value in headers.items():
        if name.lower() in _OVERRIDES:
            found.append(value.strip().upper())
    return tuple(found)
