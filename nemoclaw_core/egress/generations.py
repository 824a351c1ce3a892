"""One policy of the network after another: each compiled from the one before it.

Of a policy with a thousand rules, few change at a time. A rule whose text is known was compiled
already; so a reload costs what has changed.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from nemoclaw_hookspecs import NetworkPolicy, NetworkRule

from .. import seal
from .changes import Change, compare
from .hosts import NotAHost, canonical
from .index import HostIndex
from .rules import Rule, Ruleset

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .written import Written


class Generation:
    """A network policy, compiled. It never changes.

    :param number: of the generation, from 1.
    :param policy: ``FILE:NAME``.
    :param digest: of all that the sandbox is under then, see ``Context.policy_digest``.
    :param before: the generation that it shall replace.
    :raises LauncherError: ``written`` is no encoded network policy.
    :raises ValueError: it is one that was not checked.
    """

    def __init__(
        self,
        written: Written,
        number: int,
        policy: str,
        digest: str = "",
        before: Generation | None = None,
    ) -> None:
        self.number = number
        self.policy = policy
        self.digest = digest
        self._written = written
        known = before._compiled if before is not None else {}
        self._compiled: dict[str, tuple[Rule, tuple[str, int, str]]] = {}
        ordered = []
        for at, (text, origin) in enumerate(zip(written.rules, written.origins, strict=True)):
            found = known.get(text)
            if found is None:
                found = (Rule(seal.decode_value(NetworkRule, written.rule(at))), origin)
            elif found[1] != origin:
                found = (found[0].at(*origin), origin)
            self._compiled[text] = found
            ordered.append(found[0])
        settings = seal.decode_value(NetworkPolicy, {**written.settings, "allow": []})
        self.rules = Ruleset(settings, number, policy.rpartition(":")[2], tuple(ordered))
        self.changes: tuple[Change, ...] = ()
        """What it changes of the generation before."""
        self._changed: HostIndex | None = None
        self._new: list[int] = []
        if before is not None:
            self._compare(before)

    def _compare(self, before: Generation) -> None:
        ours, theirs = self._written, before._written
        gone = [at for at, text in enumerate(theirs.rules) if text not in self._compiled]
        self._new = [at for at, text in enumerate(ours.rules) if text not in before._compiled]
        left, came = [theirs.rule(at) for at in gone], [ours.rule(at) for at in self._new]
        settings = theirs.bare_settings(), ours.bare_settings()
        self.changes = compare(*settings, left, came)
        common = [text for text in ours.rules if text in before._compiled]
        if settings[0] == settings[1] and common == [
            text for text in theirs.rules if text in self._compiled
        ]:
            self._changed = HostIndex(tuple(dict.fromkeys(rule["host"] for rule in left + came)))

    @property
    def settings(self) -> Mapping[str, Any]:
        """The policy, encoded, without its rules."""
        return self._written.settings

    def says(self, written: Written, policy: str) -> bool:
        """Whether a policy is this very one, to the line."""
        return self.policy == policy and self._written == written

    def changes_for(self, host: str) -> bool:
        """Whether it may answer otherwise for a host than the generation before."""
        if self._changed is None:
            return True
        found = _known(host)
        return found is None or bool(self._changed.find(*found))

    def new_rules(self) -> list[NetworkRule]:
        """The rules that are not in the generation before."""
        return [seal.decode_value(NetworkRule, self._written.rule(at)) for at in self._new]


@lru_cache(maxsize=4096)
def _known(host: str) -> tuple[str, bool] | None:
    """The one spelling of a host, and whether it is an address; None: it is no host."""
    try:
        found = canonical(host)
    except NotAHost:
        return None
    return found.text, bool(found.packed)
