"""What every layer plugin promises, as test classes to subclass.

One test is one clause. A failure names the policy and the host with which the clause was broken.
"""

from __future__ import annotations

import inspect
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any, ClassVar

import attrs
import pluggy
from nemoclaw_hookspecs import API, OPERATIONS, PROJECT, Gap, Host, Layer, Policy, specs

from .forked import run_forked
from .purity import side_effects
from .values import HOSTS, make_policy

_REFUSED = ("wrapper", "hookwrapper", "tryfirst", "trylast", "optionalhook")


class LayerContract:
    """The clauses that hold for every layer. Subclass one of the three below.

    :cvar plugin: the plugin's module or object, as its entry point names it.
    :cvar reference: ``module:object``, for a plugin that is no module.
    """

    plugin: ClassVar[Any]
    reference: ClassVar[str] = ""
    hook: ClassVar[str]
    phases: ClassVar[frozenset[str]]
    hosts: ClassVar[tuple[Host, ...]] = HOSTS

    def policies(self) -> tuple[Policy, ...]:
        """Policies to ask for. Extend it with what the plugin's own keys make interesting."""
        return (
            make_policy(),
            make_policy(name="lenient", compatibility="best-effort"),
            make_policy(
                name="bare",
                filesystem={"rules": (), "tmp": "none"},
                process={"max_memory": 0, "environment_set": {}},
            ),
        )

    def cases(self) -> Iterator[tuple[Policy, Host]]:
        """Every policy on every host; a caller who is root runs its agent under another id."""
        for policy in self.policies():
            switched = attrs.evolve(
                policy, process=attrs.evolve(policy.process, switch_user=True, uid=65533, gid=65533)
            )
            for host in self.hosts:
                yield (switched if host.is_root else policy), host

    def layers(self) -> Iterator[tuple[Layer, Policy, Host]]:
        """The layers that the plugin gives for the cases."""
        for policy, host in self.cases():
            layer = self._ask(policy, host)
            if layer is not None:
                yield layer, policy, host

    def _function(self) -> Any:
        return getattr(self.plugin, self.hook)

    def _arguments(self, policy: Policy, host: Host) -> Mapping[str, Any]:
        given = {"policy": policy, "host": host}
        return {name: given[name] for name in inspect.signature(self._function()).parameters}

    def _ask(self, policy: Policy, host: Host) -> Any:
        return self._function()(**self._arguments(policy, host))

    def _isolated(self, seed: str) -> Any:
        """The answers of an interpreter with another hash seed, environment and directory."""
        reference = self.reference
        if isinstance(self.plugin, ModuleType):
            reference = self.plugin.__name__
        assert reference, "name the plugin as `reference = 'module:object'`"
        done = subprocess.run(
            [sys.executable, "-m", "nemoclaw_testing.isolated", reference, self.hook],
            input=pickle.dumps([self._arguments(policy, host) for policy, host in self.cases()]),
            capture_output=True,
            cwd="/",
            env={
                "PATH": os.environ.get("PATH", ""),
                "PYTHONPATH": os.pathsep.join(sys.path),
                "PYTHONHASHSEED": seed,
                "HOME": "/nonexistent",
            },
        )
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout)

    def test_states_the_version_of_its_contract(self) -> None:
        """``NEMOCLAW_API`` is a pair of numbers that this version of the contract serves."""
        written = getattr(self.plugin, "NEMOCLAW_API", None)
        assert isinstance(written, tuple)
        assert list(map(type, written)) == [int, int]
        assert written[0] == API[0]
        assert written <= API

    def test_implements_known_hooks_without_options(self) -> None:
        """Every marked function is a hook of the contract, and none asks for a place in line."""
        manager = pluggy.PluginManager(PROJECT)
        manager.add_hookspecs(specs)
        manager.register(self.plugin)
        manager.check_pending()
        found = [
            (name, implementation)
            for name, caller in vars(manager.hook).items()
            for implementation in caller.get_hookimpls()
        ]
        assert self.hook in [name for name, _ in found], f"no @hookimpl {self.hook}"
        for name, implementation in found:
            for option in _REFUSED:
                assert not getattr(implementation, option), f"{name} is marked with {option}"

    def test_gives_a_layer_or_nothing_on_every_host(self) -> None:
        """No host makes it raise, and what it returns is a Layer or None."""
        for policy, host in self.cases():
            try:
                answer = self._ask(policy, host)
            except Exception as error:
                raise AssertionError(f"raised {error!r} for {policy.name} on {host}") from error
            assert answer is None or type(answer) is Layer, f"for {policy.name} on {host}"

    def test_gives_the_same_for_the_same(self) -> None:
        """The answer depends on the arguments alone: it is cached, and compared in reviews."""
        for policy, host in self.cases():
            first, second = self._ask(policy, host), self._ask(policy, host)
            assert first == second, f"for {policy.name} on {host}"
        here = [repr(self._ask(policy, host)) for policy, host in self.cases()]
        for seed in ("1", "2"):
            there = self._isolated(seed)["answers"]
            for (policy, host), one, other in zip(self.cases(), here, there, strict=True):
                assert one == other, f"another interpreter differs for {policy.name} on {host}"

    def test_touches_nothing(self) -> None:
        """It reads no file, asks the machine nothing, starts nothing, connects to nothing."""
        cases = list(self.cases())

        def ask_all() -> None:
            for policy, host in cases:
                self._ask(policy, host)

        assert run_forked(side_effects, ask_all) == ()

    def test_leaves_its_arguments_alone(self) -> None:
        """The next plugin gets the same policy and host."""
        for policy, host in self.cases():
            before = repr((policy, host))
            self._ask(policy, host)
            assert repr((policy, host)) == before

    def test_asks_only_for_operations_of_its_phases(self) -> None:
        """The set of operations is closed, and each layer keeps to its own part of it."""
        for layer, _, host in self.layers():
            assert type(layer.operations) is tuple
            for operation in layer.operations:
                assert type(operation) in OPERATIONS, f"{operation} on {host}"
                assert operation.phase in self.phases, f"{operation} on {host}"
                assert isinstance(operation.origin, str)

    def test_explains_every_gap(self) -> None:
        """What is missing, what follows from it, and what the reader can do."""
        for layer, policy, host in self.layers():
            assert type(layer.gaps) is tuple
            for gap in layer.gaps:
                assert type(gap) is Gap
                for part in ("what", "consequence", "remedy"):
                    text = getattr(gap, part)
                    assert isinstance(text, str), f"{part} of {gap}"
                    assert text.strip(), f"no {part} in {gap} for {policy.name} on {host}"

    def test_never_calls_nothing_a_whole_layer(self) -> None:
        """A layer without operations has gaps; a plugin that has nothing to do gives None."""
        for layer, policy, host in self.layers():
            assert layer.operations or layer.gaps, f"for {policy.name} on {host}"

    def test_loads_with_the_contract_alone(self) -> None:
        """It imports neither the core nor another plugin."""
        assert self._isolated("0")["imported"] == []


class FsLayerContract(LayerContract):
    """For a plugin that implements ``apply_fs``."""

    hook = "apply_fs"
    phases = frozenset({"namespaces", "mounts", "landlock"})


class NetLayerContract(LayerContract):
    """For a plugin that implements ``apply_net``."""

    hook = "apply_net"
    phases = frozenset({"namespaces", "mounts", "network", "landlock", "seccomp"})


class SyscallLayerContract(LayerContract):
    """For a plugin that implements ``apply_syscall``."""

    hook = "apply_syscall"
    phases = frozenset({"resources", "identity", "seccomp"})
