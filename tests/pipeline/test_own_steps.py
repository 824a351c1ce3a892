"""Claims about the steps that the core itself adds to a plan: privileges, limits, groups."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from nemoclaw_hookspecs import (
    BackendPolicy,
    DropCapabilities,
    Hostname,
    InferenceRule,
    JoinCgroup,
    LandlockRuleset,
    LayerUnavailable,
    NoNewPrivileges,
    Origin,
    Plan,
    Rlimit,
    SeccompFilter,
    SessionKeyring,
    SetUser,
    Unshare,
)
from nemoclaw_testing import make_host, make_policy

from .conftest import VIEW, Compile, giving, operations


def limits(plan: Plan) -> dict[str, int]:
    return {limit.resource: limit.value for limit in operations(plan, Rlimit)}


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
    (gap,) = core.gaps
    assert gap.what == "memory limit of the whole sandbox"
    assert gap.consequence.startswith("4GiB holds for each process (its private data, RLIMIT_DATA)")
    assert gap.consequence.endswith("not for their sum, and there may be 512 processes")


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


ORIGIN = Origin(file="p.toml", line=7, key="policy.p.inference")


@pytest.mark.parametrize(
    ("written", "named"),
    [
        ({"default": "cloud", "origins": {"default": ORIGIN}}, "default"),
        ({"sensitive": "local", "origins": {"sensitive": ORIGIN}}, "sensitive"),
        ({"hosts": ("api.example",), "origins": {"hosts": ORIGIN}}, "hosts"),
        ({"rules": (InferenceRule(labels=("a",), route="deny", origin=ORIGIN),)}, "rules"),
        ({"backends": {"x": BackendPolicy(name="x", type="y", origin=ORIGIN)}}, "backends"),
    ],
)
def test_what_is_written_about_inference_is_a_gap_of_this_version(
    written: dict[str, Any], named: str, compiled: Compile
) -> None:
    policy = make_policy(inference=written, process={"max_memory": 0})
    with pytest.raises(LayerUnavailable) as caught:
        compiled(policy=policy)
    text = str(caught.value)
    assert f"{ORIGIN}: inference ({named}) (core): this version of nemoclaw" in text
    assert "remedy: remove the table" in text
    assert "this host" not in text
    plan = compiled(policy=attrs.evolve(policy, compatibility="best-effort"))
    (gap,) = plan.layers[-1].gaps
    assert (gap.what, gap.origin) == (f"inference ({named})", str(ORIGIN))


def test_a_policy_that_lets_no_prompt_go_has_no_gap(compiled: Compile) -> None:
    written = {"default": "deny", "origins": {"default": ORIGIN}}
    plan = compiled(policy=make_policy(inference=written, process={"max_memory": 0}))
    assert plan.layers[-1].gaps == ()
