"""The clauses that every system call layer keeps."""

from __future__ import annotations

from typing import Any, ClassVar

import nemoclaw_plugin_seccomp
from nemoclaw_hookspecs import Policy
from nemoclaw_testing import SyscallLayerContract, make_policy


class TestSyscallLayer(SyscallLayerContract):
    plugin: ClassVar[Any] = nemoclaw_plugin_seccomp

    def policies(self) -> tuple[Policy, ...]:
        return (
            *super().policies(),
            make_policy(
                name="named",
                process={"gpu": True},
                syscalls={"action": "kill", "allow": ("openat2",), "deny": ("socket",)},
            ),
            make_policy(
                name="log",
                compatibility="best-effort",
                syscalls={"profile": "minimal", "action": "log"},
            ),
        )
