"""Claims about the view that a policy becomes: what is mounted, and what is held in place."""

from __future__ import annotations

import posixpath
from typing import Literal, TypeVar

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nemoclaw_hookspecs import (
    NAMESPACES,
    BindMount,
    Devices,
    EnterView,
    FileMount,
    Link,
    Mask,
    Operation,
    PathRule,
    Policy,
    Proc,
    Symlink,
    Tmpfs,
    Unshare,
)
from nemoclaw_plugin_mounts import apply_fs
from nemoclaw_plugin_mounts.view import build_view
from nemoclaw_testing import make_host, make_policy, make_rule

WORK = "/home/agent/work"
Tmp = Literal["private", "shared", "none"]
O = TypeVar("O", bound=Operation)  # noqa: E741


def view(*rules: PathRule, tmp: Tmp = "none", **filesystem: object) -> tuple[Operation, ...]:
    """The view of a policy that has only these rules."""
    return build_view(policy_of(*rules, tmp=tmp, **filesystem), ("mount", "pid"))


def policy_of(*rules: PathRule, tmp: Tmp = "none", **filesystem: object) -> Policy:
    return make_policy(filesystem={"rules": rules, "tmp": tmp, **filesystem})


def switched(policy: Policy, uid: int = 65532) -> Policy:
    """The policy of a caller who is root, for an agent who is not."""
    return attrs.evolve(
        policy, process=attrs.evolve(policy.process, switch_user=True, uid=uid, gid=uid)
    )


def of(kind: type[O], operations: tuple[Operation, ...]) -> dict[str, O]:
    """The operations of one kind by their targets, of which no two are the same."""
    found = [each for each in operations if isinstance(each, kind)]
    targets = [getattr(each, "target", "") for each in found]
    assert len(set(targets)) == len(targets), f"two for one target: {targets}"
    return dict(zip(targets, found, strict=True))


def covers(outer: str, inner: str) -> bool:
    return outer == inner or inner.startswith(outer.rstrip("/") + "/")


def shown(operations: tuple[Operation, ...], path: str) -> str | None:
    """What can be done at a path of the view: ``read``, ``write`` or nothing.

    As the kernel has it: the deepest mount at or above a path is the one that a lookup meets, and
    a mask covers whatever lies below.
    """
    if any(covers(target, path) for target in of(Mask, operations)):
        return None
    binds = [each for each in of(BindMount, operations).values() if covers(each.target, path)]
    if not binds:
        return None
    return "read" if max(binds, key=lambda each: len(each.target)).read_only else "write"


def permits(rules: tuple[PathRule, ...], path: str) -> str | None:
    """What the contract says of a path: a ``deny`` at or above it, else the deepest rule."""
    above = [rule for rule in rules if covers(rule.path, path)]
    if not above or any(rule.access == "deny" for rule in above):
        return None
    return max(above, key=lambda rule: len(rule.path)).access


# --- rules


def test_read_is_a_read_only_mount_and_write_a_writable_one() -> None:
    binds = of(BindMount, view(make_rule("/usr", line=3), make_rule(WORK, "write", line=4)))
    assert {path: each.read_only for path, each in binds.items()} == {"/usr": True, WORK: False}
    assert all(each.source == target for target, each in binds.items())
    assert binds[WORK].origin == "policies.toml:4 filesystem.write[0]"


def test_what_is_granted_already_needs_no_mount_of_its_own() -> None:
    binds = of(BindMount, view(make_rule("/usr"), make_rule("/usr/lib"), make_rule("/usrlocal")))
    assert set(binds) == {"/usr", "/usrlocal"}


def test_a_device_and_a_socket_have_mounts_of_their_own_below_a_granted_directory() -> None:
    operations = view(
        make_rule("/dev", "write"),
        make_rule("/dev/kvm", "write", "device"),
        make_rule("/run"),
        make_rule("/run/service", "read", "socket"),
    )
    kinds = {path: each.kind for path, each in of(BindMount, operations).items()}
    assert kinds["/dev/kvm"] == "device"
    assert kinds["/run/service"] == "socket"


def test_read_inside_write_is_a_read_only_island() -> None:
    operations = view(make_rule(WORK, "write"), make_rule(f"{WORK}/vendor"))
    assert of(BindMount, operations)[f"{WORK}/vendor"].read_only
    assert shown(operations, f"{WORK}/vendor/x") == "read"
    assert shown(operations, f"{WORK}/vendored") == "write"


def test_write_inside_read_is_writable() -> None:
    operations = view(make_rule("/srv"), make_rule("/srv/data", "write"))
    assert not of(BindMount, operations)["/srv/data"].read_only


@pytest.mark.parametrize("other", ["read", "write"])
def test_deny_wins_for_the_same_path_and_for_all_below(other: Literal["read", "write"]) -> None:
    operations = view(
        make_rule(WORK, "write"),
        make_rule(f"{WORK}/secret", other),
        make_rule(f"{WORK}/secret", "deny"),
        make_rule(f"{WORK}/secret/below", "write"),
    )
    assert set(of(Mask, operations)) == {f"{WORK}/secret"}
    assert set(of(BindMount, operations)) == {WORK}


def test_of_read_and_write_for_one_path_the_narrower_holds() -> None:
    rules = make_rule(WORK), make_rule(WORK, "write")
    assert of(BindMount, view(*rules))[WORK].read_only
    assert of(BindMount, view(*reversed(rules)))[WORK].read_only


def test_a_mask_fits_what_it_covers() -> None:
    operations = view(
        make_rule(WORK, "write"),
        make_rule(f"{WORK}/keys", "deny", "directory"),
        make_rule(f"{WORK}/.env", "deny", "file"),
        make_rule(f"{WORK}/socket", "deny", "socket"),
        make_rule(f"{WORK}/device", "deny", "device"),
        make_rule(f"{WORK}/later", "deny", "missing"),
    )
    assert {posixpath.basename(path): each.kind for path, each in of(Mask, operations).items()} == {
        "keys": "directory",
        ".env": "file",
        "socket": "file",
        "device": "file",
        "later": "missing",
    }


def test_what_nobody_grants_needs_no_mask() -> None:
    assert not of(Mask, view(make_rule("/usr"), make_rule("/home/agent/.ssh", "deny")))


# --- held in place


def test_directories_above_a_denied_path_are_mounts_so_that_they_cannot_be_renamed() -> None:
    operations = view(make_rule(WORK, "write"), make_rule(f"{WORK}/a/b/secret", "deny", line=9))
    binds = of(BindMount, operations)
    assert set(binds) == {WORK, f"{WORK}/a", f"{WORK}/a/b"}
    assert not binds[f"{WORK}/a/b"].read_only
    assert binds[f"{WORK}/a"].kind == "directory"
    assert binds[f"{WORK}/a"].origin == "policies.toml:9 filesystem.deny[0] (holds a in place)"


def test_directories_above_a_read_only_island_are_held_too() -> None:
    operations = view(make_rule(WORK, "write"), make_rule(f"{WORK}/.git/config", "read", "file"))
    assert f"{WORK}/.git" in of(BindMount, operations)


def test_nothing_needs_to_be_held_where_nothing_can_be_written() -> None:
    operations = view(make_rule("/srv"), make_rule("/srv/a/b/secret", "deny"))
    assert set(of(BindMount, operations)) == {"/srv"}


# --- links


def test_a_link_that_the_policy_names_is_made_with_its_text() -> None:
    rule = make_rule("/usr")
    operations = view(rule, links=(Link(path="/bin", target="usr/bin", origin=rule.origin),))
    link = of(Symlink, operations)["/bin"]
    assert (link.text, link.origin) == ("usr/bin", str(rule.origin))


def test_a_link_inside_a_granted_directory_is_there_already() -> None:
    rule = make_rule("/usr")
    operations = view(rule, links=(Link(path="/usr/lib64", target="lib", origin=rule.origin),))
    assert not of(Symlink, operations)


# --- /tmp and the home directory


def test_private_tmp_and_home_are_the_sandboxes_own_and_no_larger_than_its_memory() -> None:
    policy = make_policy(
        filesystem={"rules": (make_rule("/usr"),)}, process={"max_memory": 5 << 20}
    )
    operations = build_view(policy, ("mount", "pid"))
    tmpfs = of(Tmpfs, operations)
    assert {path: (each.mode, each.size) for path, each in tmpfs.items()} == {
        "/tmp": (0o1777, 5 << 20),
        "/home/agent": (0o700, 5 << 20),
    }
    assert of(Symlink, operations)["/var/tmp"].text == "/tmp"
    assert of(Devices, operations)["/dev"].shm_size == 5 << 20


def test_the_home_stays_private_around_a_work_directory_inside_of_it() -> None:
    operations = view(make_rule(WORK, "write"), tmp="private")
    assert "/home/agent" in of(Tmpfs, operations)


@pytest.mark.parametrize(
    ("granted", "private"),
    [
        ("/home/agent", {"/tmp"}),
        ("/home", {"/tmp"}),
        ("/tmp", {"/home/agent"}),
        ("/tmp/mine", {"/tmp", "/home/agent"}),
    ],
)
def test_what_the_policy_grants_itself_is_not_covered(granted: str, private: set[str]) -> None:
    assert set(of(Tmpfs, view(make_rule(granted), tmp="private"))) == private


def test_shared_tmp_is_the_hosts() -> None:
    operations = view(make_rule("/usr"), tmp="shared")
    assert not of(BindMount, operations)["/tmp"].read_only
    assert not of(Tmpfs, operations)


def test_shared_tmp_gives_way_to_a_rule() -> None:
    operations = view(make_rule("/tmp"), tmp="shared")
    assert of(BindMount, operations)["/tmp"].read_only


def test_without_tmp_there_is_none() -> None:
    operations = view(make_rule("/usr"), tmp="none")
    assert not of(Tmpfs, operations)
    assert not of(Symlink, operations)
    assert set(of(BindMount, operations)) == {"/usr"}


@pytest.mark.parametrize("granted", ["/var", "/var/tmp", "/var/tmp/build"])
def test_var_tmp_is_no_link_where_the_policy_grants_it(granted: str) -> None:
    assert not of(Symlink, view(make_rule(granted), tmp="private"))


@pytest.mark.parametrize("home", ["/var/tmp", "/var/tmp/agent"])
def test_var_tmp_is_no_link_where_the_home_is_in_it(home: str) -> None:
    filesystem = {"home": home, "tmp": "private"}
    operations = build_view(make_policy(filesystem=filesystem), ("mount", "pid"))
    assert set(of(Tmpfs, operations)) == {"/tmp", home}
    assert not of(Symlink, operations)


@pytest.mark.parametrize("home", ["/var", "/var/lib/agent"])
def test_var_tmp_is_a_link_beside_or_in_any_other_home(home: str) -> None:
    filesystem = {"home": home, "tmp": "private"}
    operations = build_view(make_policy(filesystem=filesystem), ("mount", "pid"))
    assert of(Symlink, operations)["/var/tmp"].text == "/tmp"


# --- another user


def test_the_owners_files_appear_as_the_agents_in_a_writable_tree_alone() -> None:
    policy = switched(
        policy_of(
            make_rule("/usr", uid=0, gid=0),
            make_rule(WORK, "write", uid=1000, gid=1001),
            make_rule(f"{WORK}/vendor", uid=1000, gid=1001),
            make_rule(f"{WORK}/a/secret", "deny"),
            make_rule("/dev/kvm", "write", "device", uid=0, gid=0),
        )
    )
    binds = of(BindMount, build_view(policy, ("mount", "pid")))
    assert {path: each.owner for path, each in binds.items()} == {
        "/usr": None,
        WORK: (1000, 1001),
        f"{WORK}/vendor": (1000, 1001),
        f"{WORK}/a": (1000, 1001),
        "/dev/kvm": None,
    }


def test_a_tree_that_is_the_agents_already_is_shown_as_it_is() -> None:
    policy = switched(policy_of(make_rule(WORK, "write", uid=65532, gid=65532)))
    assert of(BindMount, build_view(policy, ("mount",)))[WORK].owner is None


def test_a_caller_who_is_the_agent_changes_no_owner() -> None:
    assert of(BindMount, view(make_rule(WORK, "write", uid=0, gid=0)))[WORK].owner is None


def test_another_user_has_a_name_in_the_account_files() -> None:
    files = of(FileMount, build_view(switched(policy_of(make_rule("/etc"))), ("mount",)))
    passwd = files["/etc/passwd"].content.splitlines()
    assert "agent:x:65532:65532:agent:/home/agent:/bin/sh" in passwd
    assert "agent:x:65532:" in files["/etc/group"].content.splitlines()


def test_without_another_user_or_etc_the_account_files_are_left_alone() -> None:
    assert not of(FileMount, view(make_rule("/etc")))
    assert not of(FileMount, build_view(switched(policy_of(make_rule("/usr"))), ("mount",)))


# --- what every view has


def test_every_view_has_namespaces_proc_dev_and_is_entered() -> None:
    for kind in (Unshare, Proc, Devices, EnterView):
        assert len(of(kind, view())) == 1
    assert {"kallsyms", "keys"} <= set(of(Proc, view())["/proc"].masked)


@pytest.mark.parametrize("missing", ["mount", "pid"])
def test_no_mount_is_asked_for_where_there_is_no_view(missing: str) -> None:
    layer = apply_fs(make_policy(), make_host(namespaces=frozenset(NAMESPACES) - {missing}))
    assert layer.operations == ()
    assert [gap.what for gap in layer.gaps] == [
        f"no {missing} namespace",
        "no view of the file system",
    ]
    # What the kinds that this host has would have kept away is open too.
    assert "System V IPC" in layer.gaps[1].consequence
    assert ("stay visible" in layer.gaps[1].consequence) == (missing == "pid")


@pytest.mark.parametrize("missing", ["ipc", "uts", "cgroup"])
def test_a_namespace_that_is_missing_is_a_gap_beside_a_view(missing: str) -> None:
    layer = apply_fs(make_policy(), make_host(namespaces=frozenset(NAMESPACES) - {missing}))
    (unshare,) = of(Unshare, layer.operations).values()
    assert missing not in unshare.namespaces
    assert [gap.what for gap in layer.gaps] == [f"no {missing} namespace"]
    assert layer.status == "partial"


# --- for any rules

names = st.lists(st.sampled_from("abc"), min_size=1, max_size=4)
paths = names.map(lambda parts: "/" + "/".join(parts))
rules_of_any_kind = st.lists(
    st.builds(make_rule, paths, st.sampled_from(["read", "write", "deny"])), max_size=7
).map(tuple)


def below(rules: tuple[PathRule, ...]) -> list[str]:
    """Every rule's path, the directories above it, and a path beside and below each."""
    found = {"/"}
    for rule in rules:
        path = rule.path
        while path != "/":
            found |= {path, f"{path}/x", f"{path}x"}
            path = posixpath.dirname(path)
    return sorted(found)


def one_for_a_path(rules: tuple[PathRule, ...]) -> tuple[PathRule, ...]:
    return tuple({rule.path: rule for rule in rules}.values())


@given(rules_of_any_kind)
@settings(max_examples=300, deadline=None)
def test_nothing_is_mounted_beyond_what_the_policy_permits(rules: tuple[PathRule, ...]) -> None:
    operations = view(*rules)
    for target, bind in of(BindMount, operations).items():
        assert bind.source == target
        allowed = permits(rules, target)
        assert allowed == "write" or (allowed == "read" and bind.read_only), (target, allowed)


@given(rules_of_any_kind.map(one_for_a_path))
@settings(max_examples=300, deadline=None)
def test_the_view_shows_what_the_policy_permits_and_nothing_else(
    rules: tuple[PathRule, ...],
) -> None:
    operations = view(*rules)
    for path in below(rules):
        assert shown(operations, path) == permits(rules, path), path


def without_repeats(rules: tuple[PathRule, ...]) -> tuple[PathRule, ...]:
    """The rules as the core hands them over: none says what the one above it says."""
    kept: list[PathRule] = []
    for rule in sorted(one_for_a_path(rules), key=lambda each: len(each.path)):
        above = [each for each in kept if covers(each.path, rule.path)]
        if not above or max(above, key=lambda each: len(each.path)).access != rule.access:
            kept.append(rule)
    return tuple(kept)


@given(rules_of_any_kind.map(without_repeats))
@settings(max_examples=300, deadline=None)
def test_no_directory_above_a_protected_path_can_be_renamed(rules: tuple[PathRule, ...]) -> None:
    operations = view(*rules)
    mounted = {*of(BindMount, operations), *of(Mask, operations)}
    for rule in rules:
        if rule.access == "write" or permits(rules, posixpath.dirname(rule.path)) is None:
            continue
        path = rule.path
        # A directory can be renamed when the one that holds it can be written, unless it is
        # itself a mount point (rename(2): EBUSY).
        while path != "/":
            if shown(operations, posixpath.dirname(path)) == "write":
                assert path in mounted, f"{path} can be moved away with {rule.path}"
            path = posixpath.dirname(path)
