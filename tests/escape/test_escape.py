"""Every attempt works outside and is stopped inside."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Battery
    from .ground import Attempt, Ground, User

# The first test runs the whole battery, a few stages at a time; the others look at the outcome.
pytestmark = pytest.mark.timeout(600)


def test_works_outside_and_is_stopped_inside(
    attempt: Attempt,
    user: User,
    battery: Battery,
    record_property: Callable[[str, object], None],
) -> None:
    inside = battery.outcome(attempt, user, "inside")
    record_property("stopped by", inside.detail)
    assert inside.sound, f"it was not seen to the end inside: {inside.detail}"
    assert not inside.worked, f"ESCAPED: {attempt['claim']} ({inside.detail})"
    if reason := battery.forbidden(attempt):
        pytest.skip(f"stopped inside; outside, {reason}")
    outside = battery.outcome(attempt, user, "outside")
    assert outside.sound, f"it was not seen to the end outside: {outside.detail}"
    if not outside.judged:
        pytest.skip(f"stopped inside; outside, {outside.detail}")
    assert outside.worked, f"it proves nothing: outside, too, it was stopped: {outside.detail}"


def test_nothing_outside_the_work_directory_changed(user: User, battery: Battery) -> None:
    if user not in battery.untouched:
        pytest.skip("no attempts were selected")
    before, after = battery.untouched[user]
    assert after == before


def test_the_sandbox_lets_ordinary_work_through(user: User, ground: Ground) -> None:
    # A sandbox in which nothing works would stop every attempt.
    work = ground.facts["work"]
    script = "set -e; cat README; echo made > made; chmod 700 made; mkdir d; mv made d; /usr/bin/id"
    policy = f"{ground.facts['policy']}:escape"
    ended = ground.start(ground.inside(policy, ["/bin/sh", "-c", script]))
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("A small project.\n")
    with open(f"{work}/d/made", encoding="ascii") as file:
        assert file.read() == "made\n"


def test_nothing_is_left_in_the_work_directory(user: User, ground: Ground) -> None:
    before = sorted(os.listdir(ground.facts["work"]))
    policy = f"{ground.facts['policy']}:escape"
    ended = ground.start(ground.inside(policy, ["/bin/true"]))
    assert ended.returncode == 0, ended.stderr
    assert sorted(os.listdir(ground.facts["work"])) == before
