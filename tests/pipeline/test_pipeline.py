"""Claims about compiling a policy into a plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import pytest
from nemoclaw_hookspecs import (
    DropCapabilities,
    EnterView,
    Gap,
    Hostname,
    JoinCgroup,
    LandlockRuleset,
    Layer,
    LayerUnavailable,
    LinkUp,
    NoNewPrivileges,
    Operation,
    Origin,
    Plan,
    PluginError,
    Proc,
    Rlimit,
    SeccompFilter,
    SessionKeyring,
    SetUser,
    Tmpfs,
    Unshare,
)
from nemoclaw_testing import make_host, make_policy

from nemoclaw_core import seal
from nemoclaw_core.launcher.check import check_plan
from nemoclaw_core.pipeline import compile_plan, run_pre_spawn

from .conftest import Compile, giving, toy

if TYPE_CHECKING:
    from types import ModuleType

VIEW = (Unshare(namespaces=("mount", "pid")), Tmpfs(target="/scratch"), EnterView())
GAP = Gap(
    what="a moat", consequence="anybody walks in", remedy="dig", origin="policies.toml:4 x.moat"
)


def operations(plan: Plan, kind: type[Operation]) -> list[Any]:
    return [step.operation for step in plan.steps if isinstance(step.operation, kind)]


def limits(plan: Plan) -> dict[str, int]:
    return {limit.resource: limit.value for limit in operations(plan, Rlimit)}


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


# --- the core's own steps


def test_the_core_drops_every_privilege_last(compiled: Compile) -> None:
    plan = compiled(
        walls=giving(
            SeccompFilter(architecture="x86_64", bpf=b"\0" * 8), LandlockRuleset(handled_fs=1)
        )
    )
    assert [type(step.operation) for step in plan.steps if step.operation.phase != "resources"] == [
        SessionKeyring,
        DropCapabilities,
        NoNewPrivileges,
        LandlockRuleset,
        SeccompFilter,
    ]
    assert {step.plugin for step in plan.steps} == {"walls", "core"}


def test_a_user_namespace_is_made_for_whoever_is_not_root(compiled: Compile) -> None:
    for uid, expected in ((1000, True), (0, False)):
        host = make_host(uid=uid, cgroup="v2", cgroup_paths=(("pids", "/sys/fs/cgroup/n"),))
        plan = compiled(host=host, walls=giving(*VIEW))
        asked = {name for each in operations(plan, Unshare) for name in each.namespaces}
        assert ("user" in asked) is expected
    plan = compiled(walls=giving(Rlimit(resource="nofile", value=9)))
    assert operations(plan, Unshare) == []


def test_the_host_name_is_set_only_in_a_namespace_of_its_own(compiled: Compile) -> None:
    assert operations(compiled(walls=giving(*VIEW)), Hostname) == []
    uts = Unshare(namespaces=("uts",))
    assert operations(compiled(walls=giving(uts)), Hostname) == [Hostname(origin="core")]
    named = compiled(walls=giving(uts, Hostname(name="moat")))
    assert operations(named, Hostname) == [Hostname(name="moat")]


def test_limits_come_from_the_policy_with_their_line(compiled: Compile) -> None:
    origin = Origin(file="policies.toml", line=12, key="process.max_open_files")
    policy = make_policy(
        process={
            "max_open_files": 77,
            "max_processes": 33,
            "max_memory": 1 << 20,
            "origins": {"max_open_files": origin},
        }
    )
    plan = compiled(policy=policy, walls=giving(*VIEW))
    assert limits(plan) == {
        "nofile": 77,
        "nproc": 33,
        "data": 1 << 20,
        "core": 0,
        "memlock": 8 << 20,
    }
    origins = {limit.resource: limit.origin for limit in operations(plan, Rlimit)}
    assert origins["nofile"] == "policies.toml:12 process.max_open_files"
    assert origins["nproc"] == "process.max_processes (default)"
    assert "no memory cgroup" in origins["data"]


def test_a_memory_limit_without_a_group_is_told_and_stops_nothing(compiled: Compile) -> None:
    (core,) = (each for each in compiled(walls=giving(*VIEW)).layers if each.plugin == "core")
    assert (core.hook, core.status, core.required) == ("process", "partial", False)
    assert [gap.what for gap in core.gaps] == ["memory limit of the whole sandbox"]


def test_no_memory_limit_means_none(compiled: Compile) -> None:
    plan = compiled(policy=make_policy(process={"max_memory": 0}), walls=giving(*VIEW))
    assert "data" not in limits(plan)
    assert plan.layers[-1].status == "full"


def test_cgroup_v2_takes_one_group_for_both_controllers(compiled: Compile) -> None:
    parent = "/sys/fs/cgroup/nemoclaw"
    host = make_host(cgroup="v2", cgroup_paths=(("pids", parent), ("memory", parent)))
    plan = compiled(host=host, walls=giving(*VIEW))
    (group,) = operations(plan, JoinCgroup)
    assert group.parent == parent
    assert group.settings == (("pids.max", "512"), ("memory.max", str(4 << 30)))
    assert "data" not in limits(plan)
    assert plan.layers[-1].status == "full"


def test_cgroup_v1_takes_a_group_in_each_hierarchy(compiled: Compile) -> None:
    host = make_host(
        uid=0,
        cgroup="v1",
        cgroup_paths=(("memory", "/sys/fs/cgroup/memory"), ("pids", "/sys/fs/cgroup/pids")),
    )
    plan = compiled(host=host, walls=giving(*VIEW))
    assert [(group.parent, group.settings) for group in operations(plan, JoinCgroup)] == [
        ("/sys/fs/cgroup/pids", (("pids.max", "512"),)),
        ("/sys/fs/cgroup/memory", (("memory.limit_in_bytes", str(4 << 30)),)),
    ]


@pytest.mark.parametrize("switch", [False, True])
def test_root_needs_a_group_to_limit_processes(switch: bool, compiled: Compile) -> None:
    policy = make_policy(process={"switch_user": switch, "uid": 65533, "gid": 65533})
    bare = make_host(uid=0, gid=0)
    with pytest.raises(LayerUnavailable, match=r"process\.max_processes.*process limit \(core\)"):
        compiled(host=bare, policy=policy, walls=giving(*VIEW))
    lenient = attrs.evolve(policy, compatibility="best-effort")
    plan = compiled(host=bare, policy=lenient, walls=giving(*VIEW))
    assert "process limit" in [gap.what for gap in plan.layers[-1].gaps]
    grouped = attrs.evolve(bare, cgroup="v1", cgroup_paths=(("pids", "/sys/fs/cgroup/pids"),))
    plan = compiled(host=grouped, policy=policy, walls=giving(*VIEW))
    assert "nproc" not in limits(plan)


def test_an_agent_of_root_becomes_somebody_else_before_it_loses_the_right(
    compiled: Compile,
) -> None:
    policy = make_policy(process={"switch_user": True, "uid": 65533, "gid": 65532})
    host = make_host(uid=0, cgroup="v1", cgroup_paths=(("pids", "/sys/fs/cgroup/pids"),))
    plan = compiled(host=host, policy=policy, walls=giving(*VIEW))
    identity = [step.operation for step in plan.steps if step.operation.phase == "identity"]
    assert [type(each) for each in identity] == [
        SessionKeyring,
        SetUser,
        DropCapabilities,
        NoNewPrivileges,
    ]
    (user,) = operations(plan, SetUser)
    assert (user.uid, user.gid) == (65533, 65532)


# --- pre_spawn


def pre_spawn(compiled: Compile, **hooks: Any) -> tuple[Plan, Plan]:
    plugins = {name: toy(pre_spawn=function) for name, function in hooks.items()}
    manager, policy = compiled.arrange(walls=giving(*VIEW), **plugins)
    plan = compile_plan(policy, make_host(), manager)
    return plan, run_pre_spawn(plan, manager)


def adding(**more: Any) -> Any:
    return lambda plan: attrs.evolve(plan, environment={**plan.environment, **more})


def test_pre_spawn_adds_to_the_environment_in_order(compiled: Compile) -> None:
    before, after = pre_spawn(
        compiled,
        one=adding(TEAM="red", ONE="1"),
        silent=lambda plan: None,
        two=lambda plan: attrs.evolve(
            plan, environment={**plan.environment, "SEEN": plan.environment["TEAM"]}
        ),
    )
    assert after.environment == {"CI": "1", "TEAM": "red", "ONE": "1", "SEEN": "red"}
    assert attrs.evolve(after, environment={}) == attrs.evolve(before, environment={})
    assert before.environment == {"CI": "1"}
    seal.encode(after)


def dropping_steps(plan: Plan) -> Plan:
    return attrs.evolve(plan, steps=plan.steps[:-1])


def moving_steps(plan: Plan) -> Plan:
    return attrs.evolve(plan, steps=tuple(reversed(plan.steps)))


def reaching_in(plan: Plan) -> None:
    object.__setattr__(plan, "steps", ())


def reaching_deep(plan: Plan) -> None:
    own = next(step for step in plan.steps if step.plugin == "core")
    object.__setattr__(own.operation, "origin", "nowhere")


def spoiling(plan: Plan) -> None:
    object.__setattr__(plan, "layers", None)


@pytest.mark.parametrize(
    "function",
    [
        dropping_steps,
        moving_steps,
        reaching_in,
        reaching_deep,
        spoiling,
        *(
            lambda plan, change=change: attrs.evolve(plan, **change)
            for change in (
                {"layers": ()},
                {"environment_pass": ("AWS_SECRET_ACCESS_KEY",)},
                {"workdir": "/"},
                {"home": "/"},
                {"timeout": 0.1},
                {"compatibility": "best-effort"},
                {"policy": "other"},
            )
        ),
    ],
)
def test_pre_spawn_changes_nothing_but_the_environment(function: Any, compiled: Compile) -> None:
    def implementation(plan: Plan) -> Any:
        return function(plan)

    with pytest.raises(PluginError, match="'sly': pre_spawn changed more"):
        pre_spawn(compiled, sly=implementation)


@pytest.mark.parametrize(
    "more", [{"": "x"}, {"A=B": "x"}, {"A": "s3cret\0"}, {"A": 1}, {1: "x"}, {"A\0": "x"}]
)
def test_pre_spawn_sets_only_what_can_be_a_variable(more: Any, compiled: Compile) -> None:
    def implementation(plan: Plan) -> Plan:
        return attrs.evolve(plan, environment={**plan.environment, **more})

    with pytest.raises(PluginError, match="'sly': pre_spawn set a variable") as caught:
        pre_spawn(compiled, sly=implementation)
    assert "s3cret" not in str(caught.value)


def test_pre_spawn_cannot_change_the_environment_behind_the_plan(compiled: Compile) -> None:
    def implementation(plan: Plan) -> None:
        plan.environment["LD_PRELOAD"] = "/evil.so"  # type: ignore[index]

    with pytest.raises(PluginError, match="'sly' failed in pre_spawn: TypeError"):
        pre_spawn(compiled, sly=implementation)


def test_pre_spawn_may_refuse(compiled: Compile) -> None:
    def implementation(plan: Plan) -> None:
        raise LayerUnavailable("not on Fridays", remedy="come back on Monday")

    with pytest.raises(
        PluginError, match="'strict' refused in pre_spawn: not on Fridays"
    ) as caught:
        pre_spawn(compiled, strict=implementation)
    assert caught.value.remedy == "come back on Monday"
