"""Where control groups can be made: parsing, the rules of both versions, and proof."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nemoclaw_core.host import groups
from nemoclaw_core.host.groups import Hierarchy, hierarchies

SYSTEMD = (
    "29 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 "
    "rw,nsdelegate,memory_recursiveprot\n"
)
OLD = (
    "31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
    "32 30 0:28 / /sys/fs/cgroup/pids rw,relatime shared:9 - cgroup cgroup rw,pids\n"
    "33 30 0:29 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n"
    "34 30 0:30 / /sys/fs/cgroup/systemd rw shared:9 - cgroup cgroup rw,xattr,name=systemd\n"
    "35 30 0:31 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n"
)


def test_the_unified_hierarchy_of_a_desktop() -> None:
    own = "/user.slice/user-1000.slice/user@1000.service/app.slice/term.scope"
    (found,) = hierarchies(SYSTEMD, f"0::{own}\n")
    assert found == Hierarchy(
        version="v2", controllers=(), mount="/sys/fs/cgroup", own="/sys/fs/cgroup" + own
    )


def test_separate_hierarchies_beside_an_empty_unified_one() -> None:
    found = hierarchies(
        OLD, "9:name=systemd:/\n8:pids:/\n4:memory:/jobs/7\n1:cpu,cpuacct:/\n0::/\n"
    )
    own = {each.controllers: (each.version, each.own) for each in found}
    assert own[("pids",)] == ("v1", "/sys/fs/cgroup/pids")
    assert own[("memory",)] == ("v1", "/sys/fs/cgroup/memory/jobs/7")
    assert own[()] == ("v2", "/sys/fs/cgroup/unified")


@pytest.mark.parametrize(
    ("root", "path", "own"),
    [
        ("/docker/7", "/docker/7", "/sys/fs/cgroup/pids"),
        ("/docker/7", "/docker/7/job", "/sys/fs/cgroup/pids/job"),
        ("/docker/7", "/docker/77", "/sys/fs/cgroup/pids/docker/77"),
        ("/", "/../other", "/sys/fs/cgroup/pids"),
    ],
    ids=["container", "below a container", "another container", "outside the namespace"],
)
def test_our_own_group_where_only_a_part_is_mounted(root: str, path: str, own: str) -> None:
    line = f"32 30 0:28 {root} /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n"
    (found,) = hierarchies(line, f"8:pids:{path}\n")
    assert found.own == own


def test_a_mount_point_with_a_space() -> None:
    line = "32 30 0:28 / /mnt/c\\040g rw - cgroup2 cgroup2 rw\n"
    assert hierarchies(line, "0::/\n")[0].mount == "/mnt/c g"


def tree(root: Path, groups_: dict[str, str]) -> Hierarchy:
    """A directory that looks like a unified hierarchy: group to its subtree_control."""
    for name, controllers in groups_.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name / "cgroup.subtree_control").write_text(controllers + "\n")
    own = max(groups_, key=len)
    return Hierarchy(version="v2", controllers=(), mount=str(root), own=str(root / own).rstrip("/"))


def test_the_nearest_group_that_hands_controllers_on_is_tried_first(tmp_path: Path) -> None:
    """Our own group holds this process, so it lists none (no internal processes rule)."""
    place = tree(
        tmp_path,
        {".": "cpu memory pids", "user": "memory pids", "user/app": "pids", "user/app/own": ""},
    )
    reasons: dict[str, str] = {}
    assert list(groups._unified((place,), "pids", reasons)) == [
        f"{tmp_path}/user/app",
        f"{tmp_path}/user",
        str(tmp_path),
    ]
    assert next(groups._unified((place,), "memory", reasons)) == f"{tmp_path}/user"


def test_a_hierarchy_that_hands_nothing_on_says_so(tmp_path: Path) -> None:
    place = tree(tmp_path, {".": "", "own": ""})
    reasons: dict[str, str] = {}
    assert list(groups._unified((place,), "pids", reasons)) == []
    assert reasons["pids"] == f"not in {tmp_path}/own/cgroup.subtree_control, nor in one above"


def test_a_directory_that_is_no_control_group_proves_nothing(tmp_path: Path) -> None:
    assert groups.prove(str(tmp_path), "pids.max") == "a new group has no pids.max"
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_proves_nothing(tmp_path: Path) -> None:
    assert groups.prove(str(tmp_path / "missing"), "pids.max") == "ENOENT from mkdir"


def test_what_is_found_here_holds_a_limit() -> None:
    """The parent is used as the launcher will: a limit of one process stops the second."""
    found = groups.examine()
    parents = dict(found.parents)
    if "pids" not in parents:
        pytest.skip("no control groups for this user: " + found.answers[0].detail)
    group = f"{parents['pids']}/nemoclaw-test-{os.getpid()}"
    os.mkdir(group)
    try:
        Path(group, "pids.max").write_text("1")
        child = os.fork()
        if child == 0:
            status = 2
            try:
                Path(group, "cgroup.procs").write_text("0")
                try:
                    if os.fork() == 0:
                        os._exit(0)
                    status = 1
                except BlockingIOError:
                    status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        groups._remove(group)


def test_the_agents_group_lies_below_ours_so_our_own_limits_hold_for_it() -> None:
    found = groups.examine()
    if found.version != "v1":
        pytest.skip("the unified hierarchy forbids groups below one that holds processes")
    with open("/proc/self/cgroup") as file:
        own = {line.split(":", 2)[1]: line.rstrip().split(":", 2)[2] for line in file}
    for controller, parent in found.parents:
        assert parent.endswith(own[controller].rstrip("/"))


def test_a_group_of_the_unified_hierarchy_is_made_joined_and_removed() -> None:
    with open("/proc/self/mountinfo") as mounts, open("/proc/self/cgroup") as membership:
        present = hierarchies(mounts.read(), membership.read())
    places = [each.own for each in present if each.version == "v2" and os.access(each.own, os.W_OK)]
    if not places:
        pytest.skip("this user may not write in the unified hierarchy")
    before = set(os.listdir(places[0]))
    assert groups.prove(places[0], "cgroup.procs") == ""
    assert groups.prove(places[0], "no.such.file") == "a new group has no no.such.file"
    assert set(os.listdir(places[0])) == before
