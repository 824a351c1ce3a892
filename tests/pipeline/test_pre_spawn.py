"""Claims about pre_spawn: a plugin adds variables to a finished plan, and nothing else."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from nemoclaw_hookspecs import LayerUnavailable, Plan, PluginError
from nemoclaw_testing import make_host

from nemoclaw_core import seal
from nemoclaw_core.pipeline import compile_plan, run_pre_spawn

from .conftest import VIEW, Compile, giving, toy


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
