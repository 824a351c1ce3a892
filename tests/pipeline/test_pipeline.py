"""Claims about compiling a policy into a plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import pytest
from nemoclaw_hookspecs import (
    EnterView,
    Gap,
    Hostname,
    Layer,
    LayerUnavailable,
    LinkUp,
    Operation,
    Origin,
    PluginError,
    PolicyError,
    Proc,
    Rlimit,
    Tmpfs,
    Unshare,
)
from nemoclaw_testing import make_host, make_policy

from nemoclaw_core import seal
from nemoclaw_core.launcher.check import check_plan
from nemoclaw_core.pipeline import compile_plan

from .conftest import VIEW, Compile, giving, toy

if TYPE_CHECKING:
    from types import ModuleType

GAP = Gap(
    what="a moat", consequence="anybody walks in", remedy="dig", origin="policies.toml:4 x.moat"
)


# --- the whole


def test_plugins_are_asked_in_order_of_phase_and_enable(compiled: Compile) -> None:
    asked = []

    def asking(name: str) -> ModuleType:
        def record(hook: str) -> Any:
            def implementation(policy: object, host: object) -> None:
                asked.append((hook, name))

            return implementation

        return toy(**{hook: record(hook) for hook in ("apply_fs", "apply_syscall", "apply_net")})

    compiled(b=asking("b"), a=asking("a"))
    assert asked == [
        (hook, name) for hook in ("apply_net", "apply_fs", "apply_syscall") for name in "ba"
    ]


def test_a_plan_carries_what_the_policy_says(compiled: Compile) -> None:
    policy = make_policy(
        name="careful",
        process={"timeout": 7.5, "environment_set": {"A": "1"}, "environment_pass": ("LANG",)},
    )
    plan = compiled(policy=policy, walls=giving(*VIEW))
    assert plan.policy == "policies.toml:careful"
    assert plan.environment == {"A": "1"}
    assert plan.environment_pass == ("LANG",)
    assert (plan.workdir, plan.home) == ("/home/agent/work", "/home/agent")
    assert plan.timeout == 7.5
    assert plan.compatibility == "strict"
    assert plan.steps == seal.sort_steps(plan.steps)
    assert seal.decode(seal.encode(plan)) == plan
    check_plan(seal.encode(plan))  # the launcher's own judgement


def test_compiling_twice_gives_the_same(compiled: Compile) -> None:
    manager, policy = compiled.arrange(walls=giving(*VIEW))
    host = make_host()
    assert compile_plan(policy, host, manager) == compile_plan(policy, host, manager)


def test_each_layers_status_is_in_the_plan(compiled: Compile) -> None:
    lenient = make_policy(compatibility="best-effort")
    plan = compiled(
        policy=lenient,
        walls=giving(*VIEW),
        extra=giving(gaps=(GAP,)),
        half=giving(Rlimit(resource="nofile", value=1), gaps=(GAP,)),
        idle=toy(apply_fs=lambda policy, host: None),
    )
    found = {layer.plugin: (layer.status, layer.required, layer.gaps) for layer in plan.layers}
    assert found.pop("core")[0] == "partial"
    assert found == {
        "walls": ("full", True, ()),
        "extra": ("none", False, (GAP,)),
        "half": ("partial", False, (GAP,)),
    }
    assert plan.compatibility == "best-effort"


# --- failing closed


@pytest.mark.parametrize("hook", ["apply_net", "apply_fs", "apply_syscall"])
@pytest.mark.parametrize("name", ["walls", "extra"])
def test_a_plugin_that_raises_stops_the_plan(hook: str, name: str, compiled: Compile) -> None:
    def explode(policy: object, host: object) -> None:
        raise RuntimeError("landlock failed")

    plugins = {"walls": giving(*VIEW), name: toy(**{hook: explode})}
    with pytest.raises(PluginError, match=f"'{name}' failed in {hook}.*landlock failed"):
        compiled(policy=make_policy(compatibility="best-effort"), **plugins)


def test_a_plugin_that_refuses_several_things_tells_each(compiled: Compile) -> None:
    told = ("p.toml:3 a: no (yes)", "p.toml:4 b: never")

    def refuse(policy: object, host: object) -> None:
        raise PolicyError("2 problems", problems=told)

    with pytest.raises(PluginError) as caught:
        compiled(walls=giving(*VIEW), extra=toy(apply_syscall=refuse))
    assert caught.value.problems == told
    assert str(caught.value) == (
        "plugin 'extra' refused in apply_syscall: 2 problems\n"
        "  p.toml:3 a: no (yes)\n  p.toml:4 b: never"
    )


def test_a_plugin_that_returns_no_layer_object_stops_the_plan(compiled: Compile) -> None:
    with pytest.raises(PluginError, match="apply_fs returned list"):
        compiled(walls=toy(apply_fs=lambda policy, host: [Tmpfs(target="/x")]))


@pytest.mark.parametrize(
    "layer",
    [
        Layer(operations=[Tmpfs(target="/x")]),  # type: ignore[arg-type]
        Layer(operations=(Tmpfs(target=7),)),  # type: ignore[arg-type]
        Layer(operations=("rm -rf",)),  # type: ignore[arg-type]
        Layer(gaps=(Gap(what="", consequence="c", remedy="r"),)),
        Layer(gaps=(Gap(what="w", consequence="c", remedy=None),)),  # type: ignore[arg-type]
        Layer(gaps=("gap",)),  # type: ignore[arg-type]
        Layer(gaps=[GAP]),  # type: ignore[arg-type]
    ],
    ids=repr,
)
def test_a_malformed_layer_stops_the_plan(layer: Layer, compiled: Compile) -> None:
    with pytest.raises(PluginError) as caught:
        compiled(walls=toy(apply_fs=lambda policy, host: layer))
    assert caught.value.plugin == "walls"
    assert "apply_fs" in caught.value.what


def test_a_required_plugin_must_be_enabled(compiled: Compile) -> None:
    manager, policy = compiled.arrange(walls=giving(*VIEW))
    line = Origin(file="policies.toml", line=9, key="plugins.required[1]")
    table = attrs.evolve(policy.plugins, required=("walls", "moat"), origins={"required[1]": line})
    with pytest.raises(
        PluginError, match="requires plugin 'moat' and does not enable it"
    ) as caught:
        compile_plan(attrs.evolve(policy, plugins=table), make_host(), manager)
    assert caught.value.where == "policies.toml:9 plugins.required[1]"
    assert caught.value.exit_code == 4


def test_an_enabled_plugin_must_be_loaded(compiled: Compile) -> None:
    manager, policy = compiled.arrange(walls=giving(*VIEW))
    table = attrs.evolve(policy.plugins, enable=("walls", "moat"))
    with pytest.raises(PluginError, match="'moat' is enabled and not loaded"):
        compile_plan(attrs.evolve(policy, plugins=table), make_host(), manager)


def test_nothing_else_is_loaded(compiled: Compile) -> None:
    manager, policy = compiled.arrange(walls=giving(*VIEW))
    manager.register(giving(*VIEW), "stowaway")
    with pytest.raises(PluginError, match="'stowaway' is loaded and not enabled"):
        compile_plan(policy, make_host(), manager)


@pytest.mark.parametrize(
    "plugin",
    [
        toy(apply_fs=lambda policy, host: None),
        toy(apply_fs=lambda policy, host: Layer()),
        toy(on_event=lambda event: None),
    ],
    ids=["None", "empty layer", "no layer hook"],
)
@pytest.mark.parametrize("compatibility", ["strict", "best-effort"])
def test_a_required_plugin_must_contribute(
    plugin: ModuleType, compatibility: Any, compiled: Compile
) -> None:
    with pytest.raises(PluginError, match="'walls', which contributes no layer"):
        compiled(policy=make_policy(compatibility=compatibility), walls=plugin)


def test_strict_tells_every_gap_at_once(compiled: Compile) -> None:
    other = Gap(what="a drawbridge", consequence="it stays down", remedy="buy a chain")
    with pytest.raises(LayerUnavailable) as caught:
        compiled(walls=giving(*VIEW, gaps=(GAP,)), extra=giving(gaps=(other,)))
    text = str(caught.value)
    for part in (
        "policies.toml:4 x.moat: a moat (walls): anybody walks in",
        "remedy: dig",
        "a drawbridge (extra): it stays down",
        "remedy: buy a chain",
        "best-effort",
    ):
        assert part in text
    assert caught.value.exit_code == 125


def test_best_effort_goes_on_and_keeps_the_gaps(compiled: Compile) -> None:
    plan = compiled(
        policy=make_policy(compatibility="best-effort"), walls=giving(*VIEW, gaps=(GAP,))
    )
    (walls,) = (layer for layer in plan.layers if layer.plugin == "walls")
    assert walls.gaps == (GAP,)


def test_best_effort_goes_on_when_a_required_plugin_has_only_gaps(compiled: Compile) -> None:
    plan = compiled(policy=make_policy(compatibility="best-effort"), walls=giving(gaps=(GAP,)))
    assert plan.layers[0].status == "none"


@pytest.mark.parametrize(
    ("layer", "told"),
    [
        ((Tmpfs(target="/x"), EnterView()), "Tmpfs without a mount namespace"),
        ((Unshare(namespaces=("mount",)), Tmpfs(target="/x")), "no plugin enters the view"),
        ((*VIEW[:1], LinkUp()), "LinkUp without a network namespace"),
        ((Hostname(name="x"),), "Hostname without a uts namespace"),
        (
            (Unshare(namespaces=("mount",)), Proc(), EnterView()),
            "Proc without a pid namespace",
        ),
    ],
)
def test_a_step_that_would_act_on_the_hosts_namespaces_is_refused(
    layer: tuple[Operation, ...], told: str, compiled: Compile
) -> None:
    with pytest.raises(PluginError, match=told):
        compiled(walls=giving(*layer))


def test_a_plugin_cannot_slip_a_variable_into_the_environment(compiled: Compile) -> None:
    def implementation(policy: Any, host: object) -> Layer:
        policy.process.environment_set["LD_PRELOAD"] = "/evil.so"
        return Layer(operations=VIEW)

    assert compiled(walls=toy(apply_fs=implementation)).environment == {"CI": "1"}
