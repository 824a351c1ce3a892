"""A network policy in pieces: each rule as a text of its own, apart from where it is written.

So it travels to a supervisor, which has compiled most of the texts before, and compares them
without taking them apart; and so it has a digest.
"""

from __future__ import annotations

import json
from _blake2 import blake2b
from collections.abc import Mapping
from typing import Any

import attrs
from nemoclaw_hookspecs.errors import LauncherError

from .. import cache


@attrs.frozen(slots=True)
class Written:
    """An encoded policy (:mod:`nemoclaw_core.seal`), taken apart."""

    settings: dict[str, Any]
    """All but its rules."""
    rules: tuple[str, ...]
    """JSON, without their origins."""
    origins: tuple[tuple[str, int, str], ...]
    """File, line and key of each."""

    @classmethod
    def of(cls, network: Mapping[str, Any]) -> Written:
        """Take an encoded policy apart."""
        rules, origins = [], []
        for rule in network["allow"]:
            bare = dict(rule)
            origin = bare.pop("origin")
            rules.append(json.dumps(bare, separators=(",", ":")))
            origins.append((origin["file"], origin["line"], origin["key"]))
        settings = {key: value for key, value in network.items() if key != "allow"}
        return cls(settings, tuple(rules), tuple(origins))

    @classmethod
    def read(cls, data: object) -> Written:
        """What :meth:`as_data` gave. What the texts say is not looked at.

        :raises LauncherError: it is something else.
        """
        if type(data) is not dict or data.keys() != {"settings", "rules", "origins"}:
            raise LauncherError("the policy is malformed: it is not in three parts")
        settings, rules, origins = data["settings"], data["rules"], data["origins"]
        if type(settings) is not dict or "allow" in settings:
            raise LauncherError("the policy is malformed: its settings are no table of settings")
        if type(rules) is not list or type(origins) is not list or len(rules) != len(origins):
            raise LauncherError("the policy is malformed: not every rule has an origin")
        if not all(type(rule) is str for rule in rules):
            raise LauncherError("the policy is malformed: a rule is no text")
        for origin in origins:
            if type(origin) is not list or list(map(type, origin)) != [str, int, str]:
                raise LauncherError("the policy is malformed: an origin is no file, line and key")
        return cls(settings, tuple(rules), tuple(map(tuple, origins)))

    def as_data(self) -> dict[str, Any]:
        """For JSON."""
        return {"settings": self.settings, "rules": self.rules, "origins": self.origins}

    def rule(self, at: int) -> dict[str, Any]:
        """One rule, encoded.

        :raises LauncherError: the text is none.
        """
        try:
            found = json.loads(self.rules[at])
        except (ValueError, RecursionError):
            found = None
        if type(found) is not dict or "origin" in found:
            raise LauncherError("the policy is malformed: a rule's text is none")
        file, line, key = self.origins[at]
        return {**found, "origin": {"file": file, "line": line, "key": key}}

    def digest(self, plan: str) -> str:
        """Of all that a sandbox is under: what it was started from, and this.

        :param plan: the digest of the plan.
        """
        state = blake2b(json.dumps(_bare(self.settings)).encode(), digest_size=32)
        for rule in self.rules:
            # No text of JSON holds a line feed.
            state.update(f"\n{rule}".encode())
        return cache.key(plan, state.hexdigest())

    def bare_settings(self) -> dict[str, Any]:
        """The settings without where they are written."""
        found: dict[str, Any] = _bare(self.settings)
        return found


def _bare(value: Any) -> Any:
    if type(value) is not dict:
        return value
    return {key: _bare(item) for key, item in value.items() if key not in ("origin", "origins")}
