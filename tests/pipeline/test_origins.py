"""Whatever stands in a plan names the line of the policy behind it, wherever there is one."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from nemoclaw_hookspecs import Gap, LandlockRuleset, Origin, Rlimit
from nemoclaw_testing import make_host, make_policy

from nemoclaw_core.origins import traced
from nemoclaw_core.pipeline import compile_plan

from .conftest import WALLS, Compile, giving, operations

ENABLED = Origin(file="p.toml", line=9, key="plugins.enable[0]")
READ = Origin(file="p.toml", line=3, key="policy.default.filesystem.read")


def policy() -> Any:
    made = make_policy()
    return attrs.evolve(
        made,
        filesystem=attrs.evolve(made.filesystem, origins={"read": READ}),
        plugins=attrs.evolve(made.plugins, origins={"enable[0]": ENABLED}, enable=(WALLS,)),
    )


@pytest.mark.parametrize(
    ("said", "completed"),
    [
        ("", str(ENABLED)),
        ("filesystem.read", str(READ)),
        ("filesystem.tmp", "filesystem.tmp (default)"),
        ("{file} policy.{name}.syscalls.profile", "syscalls.profile (default)"),
        ("{file} filesystem.read", str(READ)),
        ("p.toml:3 policy.default.filesystem.read[0]", None),
        ("nemoclaw: every sandbox has its own /proc", None),
        ("some.words of a plugin", None),
    ],
)
def test_what_a_plugin_leaves_open_is_completed(said: str, completed: str | None) -> None:
    made = policy()
    origin = said.format(file=made.file, name=made.name)
    gap = Gap(what="x", consequence="y", remedy="z", origin=origin)
    assert traced(gap, WALLS, made).origin == (origin if completed is None else completed)


def test_every_part_of_a_plan_is_completed(compiled: Compile) -> None:
    gap = Gap(what="x", consequence="y", remedy="z")
    layer = giving(LandlockRuleset(handled_fs=1), gaps=(gap,))
    best_effort = attrs.evolve(policy(), compatibility="best-effort")
    manager, prepared = compiled.arrange(best_effort, **{WALLS: layer})
    plan = compile_plan(prepared, make_host(), manager)
    (ruleset,) = operations(plan, LandlockRuleset)
    assert ruleset.origin == str(ENABLED)
    assert plan.layers[0].gaps[0].origin == str(ENABLED)
    files = next(each for each in operations(plan, Rlimit) if each.resource == "nofile")
    assert files.origin == "process.max_open_files (default)"
