"""The clauses that every network layer keeps."""

from __future__ import annotations

from typing import Any, ClassVar

import nemoclaw_plugin_netns
from nemoclaw_hookspecs import NetworkRule, Origin, Policy
from nemoclaw_testing import NetLayerContract, make_policy

RULE = NetworkRule(
    host="api.example.org",
    origin=Origin(file="policies.toml", line=9, key="network.allow[0]"),
)


class TestContract(NetLayerContract):
    plugin: ClassVar[Any] = nemoclaw_plugin_netns

    def policies(self) -> tuple[Policy, ...]:
        return (
            *super().policies(),
            make_policy(name="proxy", network={"mode": "proxy", "allow": (RULE,)}),
            make_policy(
                name="lenient-proxy",
                compatibility="best-effort",
                network={"mode": "proxy", "allow": (RULE,)},
            ),
        )
