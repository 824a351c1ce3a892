"""The launcher rejects what is not a plan, whoever sends it."""

from __future__ import annotations

import copy
import struct
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nemoclaw_hookspecs import OPERATIONS, PHASES

from nemoclaw_core import seal
from nemoclaw_core.launcher import check
from nemoclaw_core.launcher.init import _DONE
from nemoclaw_core.launcher.operations import OPERATIONS as CARRIED_OUT

MESSAGE = struct.pack("=IHHII", 20, 24, 5, 0, 0) + bytes(4)


def step(op: str, **fields: Any) -> dict[str, Any]:
    return {"op": op, "plugin": "test", "origin": "policies.toml:1 filesystem.read[0]", **fields}


def bind(path: str) -> dict[str, Any]:
    return step(
        "bind_mount", source=path, target=path, kind="directory", read_only=True, owner=None
    )


def whole_plan() -> dict[str, Any]:
    """A plan with every operation in it."""
    return {
        "steps": [
            step("unshare", namespaces=["mount", "pid", "network", "uts"]),
            bind("/usr"),
            step("tmpfs", target="/tmp", size=0, mode=0o1777, read_only=False),
            step("directory", target="/run"),
            step("symlink", target="/bin", text="usr/bin"),
            step(
                "file_mount",
                target="/etc/passwd",
                content="root:x:0:0::/:/bin/sh\n",
                generated="",
                optional=False,
            ),
            step("mask", target="/usr/secret", kind="directory"),
            step("proc", target="/proc", masked=["keys"]),
            step("devices", target="/dev", names=["null"], shm_size=0),
            step("enter_view"),
            step("link_up", interface="lo"),
            step("netlink", protocol="route", messages=[MESSAGE], texts=["route local"]),
            step("listen", name="tcp", kind="tcp", address="127.0.0.1", port=15001),
            step("rlimit", resource="nofile", value=1024),
            step("join_cgroup", parent="/sys/fs/cgroup/pids", settings=[["pids.max", "10"]]),
            step("hostname", name="nemoclaw"),
            step("session_keyring"),
            step("set_user", uid=65532, gid=65532),
            step("drop_capabilities"),
            step("no_new_privileges"),
            step(
                "landlock_ruleset",
                handled_fs=1,
                handled_net=0,
                scoped=0,
                restrict_flags=0,
                rules=[{"path": "/usr", "access": 1, "origin": ""}],
                ports=[],
            ),
            step("seccomp_filter", architecture="x86_64", bpf=b"\0" * 8, name="agent"),
        ]
    }


def test_accepts_every_operation() -> None:
    plan = whole_plan()
    check.check_plan(plan)
    assert {each["op"] for each in plan["steps"]} == set(check.OPERATIONS)


def test_table_agrees_with_the_contract() -> None:
    assert PHASES[:-1] == check.PHASES
    known = {seal.operation_name(kind): kind for kind in OPERATIONS}
    assert set(known) == set(check.OPERATIONS)
    for name, (phase, fields) in check.OPERATIONS.items():
        assert phase == known[name].phase
        assert set(fields) == {field.name for field in attrs.fields(known[name])} - {"origin"}


def test_every_operation_is_carried_out_by_somebody() -> None:
    assert set(_DONE) | set(CARRIED_OUT) | {"landlock_ruleset", "listen"} == set(check.OPERATIONS)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda s: s.append(step("exec")), "no operation"),
        (lambda s: s[11].update(messages=[MESSAGE[:-4]]), "netlink.messages"),
        (lambda s: s[11].update(messages=[b""]), "netlink.messages"),
        (lambda s: s[11].update(texts=[]), "every message needs its text"),
        (lambda s: s[11].update(protocol="audit"), "netlink.protocol"),
        (lambda s: s[12].update(port=65536), "listen.port"),
        (lambda s: s[12].update(kind="raw"), "listen.kind"),
        (lambda s: s.insert(12, dict(s[12])), "the same name"),
        (lambda s: s[1].update(source="relative"), "bind_mount.source"),
        (lambda s: s[1].update(source="/usr/../root"), "bind_mount.source"),
        (lambda s: s[1].update(target="/"), "bind_mount.target"),
        (lambda s: s[1].update(read_only=1), "bind_mount.read_only"),
        (lambda s: s[1].update(owner=[0]), "bind_mount.owner"),
        (lambda s: s[1].update(extra=1), "'extra'"),
        (lambda s: s[1].pop("kind"), "'kind'"),
        (lambda s: s[0].update(namespaces=["time"]), "unshare.namespaces"),
        (lambda s: s[0]["namespaces"].remove("mount"), "mount namespace"),
        (lambda s: s[0]["namespaces"].remove("pid"), "PID namespace"),
        (lambda s: s[0]["namespaces"].remove("network"), "network namespace"),
        (lambda s: s[0]["namespaces"].remove("uts"), "UTS namespace"),
        (lambda s: s.pop(9), "enter_view"),
        (lambda s: s.insert(9, s[9]), "enter_view"),
        (lambda s: s.insert(0, s.pop()), "later phase"),
        (lambda s: s.pop(19), "no_new_privileges"),
        (lambda s: s[17].update(uid=(1 << 32) - 1), "set_user.uid"),
        (lambda s: s[17].update(uid=True), "set_user.uid"),
        (lambda s: s[14]["settings"].append(["../escape", "1"]), "join_cgroup.settings"),
        (lambda s: s[7].update(masked=["../sys"]), "proc.masked"),
        (lambda s: s[8].update(names=["../sda"]), "devices.names"),
        (lambda s: s[20]["rules"].append({"path": "/", "access": 0, "origin": ""}), "rules"),
        (lambda s: s[21].update(bpf=b"short"), "seccomp_filter.bpf"),
        (lambda s: s.extend([s[2]] * 5000), "at most"),
    ],
)
def test_refuses_a_damaged_plan(damage: Any, says: str) -> None:
    plan = copy.deepcopy(whole_plan())
    damage(plan["steps"])
    with pytest.raises(check.Malformed, match=says):
        check.check_plan(plan)


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary() | st.floats(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(junk)
def test_refuses_anything_else(value: object) -> None:
    with pytest.raises(check.Malformed):
        check.check_plan(value)


@settings(max_examples=500)
@given(st.integers(0, 19), st.data())
def test_a_field_of_another_type_is_refused_or_still_means_something(
    index: int, data: st.DataObject
) -> None:
    """No value of any type makes the check itself fail, and no type but the right one passes."""
    plan = whole_plan()
    name = data.draw(st.sampled_from(sorted(plan["steps"][index])))
    old = plan["steps"][index][name]
    plan["steps"][index][name] = new = data.draw(junk)
    try:
        check.check_plan(plan)
    except check.Malformed:
        return
    assert type(new) is type(old) or name == "owner"
