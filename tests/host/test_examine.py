"""The probe says what works here, and notices what is refused on other machines."""

from __future__ import annotations

import errno
import glob
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from nemoclaw_hookspecs import NAMESPACES, Host

from nemoclaw_core.host import Examination, examine, probe
from nemoclaw_core.host.children import ask
from nemoclaw_core.launcher import kernel, rights

NEWUSER = kernel.CLONE_FLAGS["user"]
OTHERS = frozenset(NAMESPACES) - {"user"}


@pytest.fixture
def free(here: dict[int, Examination], plain_user: int) -> Examination:
    """This machine for a plain user, if it forbids nothing: there is something to simulate then."""
    found = here[plain_user]
    if found.host.namespaces != frozenset(NAMESPACES):
        pytest.skip("this host forbids namespaces to begin with")
    return found


def test_facts_that_need_no_question(here: dict[int, Examination], user: int) -> None:
    host = here[user].host
    assert (host.machine, host.kernel) == (os.uname().machine, os.uname().release)
    assert (host.uid, host.gid) == (user, user)
    assert host.merged_usr == os.path.islink("/bin")


def test_every_fact_has_an_answer(here: dict[int, Examination], user: int) -> None:
    found = here[user]
    assert {each.subject for each in found.answers} == {
        "landlock",
        "seccomp",
        *(f"namespace.{kind}" for kind in NAMESPACES),
        "nftables",
        "idmapped-mounts",
        "cgroup.pids",
        "cgroup.memory",
    }
    for kind in NAMESPACES:
        assert found.answer(f"namespace.{kind}").works == (kind in found.host.namespaces)
    assert found.answer("landlock").works == bool(found.host.landlock_abi)
    for each in found.answers:
        assert each.detail


def test_it_agrees_with_unshare(here: dict[int, Examination], user: int) -> None:
    """util-linux asks the kernel in its own way."""
    command = ["unshare", "--mount", "--pid", "--net", "--ipc", "--uts", "--cgroup", "--fork"]
    if user:
        command += ["--user", "--map-current-user"]
    try:
        done = subprocess.run([*command, "true"], capture_output=True, user=user, group=user)
    except FileNotFoundError:
        pytest.skip("unshare(1) is not installed")
    if done.returncode == 0:
        assert here[user].host.namespaces == frozenset(NAMESPACES)
    else:
        assert here[user].host.namespaces != frozenset(NAMESPACES)


def test_probe_gives_the_facts_of_examine(simulate: Callable[..., Any]) -> None:
    host, found = simulate(run=lambda: (probe(), examine()))
    assert isinstance(host, Host)
    assert host == found.host


def test_a_filter_on_user_namespaces_is_noticed(
    simulate: Callable[..., Any], change: Any, free: Examination, plain_user: int
) -> None:
    found = simulate(change.become(plain_user), change.refuse("clone", errno.EPERM, NEWUSER))
    assert found.host.namespaces == frozenset()
    assert found.answer("namespace.user").detail == "EPERM from clone"
    assert found.host.landlock_abi == free.host.landlock_abi


@pytest.mark.skipif(os.getuid() != 0, reason="root needs no user namespace, and nobody here is")
def test_root_does_not_need_user_namespaces(
    simulate: Callable[..., Any], change: Any, free: Examination
) -> None:
    found = simulate(change.refuse("clone", errno.EPERM, NEWUSER))
    assert found.host.namespaces == OTHERS
    assert not found.host.idmapped_mounts  # It takes a user namespace to say how ids are mapped.


@pytest.mark.skipif(os.getuid() != 0, reason="only root has capabilities to lose")
def test_root_without_capabilities_gets_nothing(
    simulate: Callable[..., Any], change: Any, free: Examination
) -> None:
    """As in a container."""
    host = simulate(rights.clear_capabilities).host
    assert host.is_root
    assert not host.namespaces & OTHERS
    assert not host.idmapped_mounts


def test_a_limit_of_zero_user_namespaces_is_noticed(
    simulate: Callable[..., Any], change: Any, free: Examination, plain_user: int
) -> None:
    found = simulate(change.no_user_namespaces(plain_user))
    assert found.host.uid == plain_user
    assert found.host.namespaces == frozenset()
    assert found.answer("namespace.user").detail == "ENOSPC from clone"


@pytest.mark.parametrize("call", ["mount", "fsopen", "move_mount", "pivot_root"])
def test_namespaces_in_which_nothing_can_be_mounted_do_not_count(
    call: str, simulate: Callable[..., Any], change: Any, free: Examination, plain_user: int
) -> None:
    """AppArmor on Ubuntu 24.04 grants the user namespace and refuses the mounts inside."""
    found = simulate(change.become(plain_user), change.refuse(call, errno.EACCES))
    assert "mount" not in found.host.namespaces
    assert {"user", "network", "uts"} <= found.host.namespaces
    detail = found.answer("namespace.mount").detail
    assert detail.startswith("EACCES from ")
    assert detail.endswith("inside the namespace")
    # A PID namespace without a proc of its own would show the host's processes.
    assert ("pid" in found.host.namespaces) == (call != "fsopen")


def test_one_forbidden_kind_does_not_hide_the_others(
    simulate: Callable[..., Any], change: Any, free: Examination, plain_user: int
) -> None:
    found = simulate(
        change.become(plain_user),
        change.refuse("clone", errno.EINVAL, kernel.CLONE_FLAGS["cgroup"]),
    )
    assert found.host.namespaces == frozenset(NAMESPACES) - {"cgroup"}
    assert found.answer("namespace.cgroup").detail == "EINVAL from clone"


def test_a_capability_that_is_missing_inside_is_noticed(
    simulate: Callable[..., Any], change: Any, free: Examination, plain_user: int
) -> None:
    found = simulate(change.become(plain_user), change.refuse("sethostname"))
    assert found.host.namespaces == frozenset(NAMESPACES) - {"uts"}


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (errno.ENOSYS, "built without Landlock"),
        (errno.EOPNOTSUPP, "switched off"),
        (errno.EPERM, "EPERM from landlock_create_ruleset"),
    ],
)
def test_an_absent_landlock_is_abi_0(
    error: int, told: str, simulate: Callable[..., Any], change: Any
) -> None:
    found = simulate(change.refuse("landlock_create_ruleset", error))
    assert found.host.landlock_abi == 0
    assert told in found.answer("landlock").detail


def test_a_landlock_that_cannot_be_enforced_is_abi_0(
    simulate: Callable[..., Any], change: Any
) -> None:
    found = simulate(change.refuse("landlock_restrict_self"))
    assert found.host.landlock_abi == 0


def test_an_absent_seccomp_is_noticed(simulate: Callable[..., Any], change: Any) -> None:
    assert not simulate(change.refuse("seccomp", errno.ENOSYS)).host.seccomp


@pytest.mark.skipif(os.getuid() != 0, reason="only root can map the owners of a mount")
def test_a_kernel_without_idmapped_mounts_is_noticed(
    simulate: Callable[..., Any], change: Any, here: dict[int, Examination]
) -> None:
    if not here[0].host.idmapped_mounts:
        pytest.skip("this kernel has none")
    found = simulate(change.refuse("mount_setattr", errno.ENOSYS))
    assert not found.host.idmapped_mounts
    assert found.answer("idmapped-mounts").detail == "ENOSYS from mount_setattr"


def state() -> tuple[object, ...]:
    """What a probe could have changed about its own process."""
    with open("/proc/self/mountinfo") as mounts, open("/proc/self/status") as status:
        lines = [
            line
            for line in status
            if line.startswith(("Uid", "Gid", "Groups", "Cap", "NoNewPrivs", "Seccomp"))
        ]
        return (
            mounts.read(),
            lines,
            [os.readlink(f"/proc/self/ns/{kind}") for kind in sorted(os.listdir("/proc/self/ns"))],
            sorted(os.listdir("/proc/self/fd")),
            os.uname().nodename,
            signal.getsignal(signal.SIGCHLD),
        )


def test_the_caller_stays_as_it_was(simulate: Callable[..., Any], change: Any, user: int) -> None:
    def before_and_after() -> tuple[object, object]:
        before = state()
        examine()
        return before, state()

    before, after = simulate(change.become(user), run=before_and_after)
    assert before == after


def test_nothing_is_left_behind(simulate: Callable[..., Any]) -> None:
    def children_after() -> list[str]:
        examine()
        try:
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            mine = f"nemoclaw-probe-{os.getpid()}-*"
            return glob.glob(f"/sys/fs/cgroup/**/{mine}", recursive=True)
        return ["a child process"]

    assert simulate(run=children_after) == []


def test_a_caller_that_ignores_its_children_gets_the_same_facts(
    simulate: Callable[..., Any], here: dict[int, Examination]
) -> None:
    ignoring = simulate(lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN))
    assert ignoring.host == here[os.getuid()].host


def test_it_can_be_asked_beside_other_threads(here: dict[int, Examination]) -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        assert examine().host == here[os.getuid()].host
    finally:
        stop.set()
        thread.join()


def test_a_child_that_hangs_is_killed_and_what_it_told_counts() -> None:
    def hang(tell: Callable[[str], None]) -> None:
        tell(str(os.getpid()))
        time.sleep(60)

    begun = time.monotonic()
    reply = ask(hang, timeout=0.2)
    assert time.monotonic() - begun < 5
    assert reply.failure == "no answer within 0.2 s"
    (pid,) = reply.lines
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


def test_a_child_that_dies_is_no_answer() -> None:
    assert ask(lambda tell: os.kill(os.getpid(), signal.SIGKILL)).failure == "the child died"


def test_a_child_whose_question_fails_says_why() -> None:
    def fail(tell: Callable[[str], None]) -> None:
        tell("first")
        os.open("/does/not/exist", os.O_RDONLY)

    reply = ask(fail)
    assert reply.lines == ("first",)
    assert reply.failure == "ENOENT from /does/not/exist"


def test_it_is_quick() -> None:
    """It runs once for each compiled plan. Measured at 15 to 40 ms; ten times that is a bug. The
    best of some counts, in a process of its own: other tests run meanwhile, and it forks."""
    code = (
        "import time; from nemoclaw_core.host import examine\n"
        "for _ in range(5): began = time.monotonic(); examine(); print(time.monotonic() - began)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert min(map(float, done.stdout.split())) < 0.4


def test_it_imports_nothing_heavy() -> None:
    # attrs itself imports subprocess on Python 3.10.
    code = (
        "import sys, attrs; before = set(sys.modules); import nemoclaw_core.host; "
        "print(*({'asyncio', 'pluggy', 'cattrs', 'landlock', 'subprocess', 'socket', "
        "'importlib.metadata'} & (set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
