"""Claims about several plugins: they can only narrow what the policy and the required ones give."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nemoclaw_hookspecs import (
    BindMount,
    Devices,
    Directory,
    DropCapabilities,
    EnterView,
    FileMount,
    JoinCgroup,
    LandlockRule,
    LandlockRuleset,
    LinkUp,
    Mask,
    NoNewPrivileges,
    Operation,
    Plan,
    PluginError,
    Proc,
    Rlimit,
    SeccompFilter,
    SessionKeyring,
    SetUser,
    Symlink,
    Tmpfs,
    Unshare,
)
from nemoclaw_testing import make_host, make_policy, make_rule

from .conftest import Compile, giving

WORK = "/home/agent/work"
NAMESPACES = Unshare(namespaces=("mount", "pid", "network"))


def bind(path: str, source: str = "", **changes: Any) -> BindMount:
    return BindMount(**{"source": source or path, "target": path, "kind": "directory", **changes})


VIEW = (
    NAMESPACES,
    bind("/usr"),
    bind(WORK, read_only=False),
    bind(f"{WORK}/vendor"),
    Mask(target=f"{WORK}/.env", kind="file"),
    Proc(),
    Devices(),
    EnterView(),
)


def mounts(plan: Plan) -> dict[str, Operation]:
    return {
        step.operation.target: step.operation
        for step in plan.steps
        if isinstance(step.operation, (BindMount, Mask))
    }


def of(plan: Plan, kind: type[Operation]) -> list[Any]:
    return [step.operation for step in plan.steps if isinstance(step.operation, kind)]


# --- combination


def test_rulesets_and_filters_add_up(compiled: Compile) -> None:
    rules = [LandlockRuleset(handled_fs=bits) for bits in (1, 1, 2)]
    filters = [SeccompFilter(architecture="x86_64", bpf=b"\0" * 8, name=n) for n in "ab"]
    plan = compiled(walls=giving(rules[0], filters[0]), extra=giving(*rules[1:], filters[1]))
    assert of(plan, LandlockRuleset) == rules
    assert of(plan, SeccompFilter) == filters


def test_the_lowest_limit_holds_whoever_asks(compiled: Compile) -> None:
    for value, expected in ((10, 10), (1 << 20, 4096)):
        plan = compiled(walls=giving(*VIEW), extra=giving(Rlimit(resource="nofile", value=value)))
        (limit,) = (each for each in of(plan, Rlimit) if each.resource == "nofile")
        assert limit.value == expected


def test_a_core_dump_cannot_be_switched_on(compiled: Compile) -> None:
    plan = compiled(walls=giving(Rlimit(resource="core", value=1 << 30)))
    assert [each.value for each in of(plan, Rlimit) if each.resource == "core"] == [0]


@pytest.mark.parametrize("first", ["walls", "extra"])
def test_of_two_mounts_of_one_path_the_read_only_one_holds(first: str, compiled: Compile) -> None:
    plugins = {
        "walls": giving(*VIEW),
        "extra": giving(bind(WORK, read_only=True, origin="policies.toml:40 extra")),
    }
    order = [first, *(name for name in plugins if name != first)]
    plan = compiled(**{name: plugins[name] for name in order})
    mount = mounts(plan)[WORK]
    assert isinstance(mount, BindMount)
    assert mount.read_only is True
    assert len([each for each in of(plan, BindMount) if each.target == WORK]) == 1


def test_an_id_mapped_mount_stays_one_when_another_plugin_narrows_it(compiled: Compile) -> None:
    mapped = bind(WORK, read_only=False, owner=(1000, 1000))
    for order in (("walls", "extra"), ("extra", "walls")):
        plugins = {"walls": giving(NAMESPACES, mapped, EnterView()), "extra": giving(bind(WORK))}
        plan = compiled(**{name: plugins[name] for name in order})
        mount = mounts(plan)[WORK]
        assert isinstance(mount, BindMount)
        assert (mount.owner, mount.read_only) == ((1000, 1000), True)


def test_two_sources_for_one_path_are_an_error_naming_both(compiled: Compile) -> None:
    policy = make_policy(filesystem={"rules": (make_rule("/usr"), make_rule("/opt"))})
    with pytest.raises(PluginError, match="'walls' and 'extra'") as caught:
        compiled(
            policy=policy,
            walls=giving(NAMESPACES, bind("/usr", source="/opt"), EnterView()),
            extra=giving(bind("/usr")),
        )
    assert "BindMount at /usr" in caught.value.what


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (bind("/x", owner=(1, 1)), bind("/x", owner=(2, 2))),
        (bind("/x"), bind("/x", kind="file")),
        (FileMount(target="/x/f", content="a"), FileMount(target="/x/f", content="b")),
        (Symlink(target="/x/l", text="a"), Symlink(target="/x/l", text="b")),
        (Tmpfs(target="/x", size=1), Tmpfs(target="/x", size=2)),
    ],
)
def test_two_different_wishes_for_one_path_are_an_error(
    one: Operation, other: Operation, compiled: Compile
) -> None:
    with pytest.raises(PluginError, match="ask for a different"):
        compiled(walls=giving(*VIEW, one, other))


def test_the_same_wish_twice_is_one_step(compiled: Compile) -> None:
    once = (
        Tmpfs(target="/x"),
        Mask(target=f"{WORK}/.env", kind="file"),
        LinkUp(),
        NoNewPrivileges(),
        DropCapabilities(),
        SessionKeyring(),
    )
    plan = compiled(walls=giving(*VIEW, *once), extra=giving(*once))
    for operation in once:
        assert len(of(plan, type(operation))) == 1


@pytest.mark.parametrize("masking", ["walls", "extra"])
def test_a_mask_wins_over_whatever_lies_below_it(masking: str, compiled: Compile) -> None:
    mask = Mask(target=f"{WORK}/vendor", kind="directory")
    below = (
        bind(f"{WORK}/vendor/lib"),
        Tmpfs(target=f"{WORK}/vendor/tmp"),
        FileMount(target=f"{WORK}/vendor/f", content=""),
        Mask(target=f"{WORK}/vendor/x", kind="file"),
    )
    layers = {"walls": [*VIEW], "extra": []}
    layers[masking].append(mask)
    layers["extra" if masking == "walls" else "walls"] += below
    plan = compiled(**{name: giving(*layer) for name, layer in layers.items()})
    targets = [step.operation for step in plan.steps if hasattr(step.operation, "target")]
    assert not [each for each in targets if each.target.startswith(f"{WORK}/vendor/")]
    at = [each for each in targets if each.target == f"{WORK}/vendor"]
    assert [type(each) for each in at] == [BindMount, Mask]


def test_a_mask_hides_no_neighbour_of_a_similar_name(compiled: Compile) -> None:
    plan = compiled(walls=giving(*VIEW), extra=giving(Mask(target="/us", kind="directory")))
    assert "/usr" in mounts(plan)


# --- what an optional plugin may not do


def refused(compiled: Compile, *operations: Operation, **arguments: Any) -> PluginError:
    with pytest.raises(PluginError) as caught:
        compiled(walls=giving(*VIEW), extra=giving(*operations), **arguments)
    assert caught.value.plugin == "extra"
    assert "apply_fs" in caught.value.what or "inside a directory" in caught.value.what
    return caught.value


WIDENING = {
    "a path without a rule": bind("/root"),
    "the parent of a granted path": bind("/home/agent"),
    "everything": bind("/"),
    "a neighbour of a similar name": bind("/usr2"),
    "writing where reading is granted": bind("/usr", read_only=False),
    "writing a read-only island": bind(f"{WORK}/vendor/x", read_only=False),
    "a denied directory": bind("/etc/ssh"),
    "below a denied directory": bind("/etc/ssh/keys"),
    "a denied file": bind(f"{WORK}/.env", kind="file"),
    "a granted path under another name": bind("/alias", source=WORK),
    "another path under a granted name": bind("/usr", source="/root"),
    "a change of owner": bind("/usr", owner=(0, 0)),
    "devices of a directory": bind("/usr", kind="device"),
    "a mask's anchor where nothing may be written": Mask(target="/usr/x", kind="missing"),
    "a mask's anchor where nothing is granted": Mask(target="/srv/x", kind="missing"),
    "devices": Devices(names=("null", "sda")),
    "an unmasked proc": Proc(target="/proc2"),
    "another root": EnterView(),
    "another id": SetUser(uid=0, gid=0),
    "a control group": JoinCgroup(parent="/sys/fs/cgroup", settings=(("cgroup.procs", "1"),)),
    "a directory on the host": Directory(target=f"{WORK}/made"),
    "a link on the host": Symlink(target=f"{WORK}/link", text="/"),
}


@pytest.mark.parametrize("name", WIDENING)
def test_an_optional_plugin_cannot_widen(name: str, compiled: Compile) -> None:
    refused(compiled, WIDENING[name])


def test_an_optional_plugin_cannot_give_an_agent_of_root_a_user_namespace(
    compiled: Compile,
) -> None:
    host = make_host(uid=0, cgroup="v1", cgroup_paths=(("pids", "/sys/fs/cgroup/pids"),))
    refused(compiled, Unshare(namespaces=("user",)), host=host)


@pytest.mark.parametrize("operation", [SetUser(uid=0, gid=0), WIDENING["a control group"]])
def test_what_is_the_cores_is_refused_to_a_required_plugin_too(
    operation: Operation, compiled: Compile
) -> None:
    with pytest.raises(PluginError, match="only the core"):
        compiled(walls=giving(*VIEW, operation))


NARROWING = {
    "a granted path again": bind("/usr"),
    "a granted tree read-only": bind(WORK),
    "a part of a tree": bind("/usr/lib"),
    "a part of a writable tree": bind(f"{WORK}/src", read_only=False),
    "a mask": Mask(target="/usr/bin/sudo", kind="file"),
    "a mask of what the agent could make itself": Mask(target=f"{WORK}/x", kind="missing"),
    "an empty directory over a tree": Tmpfs(target="/usr/share"),
    "a file of its own": FileMount(target="/usr/share/motd", content="hello"),
    "a directory of the view": Directory(target="/scratch"),
    "a link of the view": Symlink(target="/bin", text="usr/bin"),
    "a ruleset": LandlockRuleset(handled_fs=1, rules=(LandlockRule(path="/usr", access=1),)),
    "a filter": SeccompFilter(architecture="x86_64", bpf=b"\0" * 8),
    "a limit": Rlimit(resource="nproc", value=3),
    "a namespace": Unshare(namespaces=("ipc",)),
    "a user namespace of somebody who is not root": Unshare(namespaces=("user",)),
}


@pytest.mark.parametrize("name", NARROWING)
def test_an_optional_plugin_may_narrow(name: str, compiled: Compile) -> None:
    compiled(walls=giving(*VIEW), extra=giving(NARROWING[name]))


def test_a_device_that_a_rule_names_may_be_shown(compiled: Compile) -> None:
    rules = (make_rule("/dev/nvidia0", "write", "device"),)
    gpu = bind("/dev/nvidia0", kind="device", read_only=False)
    compiled(
        policy=make_policy(filesystem={"rules": rules}),
        walls=giving(NAMESPACES, EnterView()),
        extra=giving(gpu),
    )


@pytest.mark.parametrize(
    "operation",
    [
        *(bind(path) for path in ("usr", "/usr/", "/usr/../etc", "/usr/./x", "//usr", "/a\0b", "")),
        bind("/usr", source="/usr/../root"),
        Tmpfs(target="/a//b"),
        Mask(target="..", kind="file"),
        Symlink(target="/a/../b", text="x"),
        LandlockRuleset(handled_fs=1, rules=(LandlockRule(path="/usr/..", access=1),)),
        Proc(masked=("../etc",)),
        Proc(masked=("/kcore",)),
        Devices(names=("../../etc/shadow",)),
        Devices(names=("",)),
        Rlimit(resource="nofile", value=-1),
        Unshare(namespaces=("time",)),
    ],
    ids=repr,
)
def test_nobody_can_name_a_path_or_number_that_misleads(
    operation: Operation, compiled: Compile
) -> None:
    with pytest.raises(PluginError) as caught:
        compiled(walls=giving(*VIEW, operation))
    assert type(operation).__name__ in caught.value.what


# --- the same as one property

PARTS = st.sampled_from(("a", "b", "ab"))
PATHS = st.lists(PARTS, min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts))
RULES = st.builds(make_rule, PATHS, st.sampled_from(("read", "write", "write", "deny")))
ACCESS = {"deny": 0, "read": 1, "write": 2}


def granted(rules: tuple[Any, ...], path: str) -> int:
    """What the policy says about a path, computed from its words: component by component."""
    parts = path.split("/")
    best, depth = 0, -1
    for rule in rules:
        own = rule.path.split("/")
        if parts[: len(own)] != own:
            continue
        if rule.access == "deny":
            return 0
        level = ACCESS[rule.access]
        if len(own) > depth or (len(own) == depth and level < best):
            best, depth = level, len(own)
    return best


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(rules=st.lists(RULES, max_size=5).map(tuple), path=PATHS, read_only=st.booleans())
def test_no_mount_of_an_optional_plugin_gives_more_than_the_policy(
    rules: tuple[Any, ...], path: str, read_only: bool, compiled: Compile
) -> None:
    policy = make_policy(filesystem={"rules": rules})
    wish = bind(path, read_only=read_only)
    allowed = granted(rules, path) >= (1 if read_only else 2)
    try:
        compiled(policy=policy, walls=giving(NAMESPACES, EnterView()), extra=giving(wish))
    except PluginError:
        assert not allowed
    else:
        assert allowed
