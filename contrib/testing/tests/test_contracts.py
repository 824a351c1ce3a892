"""Each clause of the contract holds for a good plugin and fails for a bad one."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pluggy
import pytest
from nemoclaw_testing import (
    HOSTS,
    FsLayerContract,
    LayerContract,
    NetLayerContract,
    SyscallLayerContract,
    contracts,
)

Make = Callable[[str], ModuleType]

GOOD = """
NEMOCLAW_API = (1, 0)

@hookimpl
def apply_fs(policy, host):
    if not host.landlock_abi:
        return Layer(gaps=(Gap(what="w", consequence="c", remedy="r"),))
    return Layer(operations=(LandlockRuleset(handled_fs=host.landlock_abi),))
"""
CLAUSES = [name for name in vars(LayerContract) if name.startswith("test_")]


def layer(body: str, *, before: str = "", mark: str = "@hookimpl") -> str:
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return f"NEMOCLAW_API = (1, 0)\n{before}\n{mark}\ndef apply_fs(policy, host):\n{lines}"


RULESET = "return Layer(operations=(LandlockRuleset(handled_fs=1),))"

BAD: dict[str, dict[str, str]] = {
    "test_states_the_version_of_its_contract": {
        "no version": GOOD.replace("NEMOCLAW_API = (1, 0)", ""),
        "a text": GOOD.replace("(1, 0)", "'1.0'"),
        "another major": GOOD.replace("(1, 0)", "(2, 0)"),
        "a newer minor": GOOD.replace("(1, 0)", "(1, 99)"),
        "truth values": GOOD.replace("(1, 0)", "(True, False)"),
    },
    "test_implements_known_hooks_without_options": {
        "not marked": layer(RULESET, mark=""),
        "tryfirst": layer(RULESET, mark="@hookimpl(tryfirst=True)"),
        "trylast": layer(RULESET, mark="@hookimpl(trylast=True)"),
        "optional": layer(RULESET, mark="@hookimpl(optionalhook=True)"),
        "wrapper": layer("return (yield)", mark="@hookimpl(wrapper=True)"),
        "a wrapper elsewhere": GOOD + "@hookimpl(wrapper=True)\ndef on_event():\n    yield\n",
        "a misspelt hook": GOOD + "@hookimpl\ndef aply_net(policy): pass\n",
        "an unknown argument": GOOD + "@hookimpl\ndef apply_net(polcy): pass\n",
    },
    "test_gives_a_layer_or_nothing_on_every_host": {
        "a list": layer("return [LandlockRuleset(handled_fs=1)]"),
        "a subclass": layer("return Mine()", before="class Mine(Layer): pass"),
        "raises on an old kernel": layer(f"host.landlock_abi or 1 / 0\n{RULESET}"),
        "raises without namespaces": layer(f"assert host.namespaces\n{RULESET}"),
        "raises for root": layer(f"assert not host.is_root\n{RULESET}"),
        "knows one machine": layer(f"{{'x86_64': 1}}[host.machine]\n{RULESET}"),
        "needs seccomp": layer(f"assert host.seccomp\n{RULESET}"),
    },
    "test_gives_the_same_for_the_same": {
        "counts": layer(
            "return Layer(operations=(LandlockRuleset(handled_fs=next(number)),))",
            before="import itertools\nnumber = itertools.count()",
        ),
        "follows the hash seed": layer(
            "return Layer(operations=(Unshare(namespaces=tuple({*'abcdefghij'})),))"
        ),
        "reads the environment": layer(
            "return Layer(operations=(Tmpfs(target=os.environ['HOME']),))", before="import os"
        ),
    },
    "test_touches_nothing": {
        "reads a file": layer(f"open('/etc/hostname').read()\n{RULESET}"),
        "reads a file and hides it": layer(
            f"try:\n    open('/etc/hostname')\nexcept OSError:\n    pass\n{RULESET}"
        ),
        "looks a path up": layer(f"os.path.exists('/usr')\n{RULESET}", before="import os"),
        "lists a directory": layer(f"os.listdir('/')\n{RULESET}", before="import os"),
        "uses pathlib": layer(f"pathlib.Path('/usr').is_dir()\n{RULESET}", before="import pathlib"),
        "asks the kernel": layer(f"os.uname()\n{RULESET}", before="import os"),
        "starts a process": layer(
            f"subprocess.run(['true'])\n{RULESET}", before="import subprocess"
        ),
        "opens a socket": layer(f"socket.socket()\n{RULESET}", before="import socket"),
    },
    "test_leaves_its_arguments_alone": {
        "adds to the environment": layer(
            f"policy.process.environment_set['LD_PRELOAD'] = 'x'\n{RULESET}"
        ),
    },
    "test_asks_only_for_operations_of_its_phases": {
        "another phase": layer("return Layer(operations=(SetUser(uid=0, gid=0),))"),
        "no operation": layer("return Layer(operations=('rm',))"),
        "a subclass": layer(
            "return Layer(operations=(Mine(target='/x'),))", before="class Mine(Tmpfs): pass"
        ),
        "a list": layer("return Layer(operations=[LandlockRuleset(handled_fs=1)])"),
        "an origin that is no text": layer(
            "return Layer(operations=(LandlockRuleset(handled_fs=1, origin=None),))"
        ),
    },
    "test_explains_every_gap": {
        part: layer(
            "text = {'what': 'w', 'consequence': 'c', 'remedy': 'r', " + f"{part!r}: ' '}}\n"
            "return Layer(gaps=(Gap(**text),))"
        )
        for part in ("what", "consequence", "remedy")
    }
    | {"a text instead": layer("return Layer(gaps=('no landlock',))")},
    "test_never_calls_nothing_a_whole_layer": {"an empty layer": layer("return Layer()")},
    "test_loads_with_the_contract_alone": {
        "the core": "import nemoclaw_core.state\n" + GOOD,
        "the core, late": layer(f"import nemoclaw_core.state\n{RULESET}"),
        "another plugin": "import nemoclaw_plugin_toy\n" + GOOD,
    },
}


def suite(plugin: object, base: type[LayerContract] = FsLayerContract) -> LayerContract:
    made: LayerContract = type("TestToy", (base,), {"plugin": plugin})()
    return made


class TestAGoodPlugin(FsLayerContract):
    """The suite as a plugin's author uses it."""

    @pytest.fixture(autouse=True)
    def _plugin(self, module: Make) -> None:
        type(self).plugin = module(GOOD)


@pytest.mark.parametrize(
    ("clause", "name"), [(clause, name) for clause, many in BAD.items() for name in many]
)
def test_a_bad_plugin_breaks_its_clause(
    clause: str, name: str, module: Make, tmp_path: Path
) -> None:
    (tmp_path / "nemoclaw_plugin_toy.py").write_text("")
    contract = suite(module(BAD[clause][name]))
    try:
        with pytest.raises((AssertionError, pluggy.PluginValidationError)):
            getattr(contract, clause)()
    finally:
        sys.modules.pop("nemoclaw_plugin_toy", None)  # its file is not there for later tests


def test_every_clause_has_a_plugin_that_breaks_it() -> None:
    assert sorted(BAD) == sorted(CLAUSES)


def test_the_page_names_every_clause_and_counts_the_hosts() -> None:
    page = (Path(__file__).parents[1] / "README.md").read_text()
    assert re.findall(r"^\| `(test_\w+)` \|", page, re.MULTILINE) == CLAUSES
    assert f"on {len(HOSTS)} hosts" in page


def test_an_object_names_where_it_can_be_imported_from(module: Make) -> None:
    source = """
class Plugin:
    NEMOCLAW_API = (1, 0)

    @hookimpl
    def apply_net(self, host):
        return Layer(operations=(Unshare(namespaces=("network",)),))

plugin = Plugin()
"""
    found = module(source)
    made = suite(found.plugin, NetLayerContract)
    with pytest.raises(AssertionError, match="reference"):
        made.test_gives_the_same_for_the_same()
    type(made).reference = f"{found.__name__}:plugin"
    for clause in CLAUSES:
        getattr(made, clause)()


@pytest.mark.parametrize(
    ("base", "hook"),
    [
        (FsLayerContract, "apply_fs"),
        (NetLayerContract, "apply_net"),
        (SyscallLayerContract, "apply_syscall"),
    ],
)
def test_each_suite_asks_its_own_hook(base: type[LayerContract], hook: str, module: Make) -> None:
    plugin = module(f"@hookimpl\ndef {hook}(): return Layer()\n")
    with pytest.raises(AssertionError):
        suite(plugin, base).test_never_calls_nothing_a_whole_layer()
    plugin = module(f"@hookimpl\ndef {hook}(): return None\n")
    suite(plugin, base).test_never_calls_nothing_a_whole_layer()


def test_imports_inside_a_hook_are_no_side_effect(module: Make) -> None:
    plugin = module(layer(f"import wave, sqlite3\n{RULESET}"))
    suite(plugin).test_touches_nothing()


def test_clauses_are_rewritten_to_show_their_values() -> None:
    assert "@pytest_ar" in vars(contracts)
