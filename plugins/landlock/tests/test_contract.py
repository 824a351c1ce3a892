"""The clauses that every filesystem layer keeps."""

from __future__ import annotations

from typing import Any, ClassVar

import nemoclaw_plugin_landlock
from nemoclaw_hookspecs import Link, Policy
from nemoclaw_testing import FsLayerContract, make_policy, make_rule


class TestContract(FsLayerContract):
    plugin: ClassVar[Any] = nemoclaw_plugin_landlock

    def policies(self) -> tuple[Policy, ...]:
        rules = (
            make_rule("/usr", uid=0, gid=0),
            make_rule("/dev/kvm", "write", "device"),
            make_rule("/run/service", "write", "socket"),
            make_rule("/home/agent/work", "write"),
            make_rule("/home/agent/work/lib/vendor"),
            make_rule("/home/agent/work/lib/vendor/local", "write"),
            make_rule("/home/agent/work/note", "read", "file"),
            make_rule("/home/agent/work/secret", "deny", "missing"),
        )
        links = (Link(path="/bin", target="usr/bin", origin=rules[0].origin),)
        return (
            *super().policies(),
            make_policy(name="kinds", filesystem={"rules": rules, "links": links}),
            make_policy(name="shared", filesystem={"rules": rules, "tmp": "shared"}),
        )
