"""Claims about who the agent runs as."""

from __future__ import annotations

import os
import pwd

import attrs
import pytest

from nemoclaw_core.policy import Context
from nemoclaw_core.policy.identity import NONROOT, Identity, identity
from nemoclaw_core.policy.problems import Misfit

from .conftest import Ground, problems_of

NOBODY = pwd.getpwnam("nobody")


@pytest.fixture
def root(ground: Ground) -> Context:
    return attrs.evolve(ground.context, uid=0, gid=0)


@pytest.fixture
def user(ground: Ground) -> Context:
    return attrs.evolve(ground.context, uid=1234, gid=1235)


def test_the_agent_of_a_user_runs_as_the_user(user: Context) -> None:
    assert identity("auto", user) == Identity(1234, 1235, False)


def test_the_agent_of_root_runs_as_nobody_in_particular(root: Context) -> None:
    assert identity("auto", root) == Identity(NONROOT, NONROOT, True)


def test_root_can_name_any_other_user(root: Context) -> None:
    assert identity("nobody", root) == Identity(NOBODY.pw_uid, NOBODY.pw_gid, True, True)
    assert identity("4321", root) == Identity(4321, 4321, True, True)
    assert identity("4321:77", root) == Identity(4321, 77, True)
    assert identity(str(NOBODY.pw_uid), root).gid == NOBODY.pw_gid


def test_a_user_can_only_name_themselves(user: Context) -> None:
    assert identity("1234:1235", user) == Identity(1234, 1235, False)
    for other in ("nobody", "1235", "1234:1", "1234"):
        with pytest.raises(Misfit, match="only root"):
            identity(other, user)


@pytest.mark.parametrize("name", ["0", "root", "0:0", "0:5", "5:0", "4294967295", "5:4294967295"])
def test_nobody_can_name_root_or_what_is_no_id(root: Context, user: Context, name: str) -> None:
    for context in (root, user):
        with pytest.raises(Misfit):
            identity(name, context)


def test_an_unknown_user_is_told_with_its_line(ground: Ground) -> None:
    told = ground.refused("version = 1\n[policy.default]\n\nprocess.user = 'no-such-user'\n")
    assert 'policies.toml:4 policy.default.process.user: there is no user "no-such-user"' in told


@pytest.mark.parametrize("user", ["-1", "1:", ":1", "1:2:3", "a:b", "A", "1 ", "root\\n", "*"])
def test_what_cannot_be_a_user_is_refused_when_read(user: str) -> None:
    text = f'version = 1\n[policy.default]\nprocess.user = "{user}"\n'
    assert "is not a user" in problems_of(text)[0]


def test_the_policy_says_whether_the_user_changes(ground: Ground) -> None:
    process = ground.load("version = 1\n[policy.default]\n").process
    assert process.switch_user == (os.geteuid() == 0)
    assert process.uid == (os.geteuid() or NONROOT)
    assert process.uid != 0
