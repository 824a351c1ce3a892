"""One arrangement for this room: toy plugins that give fixed layers, and the plan they make."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import attrs
import pytest
from nemoclaw_hookspecs import (
    EnterView,
    Gap,
    Layer,
    Operation,
    Plan,
    Policy,
    Tmpfs,
    Unshare,
    hookimpl,
)
from nemoclaw_testing import make_host, make_policy

from nemoclaw_core.pipeline import compile_plan
from nemoclaw_core.plugins import PluginManager

WALLS = "walls"
"""The plugin that a policy requires in these tests; any other is an optional one."""
VIEW = (Unshare(namespaces=("mount", "pid")), Tmpfs(target="/scratch"), EnterView())
"""A layer of a view of its own: what ``walls`` gives where the test is about something else."""


def toy(**hooks: Callable[..., Any]) -> ModuleType:
    """A plugin with the given implementations."""
    module = ModuleType("toy")
    vars(module)["NEMOCLAW_API"] = (1, 0)
    for name, function in hooks.items():
        function.__name__ = name
        vars(module)[name] = hookimpl(function)
    return module


def giving(*operations: Operation, gaps: tuple[Gap, ...] = ()) -> ModuleType:
    """A plugin whose filesystem layer is fixed."""
    return toy(apply_fs=lambda policy, host: Layer(operations=operations, gaps=gaps))


def operations(plan: Plan, kind: type[Operation]) -> list[Any]:
    """The operations of one kind in a plan, in its order."""
    return [step.operation for step in plan.steps if isinstance(step.operation, kind)]


class Compile:
    """Compiles a policy with toy plugins. Each is enabled; ``walls`` is required if it is there."""

    def __call__(self, host: Any = None, policy: Any = None, **plugins: ModuleType) -> Plan:
        manager, prepared = self.arrange(policy, **plugins)
        return compile_plan(prepared, host or make_host(), manager)

    def arrange(self, policy: Any = None, **plugins: ModuleType) -> tuple[PluginManager, Policy]:
        """The manager with the plugins, and the policy that enables them."""
        manager = PluginManager()
        for name, plugin in plugins.items():
            manager.register(plugin, name)
        policy = policy or make_policy()
        table = attrs.evolve(
            policy.plugins,
            enable=tuple(plugins),
            required=tuple(name for name in plugins if name == WALLS),
        )
        return manager, attrs.evolve(policy, plugins=table)


@pytest.fixture
def compiled() -> Compile:
    return Compile()
