"""Which rules a host comes under, found in the time that its labels take and not the rules."""

from __future__ import annotations

from functools import lru_cache

from nemoclaw_core import globs

from .addresses import METADATA_NAMES
from .hosts import canonical

_REMEMBERED = 4096
"""Hosts whose rules are kept at hand, and patterns whose one spelling is."""


@lru_cache(maxsize=_REMEMBERED)
def _spelling(pattern: str) -> str:
    """Of an exact one. A policy that is reloaded mostly names the hosts that it named before."""
    return canonical(pattern).text


class HostIndex:
    """Host patterns, by the labels that stand behind their last wildcard.

    :param patterns: in the order of the policy; exact ones are brought into their one spelling.
    :raises ValueError: one is neither a host nor a pattern.
    """

    def __init__(self, patterns: tuple[str, ...]) -> None:
        self._exact: dict[str, list[int]] = {}
        self._wild: dict[str, list[tuple[str, int]]] = {}
        for at, pattern in enumerate(patterns):
            if globs.is_pattern(pattern):
                suffix = pattern.rpartition("*")[2].partition(".")[2]
                globs.matches(pattern, "a", ".")  # raises where it is no pattern
                self._wild.setdefault(suffix, []).append((pattern, at))
            else:
                self._exact.setdefault(_spelling(pattern), []).append(at)
        # An agent asks for the same few hosts again and again.
        self._found = lru_cache(maxsize=_REMEMBERED)(self._find)

    def find(self, host: str, is_address: bool) -> tuple[int, ...]:
        """Positions of the patterns that cover a canonical host, in ascending order.

        A pattern with a wildcard covers no address and no name of a metadata service.
        """
        return self._found(host, is_address)

    def _find(self, host: str, is_address: bool) -> tuple[int, ...]:
        found = list(self._exact.get(host, ()))
        if not is_address and host not in METADATA_NAMES:
            suffix = host
            while suffix and self._wild:
                _, _, suffix = suffix.partition(".")
                for pattern, at in self._wild.get(suffix, ()):
                    if globs.matches(pattern, host, "."):
                        found.append(at)
        return tuple(sorted(found))
