"""What an agent leaves behind in its work directory does not widen the next run."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..callers import User
    from .ground import Ground

NAME = "files-read_neighbour"
WIDER = """\
version = 1
[policy.default]
extends = ["base"]
[policy.default.filesystem]
read = ["{home}"]
write = ["{{workdir}}"]
"""


def _first_run(ground: Ground, script: str) -> subprocess.CompletedProcess[str]:
    """What the agent does in the first run."""
    policy = f"{ground.facts['policy']}:escape"
    return ground.start(ground.inside(policy, ["/bin/sh", "-c", script]))


def _later_run(ground: Ground, directory: str, *words: str) -> subprocess.CompletedProcess[str]:
    """The user starts nemoclaw in a directory, where the agent may have planted something."""
    enter = ["/bin/sh", "-c", 'cd "$0" && exec "$@"', directory]
    return ground.start([*enter, *ground.nemoclaw("run", *words)])


def _secret(ground: Ground) -> str:
    return ground.environment["NEMOCLAW_ESCAPE_SECRET"]


def _target(ground: Ground) -> str:
    found: str = ground.facts["attempts"][NAME]["target"]
    return found


def _wider(ground: Ground) -> str:
    return WIDER.format(home=ground.facts["home"])


def test_the_planted_policy_would_widen_if_it_were_used(user: User, ground: Ground) -> None:
    """The proof that the tests below can fail."""
    path = f"{ground.base}/policy/wider.toml"
    with open(path, "w", encoding="utf-8") as file:
        file.write(_wider(ground))
    os.chown(path, user.uid, -1)
    work = ground.facts["work"]
    ended = _later_run(ground, work, "--policy", path, "--", "/bin/cat", _target(ground))
    assert _secret(ground) in ended.stdout, ended.stderr


def test_a_policy_planted_in_the_work_directory_is_not_used(user: User, ground: Ground) -> None:
    work = ground.facts["work"]
    script = f"cat > policies.toml <<'END'\n{_wider(ground)}END"
    _first_run(ground, script)
    ended = _later_run(ground, work, "--", "/bin/cat", _target(ground))
    assert ended.returncode != 0
    assert _secret(ground) not in ended.stdout


def test_a_policy_of_the_project_is_not_changed(user: User, ground: Ground) -> None:
    """The project has one, and the first run uses another."""
    work = ground.facts["work"]
    path = f"{work}/policies.toml"
    with open(path, "w", encoding="utf-8") as file:
        file.write('version = 1\n[policy.default]\nextends = ["default"]\n')
    os.chown(path, user.uid, -1)
    _first_run(ground, f"cat > policies.toml <<'END'\n{_wider(ground)}END")
    ended = _later_run(ground, work, "--", "/bin/cat", _target(ground))
    assert ended.returncode != 0
    assert _secret(ground) not in ended.stdout


def test_a_policy_planted_further_down_is_not_used(user: User, ground: Ground) -> None:
    below = f"{ground.facts['work']}/below"
    script = f"mkdir below; cat > below/policies.toml <<'END'\n{_wider(ground)}END"
    _first_run(ground, script)
    ended = _later_run(ground, below, "--", "/bin/cat", _target(ground))
    assert ended.returncode != 0
    assert _secret(ground) not in ended.stdout


def test_a_link_planted_for_a_rule_is_not_followed(user: User, ground: Ground) -> None:
    policy = f"{ground.facts['policy']}:next"
    command = ground.inside(policy, ["/bin/cat", f"data/{NAME}/file", _target(ground)])
    before = ground.start(command)  # compiles the plan, so that later runs find it in the cache
    assert _secret(ground) not in before.stdout
    planted = _first_run(ground, f"rmdir data && ln -s {ground.facts['home']}/targets data")
    assert planted.returncode == 0, planted.stderr
    after = ground.start(command)
    assert after.returncode != 0
    assert _secret(ground) not in after.stdout


def test_a_link_swapped_during_the_start_is_not_followed(user: User, ground: Ground) -> None:
    work, targets = ground.facts["work"], f"{ground.facts['home']}/targets"
    # What an agent of another sandbox with the same work directory can do meanwhile.
    swap = f"""
ln -s {targets} {work}/link
while test -e {ground.base}/policy; do
    mv -T {work}/data {work}/aside; mv -T {work}/link {work}/data
    mv -T {work}/data {work}/link; mv -T {work}/aside {work}/data
done
"""
    swapper = subprocess.Popen(
        ["/bin/sh", "-c", swap],
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        **user.arguments(),
    )
    policy = f"{ground.facts['policy']}:next"
    command = ground.inside(policy, ["/bin/cat", f"data/{NAME}/file", _target(ground)])
    try:
        for _ in range(6):
            assert _secret(ground) not in ground.start(command).stdout
    finally:
        os.killpg(swapper.pid, 9)
        swapper.wait()
