"""Trees with denied and read-only paths inside, where Landlock is alone and is told what is there.

The property tests build random trees and policies over them; the attacks are carried out on this
kernel, as root and as a plain user.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nemoclaw_hookspecs import Host, LandlockRuleset, Layer, Policy
from nemoclaw_plugin_landlock import apply_fs
from nemoclaw_plugin_landlock.rights import (
    EXECUTE,
    MAKE_DIR,
    MAKE_FIFO,
    MAKE_REG,
    MAKE_SOCK,
    MAKE_SYM,
    READ_DIR,
    READ_FILE,
    READ_TREE,
    REMOVE_DIR,
    REMOVE_FILE,
    TRUNCATE,
    WRITE_FILE,
    WRITE_TREE,
)

from .test_enforcement import read, write
from .test_never_more import chain, permits, rights_at

MakePolicy = Callable[..., Policy]
MakeHost = Callable[..., Host]
Contents = dict[str, dict[str, str]]

MAKE = MAKE_DIR | MAKE_REG | MAKE_SOCK | MAKE_FIFO | MAKE_SYM
OF_FILES = EXECUTE | READ_FILE | WRITE_FILE | TRUNCATE
NETWORK_ONLY = ("user", "network")

name = st.sampled_from(["a", "b", "c"])
path = st.lists(name, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))
trees = st.dictionaries(path, st.sampled_from(["directory", "file"]), min_size=4, max_size=14)
rules = st.lists(st.tuples(st.sampled_from(["read", "write", "deny"]), path), max_size=6)


def grown(tree: dict[str, str]) -> dict[str, str]:
    """The kinds of existing paths; what has something below it is a directory."""
    found = {each: "directory" for deep in tree for each in chain(deep)[1:]}
    return {**{each: kind for each, kind in tree.items() if each not in found}, **found}


def contents_of(tree: dict[str, str]) -> Contents:
    found: Contents = {each: {} for each, kind in tree.items() if kind == "directory"}
    for each, kind in tree.items():
        if each != "/":
            found[os.path.dirname(each)][os.path.basename(each)] = kind
    return found


def world(
    make_policy: MakePolicy, tree: dict[str, str], rules: list[tuple[str, str]]
) -> tuple[Policy, dict[str, str]]:
    kinds = grown({**tree, **{path: "directory" for access, path in rules if access != "deny"}})
    written = [
        (access, path, kinds.get(path, "missing"))
        for access, path in rules
        # The core holds a file that stands where a directory would have to be.
        if path in kinds or all(kinds.get(each, "directory") != "file" for each in chain(path))
    ]
    return make_policy(*written, tmp="none", contents=contents_of(kinds)), kinds


def ruleset_of(layer: Layer) -> LandlockRuleset:
    (operation,) = layer.operations
    assert isinstance(operation, LandlockRuleset)
    return operation


@given(tree=trees, rules=rules)
def test_nothing_that_is_withheld_can_be_reached_made_or_replaced(
    make_policy: MakePolicy,
    make_host: MakeHost,
    tree: dict[str, str],
    rules: list[tuple[str, str]],
) -> None:
    policy, kinds = world(make_policy, tree, rules)
    ruleset = ruleset_of(apply_fs(policy, make_host(namespaces=())))
    for each, kind in kinds.items():
        allowed = {"deny": 0, "none": 0, "read": READ_TREE, "write": WRITE_TREE}
        relevant = OF_FILES if kind == "file" else ~0
        assert not rights_at(ruleset, each) & relevant & ~allowed[permits(policy, each)], each
    for rule in policy.filesystem.rules:
        above = rights_at(ruleset, os.path.dirname(rule.path))
        outer = permits(policy, os.path.dirname(rule.path))
        if rule.access == "deny" and rule.kind != "missing":
            # Its name stays its own.
            assert not above & (MAKE | REMOVE_FILE | REMOVE_DIR), rule.path
        if permits(policy, rule.path) == "read" and outer == "write":
            assert not above & (MAKE | REMOVE_FILE | REMOVE_DIR), rule.path
        if rule.access == "deny" and rule.kind == "missing":
            first = next(each for each in chain(rule.path)[::-1] if each not in kinds)
            making = MAKE if first == rule.path else MAKE_DIR | MAKE_SYM
            assert not rights_at(ruleset, os.path.dirname(first)) & making, rule.path


@given(tree=trees, rules=rules)
def test_what_is_there_and_permitted_can_be_used(
    make_policy: MakePolicy,
    make_host: MakeHost,
    tree: dict[str, str],
    rules: list[tuple[str, str]],
) -> None:
    """The other direction: files that are there, and directories above nothing that is withheld."""
    policy, kinds = world(make_policy, tree, rules)
    ruleset = ruleset_of(apply_fs(policy, make_host(namespaces=())))
    for each, kind in kinds.items():
        verdict = permits(policy, each)
        if verdict not in ("read", "write"):
            continue
        wanted = READ_TREE if verdict == "read" else WRITE_TREE
        if kind == "file":
            wanted &= OF_FILES
        elif any(each in chain(rule.path)[1:] for rule in policy.filesystem.rules):
            continue
        assert not wanted & ~rights_at(ruleset, each), each


def grants(layer: Layer) -> dict[str, int]:
    return {
        rule.path: rule.access
        for rule in ruleset_of(layer).rules
        if not rule.path.startswith("/dev/")
    }


def test_a_tree_is_granted_around_a_denied_directory(
    make_policy: MakePolicy, make_host: MakeHost
) -> None:
    contents = {
        "/w": {".git": "directory", "src": "directory", "README": "file", "sock": "socket"},
        "/w/.git": {"hooks": "directory", "HEAD": "file", "objects": "directory"},
    }
    policy = make_policy(("write", "/w"), ("deny", "/w/.git/hooks"), tmp="none", contents=contents)
    layer = apply_fs(policy, make_host(namespaces=NETWORK_ONLY))
    file = EXECUTE | READ_FILE | WRITE_FILE | TRUNCATE
    assert grants(layer) == {
        "/w/src": WRITE_TREE,
        "/w/README": file,
        "/w/.git/HEAD": file,
        "/w/.git/objects": WRITE_TREE,
    }
    (gap,) = layer.gaps
    assert gap.what == "write access to the whole of /w"
    assert "cannot list /w, /w/.git, or make, change or remove" in gap.consequence
    assert "/w/.git/hooks (policies.toml:11 filesystem.deny)" in gap.consequence
    assert "denies nothing in it" in gap.remedy


def test_beside_a_denied_file_the_directory_can_be_listed(
    make_policy: MakePolicy, make_host: MakeHost
) -> None:
    contents = {"/w": {".env": "file", "src": "directory"}}
    policy = make_policy(
        ("write", "/w"), ("deny", "/w/.env", "file"), tmp="none", contents=contents
    )
    layer = apply_fs(policy, make_host(namespaces=NETWORK_ONLY))
    assert grants(layer) == {"/w": READ_DIR, "/w/src": WRITE_TREE}


def test_a_denied_path_below_a_missing_directory_costs_new_directories(
    make_policy: MakePolicy, make_host: MakeHost
) -> None:
    contents = {"/w": {"src": "directory", "README": "file"}}
    policy = make_policy(
        ("write", "/w"), ("deny", "/w/.git/hooks", "missing"), tmp="none", contents=contents
    )
    layer = apply_fs(policy, make_host(namespaces=NETWORK_ONLY))
    assert grants(layer) == {"/w": WRITE_TREE & ~(MAKE_DIR | MAKE_SYM), "/w/src": WRITE_TREE}
    (gap,) = layer.gaps
    assert "cannot make directories or symbolic links directly in /w" in gap.consequence


def test_a_read_only_island_costs_what_lies_directly_above_it(
    make_policy: MakePolicy, make_host: MakeHost
) -> None:
    contents = {"/w": {"vendor": "directory", "src": "directory"}}
    policy = make_policy(("write", "/w"), ("read", "/w/vendor"), tmp="none", contents=contents)
    layer = apply_fs(policy, make_host(namespaces=NETWORK_ONLY))
    assert grants(layer) == {"/w": READ_TREE, "/w/src": WRITE_TREE}


@pytest.mark.parametrize(("abi", "left_out"), [(1, False), (2, False), (3, True), (7, True)])
def test_a_denial_with_a_fallback_is_left_out_where_the_fallback_holds(
    make_policy: MakePolicy, make_host: MakeHost, abi: int, left_out: bool
) -> None:
    """Before ABI 3 nothing refuses truncating, so an agent could empty the notes about policies."""
    policy = make_policy(
        ("write", "/w"),
        ("deny", "/w/policies.toml", "missing"),
        tmp="none",
        contents={"/w": {"src": "directory"}},
        fallback="/w/policies.toml",
    )
    layer = apply_fs(policy, make_host(abi, NETWORK_ONLY))
    told = [gap for gap in layer.gaps if "/w/policies.toml from being made" in gap.what]
    assert len(told) == left_out
    assert bool(grants(layer)["/w"] & MAKE_REG) == left_out
    assert all("nobody minds" in gap.consequence for gap in told)


def test_a_fallback_never_replaces_a_mask(make_policy: MakePolicy, make_host: MakeHost) -> None:
    path = "/w/policies.toml"
    policy = make_policy(("write", "/w"), ("deny", path, "missing"), fallback=path)
    assert apply_fs(policy, make_host()).status == "full"


@pytest.fixture
def sealed(
    make_policy: MakePolicy, make_host: MakeHost, kernel_abi: int, ground: Callable[..., str]
) -> LandlockRuleset:
    """Below ``write`` three trees; ``below/new`` and ``kept/a/b`` are denied and missing."""
    for each in ("write/kept", "write/other"):
        os.mkdir(ground(each))
        os.chown(ground(each), os.stat(ground("write")).st_uid, -1)
    contents: Contents = {ground("write", "below"): {}, ground("write", "kept"): {}}
    system = sorted({os.path.realpath(each) for each in ("/usr", "/lib", "/lib64", "/bin")})
    policy = make_policy(
        *(("read", each) for each in system if os.path.isdir(each)),
        ("write", ground("write", "below")),
        ("write", ground("write", "kept")),
        ("write", ground("write", "other")),
        ("deny", ground("write", "below", "new"), "missing"),
        ("deny", ground("write", "kept", "a", "b"), "missing"),
        tmp="none",
        contents=contents,
    )
    return ruleset_of(apply_fs(policy, make_host(kernel_abi, ())))


def move_in(at: Callable[..., str], *target: str) -> None:
    os.makedirs(at("write", "other", "x", "b"))
    os.rename(at("write", "other", "x"), at(*target))


def link_in(at: Callable[..., str]) -> None:
    write(at("write", "other", "x"))
    os.link(at("write", "other", "x"), at("write", "below", "new"))


ATTACKS: dict[str, Callable[[Callable[..., str]], object]] = {
    "make it a file": lambda at: write(at("write", "below", "new")),
    "make it a directory": lambda at: os.mkdir(at("write", "below", "new")),
    "make it a link": lambda at: os.symlink("x", at("write", "below", "new")),
    "make it a pipe": lambda at: os.mkfifo(at("write", "below", "new")),
    "make it by moving": lambda at: move_in(at, "write", "below", "new"),
    "make it by linking": link_in,
    "make the way to it": lambda at: os.makedirs(at("write", "kept", "a", "b")),
    "link the way to it": lambda at: os.symlink("../other", at("write", "kept", "a")),
    "move the way to it": lambda at: move_in(at, "write", "kept", "a"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_is_missing_cannot_be_made(
    attack: str,
    attempt: Callable[..., Any],
    sealed: LandlockRuleset,
    ground: Callable[..., str],
    user: int,
) -> None:
    inside = attempt(lambda: ATTACKS[attack](ground), sealed, user=user)
    assert inside.refused, inside
    for name in ("x/b", "x"):
        other = ground("write", "other", name)
        if os.path.isdir(other):
            os.rmdir(other)
        elif os.path.exists(other):
            os.unlink(other)
    outside = attempt(lambda: ATTACKS[attack](ground), user=user)
    assert outside.works, outside


def test_a_file_can_be_made_beside_the_missing_way(
    attempt: Callable[..., Any],
    sealed: LandlockRuleset,
    ground: Callable[..., str],
    user: int,
) -> None:
    def use() -> None:
        write(ground("write", "kept", "a"))
        os.rename(ground("write", "kept", "a"), ground("write", "other", "moved"))
        read(ground("write", "other", "moved"))

    assert attempt(use, sealed, user=user).works


def test_a_directory_on_the_way_cannot_be_moved_to_where_more_is_permitted(
    attempt: Callable[..., Any],
    make_policy: MakePolicy,
    make_host: MakeHost,
    kernel_abi: int,
    ground: Callable[..., str],
    user: int,
) -> None:
    contents = {
        ground("write"): {"below": "directory", "other": "directory", "file": "file"},
        ground("write", "below"): {},
    }
    os.mkdir(ground("write", "other"))
    os.chown(ground("write", "other"), user, user)
    policy = make_policy(
        ("write", ground("write")),
        ("deny", ground("write", "below", "a", "b"), "missing"),
        tmp="none",
        contents=contents,
    )
    ruleset = ruleset_of(apply_fs(policy, make_host(kernel_abi, ())))

    def move() -> None:
        os.rename(ground("write", "below"), ground("write", "other", "below"))

    inside = attempt(move, ruleset, user=user)
    assert inside.refused, inside
    assert attempt(lambda: write(ground("write", "new")), ruleset, user=user).works
    assert attempt(move, user=user).works
