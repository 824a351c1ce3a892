"""What the policy's keys and the host's means do to the filter."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

import attrs
import pytest
from nemoclaw_hookspecs import (
    NAMESPACES,
    Host,
    Layer,
    Origin,
    PluginPolicy,
    Policy,
    PolicyError,
    SeccompFilter,
)
from nemoclaw_plugin_seccomp import NEMOCLAW_API, apply_syscall, explain
from nemoclaw_plugin_seccomp.profiles import PROFILES, STARTING
from nemoclaw_plugin_seccomp.refused import ABSENT_NEVER, NEVER

if TYPE_CHECKING:
    from collections.abc import Callable

    Make = Callable[..., Policy]
    On = Callable[..., Host]
    Compile = Callable[[Policy, Host], bytes]
    Answer = Callable[..., str]

X86 = "x86_64"
FORBIDDEN = [call for group in (*NEVER, *ABSENT_NEVER) for call in group.calls]


def test_layer_is_one_filter_that_names_its_policy_line(policy: Make, host: On) -> None:
    where = Origin(file="policies.toml", line=12, key="syscalls.profile")
    layer = apply_syscall(policy(profile="minimal", origins={"profile": where}), host())
    (operation,) = layer.operations
    assert isinstance(operation, SeccompFilter)
    assert (operation.name, operation.architecture) == ("minimal", X86)
    assert operation.origin == "policies.toml:12 syscalls.profile"
    assert layer.status == "full"
    assert NEMOCLAW_API == (1, 0)


def test_filter_depends_on_its_arguments_alone(policy: Make, host: On, compiled: Compile) -> None:
    assert compiled(policy(), host()) == compiled(policy(), host(kernel="5.4", uid=0))


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_filter_fits_into_the_kernel(
    profile: str, machine: str, policy: Make, host: On, compiled: Compile
) -> None:
    bpf = compiled(policy(profile=profile), host(machine=machine))
    assert len(bpf) % 8 == 0
    assert len(bpf) // 8 <= 1024  # of 4096: leaves room for filters of the agent's own programs


def test_gpu_adds_what_cuda_needs_to_any_profile(
    policy: Make, host: On, compiled: Compile, answer: Answer
) -> None:
    for profile, name in {"agent": "gpu", "gpu": "gpu", "minimal": "minimal+gpu"}.items():
        asked = policy(gpu=True, profile=profile)
        (operation,) = apply_syscall(asked, host()).operations
        assert isinstance(operation, SeccompFilter)
        assert operation.name == name
        for call in ("memfd_create", "mbind", "set_mempolicy", "get_mempolicy", "move_pages"):
            assert answer(operation.bpf, X86, call) == "allow"
            assert answer(compiled(policy(), host()), X86, call) == "EPERM"
        assert answer(operation.bpf, X86, "move_pages", 1) == "EPERM"


def test_minimal_makes_no_socket_but_pairs_and_watches_nothing(
    policy: Make, host: On, compiled: Compile, answer: Answer
) -> None:
    bpf = compiled(policy(profile="minimal"), host())
    for call in ("socket", "connect", "bind", "inotify_init1", "shmget", "mq_open", "pidfd_open"):
        assert answer(bpf, X86, call, 1, 1, 0) == "EPERM"
    assert answer(bpf, X86, "socketpair", 1, 1, 0) == "allow"
    assert answer(bpf, X86, "socketpair", 2, 1, 0) == "EAFNOSUPPORT"
    assert answer(bpf, X86, "sendmsg", 3, 0, 0) == "allow"


def test_allow_adds_a_call_with_its_argument_rule(
    policy: Make, host: On, compiled: Compile, answer: Answer
) -> None:
    bpf = compiled(policy(profile="minimal", allow=("socket", "openat2", "mseal")), host())
    assert answer(bpf, X86, "socket", 2, 1, 0) == "allow"
    assert answer(bpf, X86, "socket", 17, 3, 0) == "EAFNOSUPPORT"
    assert answer(bpf, X86, "openat2") == "allow"
    assert answer(bpf, X86, 462) == "allow"


def test_allow_lifts_no_argument_rule(
    policy: Make, host: On, compiled: Compile, answer: Answer
) -> None:
    names = ("clone", "unshare", "personality", "ioctl", "chmod", "prctl", "socket")
    assert compiled(policy(allow=names), host()) == compiled(policy(), host())


def test_deny_wins_over_allow_and_profile(
    policy: Make, host: On, compiled: Compile, answer: Answer
) -> None:
    asked = policy(allow=("ptrace", "mseal"), deny=("ptrace", "mseal", "socket", "chmod"))
    bpf = compiled(asked, host())
    for call in ("ptrace", 462, "chmod"):
        assert answer(bpf, X86, call) == "EPERM"
    assert answer(bpf, X86, "socket", 2, 1, 0) == "EPERM"


@pytest.mark.parametrize("call", FORBIDDEN)
def test_what_moves_the_walls_cannot_be_allowed(call: str, policy: Make, host: On) -> None:
    with pytest.raises(PolicyError, match=f"{call} cannot be allowed") as error:
        apply_syscall(policy(allow=(call,)), host())
    assert "policies.toml" in str(error.value.where)


def test_debugging_can_be_allowed_inside_a_pid_namespace_only(
    policy: Make, host: On, compiled: Compile, answer: Answer
) -> None:
    asked = policy(allow=("ptrace", "process_vm_readv"))
    assert answer(compiled(asked, host()), X86, "ptrace") == "allow"
    with pytest.raises(PolicyError, match="no pid namespace"):
        apply_syscall(asked, host(namespaces={"user", "mount"}))


def test_system_v_ipc_needs_an_ipc_namespace(
    policy: Make, host: On, compiled: Compile, answer: Answer
) -> None:
    without = host(namespaces={"user", "pid"})
    for action in ("errno", "log"):
        for call in ("shmget", "semget", "msgget", "mq_open"):
            assert answer(compiled(policy(action=action), host()), X86, call) == "allow"
            assert answer(compiled(policy(action=action), without), X86, call) == "EPERM"
    with pytest.raises(PolicyError, match="no ipc namespace"):
        apply_syscall(policy(allow=("shmget",)), without)


@pytest.mark.parametrize("call", STARTING.calls)
def test_what_starts_an_agent_cannot_be_denied(call: str, policy: Make, host: On) -> None:
    with pytest.raises(PolicyError, match=f"without {call} no agent can be started"):
        apply_syscall(policy(deny=(call,)), host())


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"profile": "agnet"}, "there is no profile 'agnet'"),
        ({"action": "die"}, "there is no action 'die'"),
        ({"allow": ("opennat2",)}, "did you mean openat2?"),
        ({"deny": ("sockett",)}, "did you mean socket?"),
        ({"deny": ("zzzzzzzz",)}, "syscalls\\(2\\)"),
    ],
)
def test_misspelt_words_are_errors(
    wrong: dict[str, object], says: str, policy: Make, host: On
) -> None:
    with pytest.raises(PolicyError, match=says):
        apply_syscall(policy(**wrong), host())


def test_errors_point_at_the_policy_line_and_come_all_at_once(policy: Make, host: On) -> None:
    line = Origin(file="policies.toml", line=7, key="syscalls.allow")
    asked = policy(allow=("read", "mount", "sokcet"), deny=("execve",), origins={"allow": line})
    with pytest.raises(PolicyError) as error:
        apply_syscall(asked, host())
    first, second, third = error.value.problems
    assert first.startswith("policies.toml:7 syscalls.allow[1]: mount cannot be allowed")
    assert second.startswith("policies.toml:7 syscalls.allow[2]: unknown system call 'sokcet'")
    assert third.startswith("policies.toml policy.default.syscalls.deny[0]: without execve")


def test_kill_ends_the_process_except_where_programs_fall_back(
    policy: Make, host: On, compiled: Compile, answer: Answer
) -> None:
    bpf = compiled(policy(action="kill"), host())
    for call, words in {
        "mount": (),
        "vmsplice": (),
        "socket": (17, 3, 0),
        "clone": (0x10000000,),
        "ioctl": (0, 0x5412),
        "chmod": (0, 0o4755),
    }.items():
        assert answer(bpf, X86, call, *words) == "kill"
    for absent in ("clone3", "openat2", "cachestat", 1000):
        assert answer(bpf, X86, absent) == "ENOSYS"
    assert answer(bpf, X86, "read") == "allow"


def test_log_lets_through_what_is_unlisted_and_nothing_that_moves_the_walls(
    policy: Make, host: On, compiled: Compile, answer: Answer
) -> None:
    bpf = compiled(policy(action="log", profile="minimal", deny=("vmsplice",)), host())
    for call in ("memfd_create", "inotify_init1", "ptrace", "modify_ldt"):
        assert answer(bpf, X86, call) == "log"
    assert answer(bpf, X86, "socket", 2, 1, 0) == "log"
    assert answer(bpf, X86, "socket", 17, 3, 0) == "EAFNOSUPPORT"
    assert answer(bpf, X86, "clone", 0x10000000) == "EPERM"
    assert answer(bpf, X86, "vmsplice") == "EPERM"
    assert answer(bpf, X86, "clone3") == "ENOSYS"
    assert answer(bpf, X86, 1000) == "ENOSYS"
    for group in NEVER:
        for call in group.calls:
            assert answer(bpf, X86, call) == "EPERM"
    outside = compiled(policy(action="log"), host(namespaces={"user", "mount"}))
    assert answer(outside, X86, "ptrace") == "EPERM"


def test_log_is_a_gap_so_that_a_strict_policy_refuses_it(policy: Make, host: On) -> None:
    layer = apply_syscall(policy(action="log"), host())
    assert layer.status == "partial"
    (gap,) = layer.gaps
    assert "log" in gap.what
    assert "errno" in gap.remedy


def test_without_a_network_namespace_a_closed_network_has_no_sockets(
    policy: Make, host: On, compiled: Compile, answer: Answer
) -> None:
    bpf = compiled(policy(), host(namespaces={"user", "mount", "pid", "ipc"}))
    for family in (2, 10, 16):
        for kind in (1, 2, 3):
            assert answer(bpf, X86, "socket", family, kind, 0) == "EAFNOSUPPORT"
    assert answer(bpf, X86, "socket", 1, 1, 0) == "allow"


def test_without_a_network_namespace_a_proxied_network_has_tcp_alone(
    policy: Make, host: On, compiled: Compile, answer: Answer
) -> None:
    bpf = compiled(policy(network="proxy"), host(namespaces={"mount"}))
    assert answer(bpf, X86, "socket", 2, 1, 6) == "allow"
    assert answer(bpf, X86, "socket", 2, 2, 17) == "EPERM"
    assert answer(bpf, X86, "socket", 2, 1, 262) == "EPROTONOSUPPORT"
    assert answer(bpf, X86, "socket", 16, 3, 0) == "EAFNOSUPPORT"
    assert answer(bpf, X86, "listen") == "EPERM"


def test_host_sockets_with_a_path_are_out_of_reach(
    policy: Make, host: On, compiled: Compile, answer: Answer
) -> None:
    bare = host(namespaces=frozenset())
    assert answer(compiled(policy(), bare), X86, "socket", 1, 1, 0) == "EPERM"
    assert answer(compiled(policy(), bare), X86, "socketpair", 1, 1, 0) == "allow"
    # One without the other makes no view: the mounts plugin asks for both or for none.
    for alone in ("mount", "pid"):
        halved = host(namespaces=set(NAMESPACES) - {alone})
        assert answer(compiled(policy(), halved), X86, "socket", 1, 1, 0) == "EAFNOSUPPORT"
        assert answer(compiled(policy(), halved), X86, "shmget") == "EPERM"
        with pytest.raises(PolicyError, match="no pid namespace"):
            apply_syscall(policy(allow=("ptrace",)), halved)
    unasked = attrs.evolve(policy(), plugins=PluginPolicy(enable=("seccomp",)))
    assert answer(compiled(unasked, host()), X86, "socket", 1, 1, 0) != "allow"
    assert answer(compiled(unasked, host()), X86, "socket", 2, 2, 0) != "allow"
    guarded = host(namespaces=frozenset(), landlock_abi=9)
    assert answer(compiled(policy(), guarded), X86, "socket", 1, 1, 0) == "allow"


def _gap(layer: Layer) -> str:
    assert layer.status == "none"
    assert not layer.operations
    (gap,) = layer.gaps
    assert gap.consequence
    return f"{gap.what} {gap.remedy}"


def test_missing_library_is_a_gap(policy: Make, host: On, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pyseccomp")
    monkeypatch.setattr(
        "ctypes.util.find_library", lambda name: None if name == "seccomp" else "libc.so.6"
    )
    layer = apply_syscall(policy(), host())
    assert "libseccomp" in _gap(layer)
    assert "apt install libseccomp2" in _gap(layer)
    with pytest.raises(PolicyError):
        apply_syscall(policy(profile="agnet"), host())


def test_missing_kernel_support_is_a_gap(policy: Make, host: On) -> None:
    assert "CONFIG_SECCOMP_FILTER" in _gap(apply_syscall(policy(), host(seccomp=False)))
    assert "riscv64" in _gap(apply_syscall(policy(), host(machine="riscv64")))


def test_importing_the_plugin_loads_neither_tables_nor_library() -> None:
    names = [name for name in sys.modules if name.startswith("nemoclaw_plugin_seccomp")]
    saved = {name: sys.modules.pop(name) for name in (*names, "pyseccomp")}
    try:
        importlib.import_module("nemoclaw_plugin_seccomp")
        assert not {"pyseccomp", "nemoclaw_plugin_seccomp.judge"} & {*sys.modules}
    finally:
        sys.modules.update(saved)


def test_explain_agrees_with_the_filter(
    policy: Make, host: On, compiled: Compile, answer: Answer
) -> None:
    for action in ("errno", "kill", "log"):
        asked = policy(action=action, deny=("setuid",), allow=("openat2",))
        bpf = compiled(asked, host())
        rows = {row.call: row for row in explain(asked, host())}
        words = {"allowed": "allow", "logged": "log", "killed": "kill"}
        checked = 0
        for call, row in rows.items():
            if (
                row.condition
                or call in ("statmount", "listmount", "mseal")
                or row.answer == "ENOSYS"
            ):
                continue
            try:
                found = answer(bpf, X86, call)
            except AssertionError:
                continue  # too young for this libseccomp
            assert found == words.get(row.answer, row.answer), row
            checked += 1
        assert checked > 300
        assert rows["openat2"].answer == "allowed"
        assert rows["setuid"].why == "the policy denies it"
        assert rows["ioctl"].answer == "allowed if"
        assert "TIOCSTI" in str(rows["ioctl"])
        assert rows["clone3"].answer == "ENOSYS"
        assert [*rows] == sorted(rows)
