"""Control groups of the unified hierarchy (v2), for real: by root, in a mount namespace of its own.

A controller is there only where no old hierarchy (v1) has it. Where one has those that limits need,
what is left is tested with whatever else there is.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
from nemoclaw_testing.forked import run_forked

from nemoclaw_core.host import groups
from nemoclaw_core.launcher import cgroups, kernel, wire
from nemoclaw_core.supervisor.launcher import Launcher
from nemoclaw_core.supervisor.session import Command

pytestmark = pytest.mark.skipif(
    os.getuid() != 0, reason="mounting a hierarchy takes root: run the tests with sudo"
)

MIB = 1 << 20
LIMITS = {"pids": "pids.max", "memory": "memory.max", "hugetlb": "hugetlb.2MB.max"}
MEET = {
    "pids": "for each in 1 2 3 4 5 6 7 8; do sleep 1 & done; echo no limit",
    "memory": f'python3 -c \'held = b"x" * {200 * MIB}; print("no limit")\'',
}
VALUES = {"pids": "4", "memory": str(40 * MIB), "hugetlb": "0"}


@attrs.frozen
class Unified:
    """Where this process stands: in the group ``own``, below ``parent``, which holds no process."""

    parent: Path
    own: Path


@contextmanager
def unified(*controllers: str) -> Iterator[Unified]:
    """Two new groups, of which the upper one hands ``controllers`` on."""
    kernel.unshare(kernel.CLONE_FLAGS["mount"])
    kernel.mount("none", "/", "none", kernel.MS_REC | kernel.MS_PRIVATE, "")
    top = Path(tempfile.mkdtemp(prefix="nemoclaw-unified-"))
    try:
        kernel.mount("none", str(top), "cgroup2", 0, "")
    except OSError as error:
        top.rmdir()
        pytest.skip(f"the unified hierarchy cannot be mounted: {error.strerror}")
    before = Path("/proc/self/cgroup").read_text().partition("0::/")[2].splitlines()[0]
    parent = top / f"test-nemoclaw-{os.getpid()}"
    own = parent / "own"
    added: list[str] = []
    own.mkdir(parents=True)
    try:
        for each in controllers:
            if each not in (top / "cgroup.controllers").read_text().split():
                pytest.skip(f"a hierarchy of cgroup v1 has the {each} controller of this host")
            if each not in (top / "cgroup.subtree_control").read_text().split():
                (top / "cgroup.subtree_control").write_text(f"+{each}")
                added.append(each)
            (parent / "cgroup.subtree_control").write_text(f"+{each}")
        (own / "cgroup.procs").write_text("0")
        yield Unified(parent, own)
    finally:
        (top / before / "cgroup.procs").write_text("0")
        # A process that was reaped may not be off its group yet.
        cgroups.remove(str(own))
        cgroups.remove(str(parent))
        for each in added:
            (top / "cgroup.subtree_control").write_text(f"-{each}")
        kernel.detach(str(top))
        top.rmdir()


def step(op: str, **fields: Any) -> dict[str, Any]:
    return {"op": op, "plugin": "test", "origin": "", **fields}


def plan_for(parent: Path, file: str, value: str) -> dict[str, Any]:
    return {
        "steps": [
            step("unshare", namespaces=["mount", "pid", "cgroup"]),
            step("proc", target="/proc", masked=[]),
            step("devices", target="/dev", names=["null"], shm_size=0),
            *(
                step(
                    "bind_mount", source=path, target=path, kind="directory", read_only=True,
                    owner=None,
                )
                for path in ("/usr", "/etc")
            ),
            *(
                step("symlink", target=f"/{name}", text=f"usr/{name}")
                for name in ("bin", "lib", "lib64")
                if os.path.islink(f"/{name}")
            ),
            step("enter_view"),
            step("join_cgroup", parent=str(parent), settings=[[file, value]]),
        ]
    }  # fmt: skip


@attrs.define
class Ended:
    """What became of a command, and of its group."""

    output: bytes = b""
    made: dict[str, str] = attrs.field(factory=dict)
    """The group's files while the command ran."""
    left: list[str] = attrs.field(factory=list)
    memory_kills: int = 0


def run_in(plan: dict[str, Any], parent: Path, script: str) -> Ended:
    """Run a shell script in a sandbox whose group is made in ``parent``."""
    ended = Ended()
    launcher = Launcher.fork()
    launcher.prepare(plan)
    _, channel = launcher.spawn("unified")
    reader, writer = os.pipe()
    pid = 0
    while (report := wire.receive_report(channel)) is not None:
        kind, _, value, text, _ = report
        assert kind not in (wire.FAILED, wire.NOT_STARTED, wire.LEFT_BEHIND), text
        if kind == wire.CREATED:
            pid = value
        elif kind == wire.READY:
            (group,) = parent.glob("nemoclaw-unified.*")
            for name in ("cgroup.procs", plan["steps"][-1]["settings"][0][0]):
                ended.made[name] = (group / name).read_text()
            assert ended.made["cgroup.procs"].split() == [str(pid)]
            command = Command(["sh", "-c", script], environment={"PATH": "/usr/bin"}, workdir="/")
            wire.send_request(channel, ("run", 0, command.request()), (writer, writer, writer))
        elif kind == wire.OUT_OF_MEMORY:
            ended.memory_kills = value
    os.close(writer)
    channel.close()
    with open(reader, "rb") as file:
        ended.output = file.read()
    ended.left = [each.name for each in parent.glob("nemoclaw-*")]
    launcher.close()
    return ended


def test_a_sandbox_lives_in_a_group_of_its_own_and_takes_it_along() -> None:
    def question() -> None:
        with unified() as found:
            plan = plan_for(found.parent, "cgroup.max.descendants", "0")
            ended = run_in(plan, found.parent, "cat /proc/self/cgroup")
            assert ended.made["cgroup.max.descendants"] == "0\n"
            assert not (found.own / "tasks").exists(), "by cgroup.procs, then"
            assert b"0::/\n" in ended.output, "the group is the root of its namespace"
            assert ended.left == []

    run_forked(question)


def test_groups_of_a_launcher_that_was_killed_are_removed_and_no_others() -> None:
    def question() -> None:
        with unified() as found:
            steps = plan_for(found.parent, "cgroup.max.depth", "1")["steps"]
            for name in ("nemoclaw-a.17", "nemoclaw-b.17", "nemoclaw-a.18"):
                (found.parent / name).mkdir()
            busy = os.fork()
            if busy == 0:
                (found.parent / "nemoclaw-b.17" / "cgroup.procs").write_text("0")
                time.sleep(30)
                os._exit(0)
            while not (found.parent / "nemoclaw-b.17" / "cgroup.procs").read_text():
                time.sleep(0.001)
            cgroups.remove_of(steps, 17)
            left = sorted(each.name for each in found.parent.glob("nemoclaw-*"))
            assert left == ["nemoclaw-a.18", "nemoclaw-b.17"]
            os.kill(busy, 9)
            os.waitpid(busy, 0)
            cgroups.remove_of(steps, 17)
            cgroups.remove_of(steps, 18)
            assert not list(found.parent.glob("nemoclaw-*"))

    run_forked(question)


@pytest.mark.parametrize("controller", LIMITS)
def test_a_place_is_found_above_the_group_that_holds_this_process(controller: str) -> None:
    def question() -> None:
        with unified(controller) as found:
            top = found.parent.parent
            place = groups.Hierarchy(
                version="v2", controllers=(), mount=str(top), own=str(found.own)
            )
            reasons: dict[str, str] = {}
            places = list(groups._unified((place,), controller, reasons))
            assert places == [str(found.parent), str(top)]
            assert groups.prove(str(found.parent), LIMITS[controller]) == ""
            # Where processes are, no group can hand a controller on.
            assert "a new group has no" in groups.prove(str(found.own), LIMITS[controller])

    run_forked(question)


@pytest.mark.parametrize("controller", LIMITS)
def test_a_limit_is_set_on_the_whole_sandbox(controller: str) -> None:
    def question() -> None:
        with unified(controller) as found:
            script = MEET.get(controller, "echo no limit")
            plan = plan_for(found.parent, LIMITS[controller], "max")
            ended = run_in(plan, found.parent, script)
            assert (ended.output, ended.memory_kills) == (b"no limit\n", 0)
            plan = plan_for(found.parent, LIMITS[controller], VALUES[controller])
            ended = run_in(plan, found.parent, script)
            assert ended.made[LIMITS[controller]] == f"{VALUES[controller]}\n"
            assert (b"no limit" in ended.output) == (controller not in MEET)
            assert (ended.memory_kills > 0) == (controller == "memory")
            assert ended.left == []

    run_forked(question)
