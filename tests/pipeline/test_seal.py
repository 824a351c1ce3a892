"""Claims about the encoded form of a plan."""

from __future__ import annotations

import base64
import copy
import json
import marshal
import typing
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nemoclaw_hookspecs import (
    OPERATIONS,
    PHASES,
    BindMount,
    DropCapabilities,
    EnterView,
    Gap,
    LandlockRule,
    LandlockRuleset,
    LauncherError,
    LayerStatus,
    LinkUp,
    Mask,
    NoNewPrivileges,
    Operation,
    Plan,
    Proc,
    Rlimit,
    SeccompFilter,
    Step,
    Symlink,
    Tmpfs,
    Unshare,
)

from nemoclaw_core import seal


def every_field(kind: type, **given: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Values of an attrs class in which each field, defaulted ones too, is drawn by its type."""
    hints = typing.get_type_hints(kind)
    drawn = {
        field.name: st.from_type(hints[field.name])
        for field in attrs.fields(kind)
        if field.name not in given
    }
    return st.builds(kind, **given, **drawn)


for nested in (LandlockRule, Gap, LayerStatus):
    st.register_type_strategy(nested, every_field(nested))

operations = st.one_of([every_field(kind) for kind in OPERATIONS])
steps = st.builds(Step, plugin=st.text(), operation=operations)
finite = st.floats(allow_nan=False, allow_infinity=False)
plans = every_field(Plan, steps=st.lists(steps).map(tuple), timeout=finite)

BUILTINS = (str, int, float, bool, bytes, type(None))


def only_builtins(value: object) -> bool:
    if type(value) is list:
        return all(map(only_builtins, value))
    if type(value) is dict:
        return all(type(k) is str and only_builtins(v) for k, v in value.items())
    return type(value) in BUILTINS


@pytest.mark.parametrize("kind", OPERATIONS, ids=lambda kind: kind.__name__)
def test_every_operation_survives_the_round_trip(kind: type[Operation]) -> None:
    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(every_field(kind))
    def check(operation: Operation) -> None:
        plan = Plan(policy="p", steps=(Step(plugin="x", operation=operation),), layers=())
        assert seal.decode(seal.encode(plan)) == plan

    check()


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(plans)
def test_a_plan_survives_the_round_trip_through_marshal(plan: Plan) -> None:
    encoded = seal.encode(plan)
    assert only_builtins(encoded)
    assert marshal.loads(marshal.dumps(encoded)) == encoded
    again = seal.decode(marshal.loads(marshal.dumps(encoded)))
    assert again == attrs.evolve(plan, steps=seal.sort_steps(plan.steps))
    assert seal.encode(again) == encoded
    assert json.loads(seal.to_json(plan))["policy"] == plan.policy


def small_plan() -> Plan:
    return Plan(
        policy="policies.toml:default",
        steps=tuple(
            Step(plugin="x", operation=operation)
            for operation in (
                SeccompFilter(architecture="x86_64", bpf=b"\x06\0\0\0\0\0\0\0"),
                NoNewPrivileges(),
                LandlockRuleset(
                    handled_fs=7, rules=(LandlockRule(path="/usr", access=5),), ports=((80, 2),)
                ),
                BindMount(source="/a", target="/a", kind="directory", owner=(1, 2)),
                Unshare(namespaces=("user", "mount")),
            )
        ),
        layers=(
            LayerStatus(
                plugin="x",
                hook="apply_fs",
                status="partial",
                required=True,
                gaps=(Gap(what="w", consequence="c", remedy="r", origin="o"),),
            ),
        ),
        environment={"CI": "1"},
        environment_pass=("LANG",),
        workdir="/w",
        home="/h",
        timeout=1.5,
        compatibility="best-effort",
    )


def test_the_encoded_form_is_the_agreed_one() -> None:
    encoded = seal.encode(small_plan())
    assert encoded == {
        "version": 1,
        "policy": "policies.toml:default",
        "steps": [
            {"op": "unshare", "plugin": "x", "origin": "", "namespaces": ["user", "mount"]},
            {
                "op": "bind_mount",
                "plugin": "x",
                "origin": "",
                "source": "/a",
                "target": "/a",
                "kind": "directory",
                "read_only": True,
                "owner": [1, 2],
            },
            {"op": "no_new_privileges", "plugin": "x", "origin": ""},
            {
                "op": "landlock_ruleset",
                "plugin": "x",
                "origin": "",
                "handled_fs": 7,
                "handled_net": 0,
                "scoped": 0,
                "restrict_flags": 0,
                "rules": [{"path": "/usr", "access": 5, "origin": ""}],
                "ports": [[80, 2]],
            },
            {
                "op": "seccomp_filter",
                "plugin": "x",
                "origin": "",
                "architecture": "x86_64",
                "bpf": b"\x06\0\0\0\0\0\0\0",
                "name": "agent",
            },
        ],
        "layers": [
            {
                "plugin": "x",
                "hook": "apply_fs",
                "status": "partial",
                "required": True,
                "gaps": [{"what": "w", "consequence": "c", "remedy": "r", "origin": "o"}],
                "notes": [],
            }
        ],
        "environment": {"CI": "1"},
        "environment_pass": ["LANG"],
        "workdir": "/w",
        "home": "/h",
        "timeout": 1.5,
        "compatibility": "best-effort",
        "services": [],
    }


def test_json_shows_bytes_as_base64() -> None:
    shown = json.loads(seal.to_json(small_plan()))
    assert base64.b64decode(shown["steps"][-1]["bpf"]["base64"]) == b"\x06\0\0\0\0\0\0\0"


def places(value: object) -> list[tuple[dict[str, Any], str]]:
    """Every (table, key) in an encoded plan."""
    found: list[tuple[dict[str, Any], str]] = []
    if type(value) is dict:
        found += [(value, key) for key in value]
        for item in value.values():
            found += places(item)
    elif type(value) is list:
        for item in value:
            found += places(item)
    return found


FREE_TABLE = "environment"  # its keys are the policy's, so none is missing or unknown


@pytest.mark.parametrize("index", range(len(places(seal.encode(small_plan())))))
def test_a_missing_unknown_or_ill_typed_field_is_refused(index: int) -> None:
    def broken() -> tuple[dict[str, Any], dict[str, Any], str]:
        encoded = copy.deepcopy(seal.encode(small_plan()))
        table, key = places(encoded)[index]
        return encoded, table, key

    encoded, table, key = broken()
    free = table is encoded[FREE_TABLE]
    if not free:
        del table[key]
        with pytest.raises(LauncherError, match="malformed"):
            seal.decode(encoded)

        encoded, table, key = broken()
        table[f"{key}_more"] = table[key]
        with pytest.raises(LauncherError, match="unknown field"):
            seal.decode(encoded)

    for wrong in (object(), ("a",), {1: 2}, True if type(table[key]) is not bool else 1, [None]):
        encoded, table, key = broken()
        table[key] = wrong
        with pytest.raises(LauncherError):
            seal.decode(encoded)


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_decode_refuses_anything_that_is_no_plan(data: object) -> None:
    with pytest.raises(LauncherError):
        seal.decode(data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "version"),
        ({"version": True}, "version"),
        ({"compatibility": "lenient"}, "compatibility"),
        ({"timeout": float("nan")}, "timeout"),
        ({"timeout": float("inf")}, "timeout"),
        ({"steps": [{"op": "run_shell", "plugin": "x"}]}, "run_shell"),
        ({"steps": [{"plugin": "x"}]}, "operation name"),
        ({"steps": ["unshare"]}, "operation name"),
    ],
)
def test_decode_names_what_is_wrong(change: dict[str, Any], message: str) -> None:
    with pytest.raises(LauncherError, match=message):
        seal.decode({**seal.encode(small_plan()), **change})


def test_decode_refuses_steps_out_of_order() -> None:
    encoded = seal.encode(small_plan())
    encoded["steps"].reverse()
    with pytest.raises(LauncherError, match="out of order"):
        seal.decode(encoded)


class Sneaky(BindMount):
    """A subclass that claims to be a mount."""


@pytest.mark.parametrize(
    "operation",
    [
        Sneaky(source="/", target="/", kind="directory"),
        BindMount(source="/", target="/", kind="directory", read_only="no"),  # type: ignore[arg-type]
        BindMount(source="/", target="/", kind="pipe"),  # type: ignore[arg-type]
        BindMount(source="/", target="/", kind="file", owner=(1, 2, 3)),  # type: ignore[arg-type]
        Rlimit(resource="nofile", value=True),
        Unshare(namespaces=["mount"]),  # type: ignore[arg-type]
        Tmpfs(target=b"/tmp"),  # type: ignore[arg-type]
        object(),
    ],
    ids=lambda operation: type(operation).__name__,
)
def test_encode_and_check_refuse_what_does_not_fit(operation: Any) -> None:
    with pytest.raises(LauncherError):
        seal.check(operation)
    with pytest.raises(LauncherError):
        seal.encode(Plan(policy="p", steps=(Step(plugin="x", operation=operation),), layers=()))


def ordered(*asked: Operation) -> list[Operation]:
    return [
        step.operation
        for step in seal.sort_steps(Step(plugin="x", operation=each) for each in asked)
    ]


@settings(max_examples=100, deadline=None)
@given(st.lists(steps))
def test_phases_come_in_order_and_keep_the_order_given(given_steps: list[Step]) -> None:
    result = seal.sort_steps(given_steps)
    phases = [PHASES.index(step.operation.phase) for step in result]
    assert phases == sorted(phases)
    for phase in PHASES:
        if phase != "mounts":
            before = [id(s) for s in given_steps if s.operation.phase == phase]
            assert [id(s) for s in result if s.operation.phase == phase] == before
    assert sorted(map(id, result)) == sorted(map(id, given_steps))


def test_a_parents_mount_precedes_its_childrens() -> None:
    root = Tmpfs(target="/")
    work = BindMount(source="/w/d", target="/w/d", kind="directory")
    island = BindMount(source="/w/d/ro/x", target="/w/d/ro/x", kind="directory")
    mask = Mask(target="/w/d/secret", kind="directory")
    link = Symlink(target="/bin", text="usr/bin")
    enter = EnterView()
    assert ordered(enter, island, mask, Proc(), work, link, root) == [
        root,
        Proc(),
        link,
        work,
        mask,
        island,
        enter,
    ]


def test_a_mask_lies_on_top_of_what_it_hides() -> None:
    mask = Mask(target="/w/d", kind="directory")
    bind = BindMount(source="/w/d", target="/w/d", kind="directory")
    assert ordered(mask, bind) == [bind, mask]


def test_the_view_is_entered_after_every_mount_and_before_the_network() -> None:
    deep = Tmpfs(target="/" + "a/" * 40)
    assert ordered(LinkUp(), EnterView(), deep, DropCapabilities()) == [
        deep,
        EnterView(),
        LinkUp(),
        DropCapabilities(),
    ]
