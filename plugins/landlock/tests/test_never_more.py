"""Whatever the policy, the rules grant no more than it permits."""

from __future__ import annotations

import os
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from nemoclaw_hookspecs import Host, LandlockRuleset, Policy
from nemoclaw_plugin_landlock import apply_fs
from nemoclaw_plugin_landlock.rights import IOCTL_DEV, READ_FILE, READ_TREE, WRITE_FILE, WRITE_TREE

MakePolicy = Callable[..., Policy]
names = st.sampled_from(["a", "b", "ab", "tmp", "home", "agent", "dev", "null", "proc"])
paths = st.lists(names, max_size=4).map(lambda parts: "/" + "/".join(parts))
rules = st.lists(
    st.tuples(
        st.sampled_from(["read", "write", "deny"]),
        paths,
        st.sampled_from(["directory", "file", "device", "socket"]),
    ).map(lambda rule: (rule[0], rule[1], "missing") if rule[0] == "deny" else rule),
    max_size=8,
)
tmps = st.sampled_from(["private", "shared", "none"])
abis = st.integers(min_value=1, max_value=12)


def chain(path: str) -> list[str]:
    """A path and everything above it, nearest first."""
    found = [path]
    while path != "/":
        path = os.path.dirname(path)
        found.append(path)
    return found


def permits(policy: Policy, path: str) -> str:
    """What the policy's words say about a path of the host: deny, none, read or write."""
    written: dict[str, set[str]] = {}
    for rule in policy.filesystem.rules:
        written.setdefault(rule.path, set()).add(rule.access)
    if policy.filesystem.tmp == "shared":
        written.setdefault("/tmp", {"write"})
    if any("deny" in written.get(each, ()) for each in chain(path)):
        return "deny"
    for each in chain(path):
        for access in ("read", "write"):
            if access in written.get(each, ()):
                return access
    return "none"


CEILING = {"deny": 0, "none": 0, "read": READ_TREE, "write": WRITE_TREE}
DEVICES = {f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty")}
SOCKET = 1 << 16


def rights_at(ruleset: LandlockRuleset, path: str) -> int:
    """The kernel's rule: rights add up from the path to the root."""
    above = set(chain(path))
    granted = 0
    for rule in ruleset.rules:
        if rule.path in above:
            granted |= rule.access
    return granted


def explored(policy: Policy) -> set[str]:
    found = {"/", "/a", "/tmp/x", "/home/agent/x", "/dev/null", "/dev/sda", "/proc/1", "/etc"}
    for rule in policy.filesystem.rules:
        for each in chain(rule.path):
            found |= {each, f"{each}/x".replace("//", "/"), f"{each}b".replace("//", "/")}
    return found


def layer_rules(policy: Policy, host: Host) -> LandlockRuleset:
    (operation,) = apply_fs(policy, host).operations
    assert isinstance(operation, LandlockRuleset)
    return operation


@given(rules=rules, tmp=tmps, abi=abis)
def test_where_landlock_is_alone(
    make_policy: MakePolicy,
    make_host: Callable[..., Host],
    rules: list[tuple[str, str, str]],
    tmp: str,
    abi: int,
) -> None:
    policy = make_policy(*rules, tmp=tmp)
    ruleset = layer_rules(policy, make_host(abi, ()))
    writable = [r for r in policy.filesystem.rules if permits(policy, r.path) == "write"]
    for path in explored(policy):
        allowed = CEILING[permits(policy, path)]
        if any(rule.kind == "socket" and rule.path in chain(path) for rule in writable):
            allowed |= SOCKET
        if permits(policy, path) != "deny" and path in DEVICES:
            allowed |= READ_FILE | WRITE_FILE | IOCTL_DEV
        # A device's own rule reaches what lies below it, where there is nothing.
        if DEVICES & set(chain(path)[1:]):
            continue
        assert not rights_at(ruleset, path) & ~allowed, path


@given(rules=rules, tmp=tmps, abi=abis)
def test_where_mounts_stand_beside_it(
    make_policy: MakePolicy,
    make_host: Callable[..., Host],
    rules: list[tuple[str, str, str]],
    tmp: str,
    abi: int,
) -> None:
    """Denied paths are covered and islands are read-only mounts, so those are left to them."""
    policy = make_policy(*rules, tmp=tmp)
    ruleset = layer_rules(policy, make_host(abi))
    provided = {"/proc", "/dev/pts", "/dev/shm", *DEVICES}
    shown = [rule.path for rule in policy.filesystem.rules if rule.access != "deny"]
    if tmp == "shared" or (tmp == "private" and not set(shown) & set(chain("/tmp"))):
        provided.add("/tmp")
    if tmp == "private" and not set(shown) & set(chain("/home/agent")):
        provided.add("/home/agent")
    named = {rule.path for rule in policy.filesystem.rules}
    for path in explored(policy):
        if set(chain(path)) & (provided - named):
            continue
        widest = {permits(policy, each) for each in chain(path)}
        allowed = READ_TREE & ~READ_FILE & ~1 if "/" not in named else 0  # listing directories
        allowed |= WRITE_TREE | SOCKET if "write" in widest else 0
        allowed |= READ_TREE if "read" in widest else 0
        assert not rights_at(ruleset, path) & ~allowed, path


@given(rules=rules, abi=abis)
def test_with_a_view_everything_that_is_permitted_is_granted(
    make_policy: MakePolicy,
    make_host: Callable[..., Host],
    rules: list[tuple[str, str, str]],
    abi: int,
) -> None:
    """The other direction: a ruleset that grants nothing would pass the tests above."""
    policy = make_policy(*[(access, path) for access, path, _ in rules])
    ruleset = layer_rules(policy, make_host(abi))
    for rule in policy.filesystem.rules:
        verdict = permits(policy, rule.path)
        if verdict in ("read", "write"):
            wanted = CEILING[verdict] & ruleset.handled_fs
            assert wanted & ~rights_at(ruleset, rule.path) == 0, rule.path
