"""Claims about ``permits``: the one rule that says what a policy lets the agent do with a path."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nemoclaw_hookspecs import FilesystemPolicy, Origin, PathRule
from nemoclaw_hookspecs.policy import Access

from nemoclaw_core.policy import permits
from nemoclaw_core.policy.access import covers, decisive, upward

from .conftest import CALM

NOWHERE = Origin(file="p.toml", line=1, key="x")


def policy_of(rules: list[tuple[Access, str]]) -> FilesystemPolicy:
    return FilesystemPolicy(
        rules=tuple(
            PathRule(path=path, access=access, kind="directory", uid=0, gid=0, origin=NOWHERE)
            for access, path in rules
        ),
        workdir="/w",
        home="/h",
    )


CASES: list[tuple[list[tuple[Access, str]], str, str | None]] = [
    ([], "/a", None),
    ([("read", "/a")], "/a", "read"),
    ([("read", "/a")], "/a/b/c", "read"),
    ([("read", "/a")], "/ab", None),
    ([("read", "/a")], "/", None),
    ([("read", "/")], "/x", "read"),
    ([("write", "/a"), ("read", "/a/b")], "/a/b/c", "read"),
    ([("read", "/a"), ("write", "/a/b")], "/a/b/c", "write"),
    ([("read", "/a"), ("write", "/a/b")], "/a/c", "read"),
    ([("read", "/a"), ("write", "/a")], "/a", "write"),
    ([("write", "/a"), ("deny", "/a/b")], "/a/b", None),
    ([("write", "/a"), ("deny", "/a/b")], "/a/bc", "write"),
    ([("deny", "/a"), ("write", "/a/b")], "/a/b/c", None),
    ([("write", "/a"), ("deny", "/a")], "/a/b", None),
]


@pytest.mark.parametrize(("rules", "path", "answer"), CASES)
def test_the_deepest_grant_decides_and_deny_wins(
    rules: list[tuple[Access, str]], path: str, answer: str | None
) -> None:
    assert permits(policy_of(rules), path) == answer
    assert permits(policy_of(rules[::-1]), path) == answer


PATH = st.lists(st.sampled_from("abc"), max_size=4).map(lambda each: "/" + "/".join(each))
RULES = st.lists(st.tuples(st.sampled_from(["read", "write", "deny"]), PATH), max_size=6)


@CALM
@given(RULES, PATH)
def test_the_answer_is_that_of_the_paths_above(rules: list[tuple[Access, str]], path: str) -> None:
    """The rule once more, said by walking up from the path."""
    chain = list(upward(path))
    expected = None
    if not any(access == "deny" and rule in chain for access, rule in rules):
        for above in chain:
            here = {access for access, rule in rules if rule == above}
            if here:
                expected = "write" if "write" in here else "read"
                break
    assert permits(policy_of(rules), path) == expected
    rule = decisive(policy_of(rules), path)
    assert (rule is not None) == any(covers(each, path) for _, each in rules)


@pytest.mark.parametrize("path", ["", "a", "./a", "/a/../b", "/a/."])
def test_a_path_that_is_not_absolute_and_normal_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="absolute, normal"):
        permits(policy_of([]), path)
