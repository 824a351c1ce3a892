"""What the compiled programs answer, on both architectures, run by an interpreter of BPF."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import pyseccomp  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nemoclaw_hookspecs import Host, Policy, SyscallPolicy
from nemoclaw_plugin_seccomp.judge import Judgement, judge
from nemoclaw_plugin_seccomp.refused import NUMBERS

if TYPE_CHECKING:
    from collections.abc import Callable

MACHINES = ("x86_64", "aarch64")
HIGH = 1 << 32
"""The lowest bit that the kernel ignores in a 32-bit argument."""

EPERM, ENOSYS, ALLOW = "EPERM", "ENOSYS", "allow"
NOFAMILY, NOPROTOCOL = "EAFNOSUPPORT", "EPROTONOSUPPORT"

Case = tuple[str | int, tuple[int, ...], str]
"""System call, arguments, the answer of the agent profile where everything else is in place."""

REFUSED = """
io_uring_setup io_uring_enter io_uring_register userfaultfd bpf perf_event_open keyctl add_key
request_key ptrace process_vm_readv process_vm_writev process_madvise kcmp pidfd_getfd mount umount2
pivot_root chroot move_mount open_tree fsopen fsconfig fsmount fspick mount_setattr init_module
finit_module delete_module kexec_load reboot swapon swapoff acct quotactl quotactl_fd syslog
settimeofday clock_settime adjtimex clock_adjtime sethostname setdomainname open_by_handle_at
name_to_handle_at fanotify_init fanotify_mark vhangup memfd_create memfd_secret remap_file_pages
migrate_pages move_pages mbind vmsplice
"""

CASES: list[Case] = [
    ("read", (), ALLOW),
    ("futex", (), ALLOW),
    ("execve", (), ALLOW),
    # Namespaces.
    ("clone", (0x01200011,), ALLOW),  # fork() of glibc
    ("clone", (0x003D0F00,), ALLOW),  # pthread_create() of glibc
    *(("clone", (flag | 17,), EPERM) for flag in (0x20000, 0x02000000, 0x04000000, 0x08000000)),
    *(("clone", (flag | 17,), EPERM) for flag in (0x10000000, 0x20000000, 0x40000000, 0x80)),
    ("clone3", (0, 0), ENOSYS),
    ("unshare", (0x400,), ALLOW),
    ("unshare", (0x200 | 0x400 | 0x40000,), ALLOW),
    ("unshare", (0x10000000,), EPERM),
    ("unshare", (0x80,), EPERM),
    ("unshare", (1 << 40,), EPERM),
    ("setns", (3, 0), EPERM),
    # Terminals.
    ("ioctl", (0, 0x5401), ALLOW),  # TCGETS
    ("ioctl", (0, 0x540E), ALLOW),  # TIOCSCTTY
    ("ioctl", (0, 0x5410), ALLOW),  # TIOCSPGRP
    ("ioctl", (0, 0x5413), ALLOW),  # TIOCGWINSZ
    ("ioctl", (0, 0x541B), ALLOW),  # FIONREAD
    ("ioctl", (0, 0x40049409), ALLOW),  # FICLONE
    ("ioctl", (0, 0x8912), ALLOW),  # SIOCGIFCONF
    *(("ioctl", (0, request), EPERM) for request in (0x5412, 0x541C, 0x541D, 0x5423, 0x8946)),
    ("ioctl", (0, 0x4B3A), EPERM),  # KDSETMODE
    ("ioctl", (0, 0x5606), EPERM),  # VT_ACTIVATE
    ("ioctl", (0, 0x5000940E), EPERM),  # BTRFS_IOC_SUBVOL_CREATE
    ("ioctl", (0, 0x5000940F), EPERM),  # BTRFS_IOC_SNAP_DESTROY
    # Modes.
    *((call, (*before, 0o755), ALLOW) for call, before in [("fchmod", (3,)), ("fchmodat", (3, 0))]),
    *(
        (call, (*before, 0o4755), EPERM)
        for call, before in [("fchmod", (3,)), ("fchmodat", (3, 0))]
    ),
    ("fchmod", (3, 0o2755), EPERM),
    ("fchmodat2", (3, 0, 0o4755), EPERM),
    ("openat", (3, 0, 0, 0o4755), ALLOW),  # without O_CREAT the mode is not read
    ("openat", (3, 0, 0o101, 0o644), ALLOW),
    ("openat", (3, 0, 0o101, 0o4755), EPERM),
    ("openat", (3, 0, 0o101, 0o2755), EPERM),
    ("openat", (3, 0, 0o20200002, 0o4755), EPERM),  # O_TMPFILE
    ("openat2", (), ENOSYS),
    ("mknodat", (3, 0, 0o644), ALLOW),
    ("mknodat", (3, 0, 0o010644), ALLOW),  # FIFO
    ("mknodat", (3, 0, 0o140644), ALLOW),  # socket
    ("mknodat", (3, 0, 0o020644), EPERM),  # character device
    ("mknodat", (3, 0, 0o060644), EPERM),  # block device
    ("mknodat", (3, 0, 0o104755), EPERM),
    # Sockets.
    ("socket", (1, 1, 0), ALLOW),
    ("socket", (1, 5, 0), ALLOW),
    ("socket", (2, 1, 0), ALLOW),
    ("socket", (2, 1 | 0o2004000, 6), ALLOW),  # SOCK_CLOEXEC, SOCK_NONBLOCK
    ("socket", (10, 2, 17), ALLOW),
    ("socket", (2, 3, 6), EPERM),  # raw
    ("socket", (2, 3, 1), NOPROTOCOL),  # raw ICMP
    ("socket", (2, 2, 1), NOPROTOCOL),  # ping
    ("socket", (2, 1, 262), NOPROTOCOL),  # MPTCP
    ("socket", (10, 1, 132), NOPROTOCOL),  # SCTP
    ("socket", (2, 2, 136), NOPROTOCOL),  # UDP-Lite
    ("socket", (2, 1, 17), EPERM),
    ("socket", (2, 2, 6), EPERM),
    ("socket", (2, 10, 0), EPERM),  # SOCK_PACKET
    ("socket", (16, 3, 0), ALLOW),  # NETLINK_ROUTE
    ("socket", (16, 2, 12), NOPROTOCOL),  # NETLINK_NETFILTER
    ("socket", (16, 2, 4), NOPROTOCOL),  # NETLINK_SOCK_DIAG
    *(("socket", (family, 3, 0), NOFAMILY) for family in range(64) if family not in (1, 2, 10, 16)),
    ("socket", (64, 1, 0), EPERM),
    ("socketpair", (1, 1, 0), ALLOW),
    ("socketpair", (2, 1, 0), NOFAMILY),
    ("sendto", (3, 0, 0, 0x4000), ALLOW),
    ("sendto", (3, 0, 0, 0x20000000), EPERM),
    ("sendmsg", (3, 0, 0x20000000), EPERM),
    ("sendmmsg", (3, 0, 1, 0x20000000), EPERM),
    ("setsockopt", (3, 6, 1), ALLOW),  # TCP_NODELAY
    ("setsockopt", (3, 1, 30), ALLOW),  # SOL_SOCKET, SO_ACCEPTCONN: another level
    *(("setsockopt", (3, 6, option), EPERM) for option in (23, 30, 31, 33)),
    # The caller itself.
    ("personality", (0,), ALLOW),
    ("personality", (0xFFFFFFFF,), ALLOW),
    ("personality", (0x0040000,), EPERM),
    ("personality", (0x0400000,), EPERM),
    ("personality", (8,), EPERM),
    ("prctl", (15,), ALLOW),
    ("prctl", (1, 9), ALLOW),
    ("prctl", (4, 0), ALLOW),
    ("prctl", (22, 2), ALLOW),
    ("prctl", (35,), EPERM),  # PR_SET_MM
    ("prctl", (0x59616D61,), EPERM),  # PR_SET_PTRACER
    ("prctl", (47, 1), ALLOW),
    ("prctl", (47, 2), EPERM),  # PR_CAP_AMBIENT_RAISE
    ("prctl", (28,), EPERM),  # PR_SET_SECUREBITS
    ("seccomp", (1, 0), ALLOW),
    ("seccomp", (1, 1), ALLOW),
    ("seccomp", (1, 8), EPERM),  # NEW_LISTENER
    ("seccomp", (1, 4), EPERM),  # SPEC_ALLOW
    ("seccomp", (3, 0), EPERM),
    *((f"sched_set{what}", (0,), ALLOW) for what in ("affinity", "scheduler", "param", "attr")),
    *((f"sched_set{what}", (1,), EPERM) for what in ("affinity", "scheduler", "param", "attr")),
    ("prlimit64", (0,), ALLOW),
    ("prlimit64", (1,), EPERM),
    ("setpriority", (0, 0), ALLOW),
    ("setpriority", (0, 1), EPERM),
    ("setpriority", (1, 0), EPERM),  # PRIO_PGRP
    ("ioprio_set", (1, 0), ALLOW),
    ("ioprio_set", (1, 1), EPERM),
    ("ioprio_set", (2, 0), EPERM),
    # Kernel interfaces.
    *((call, (), EPERM) for call in REFUSED.split()),
    *((call, (), ENOSYS) for call in ("io_setup", "cachestat")),
    # The gaps of the table, and the future.
    *((number, (), ENOSYS) for number in (300_000, 1000, 471)),
    *((number, (), ENOSYS) for number in (2**31, 2**30 - 1)),
]

X86_CASES: list[Case] = [
    ("fork", (), ALLOW),
    ("vfork", (), ALLOW),
    ("arch_prctl", (0x1002, 0), ALLOW),
    ("open", (0, 0o101, 0o644), ALLOW),
    ("open", (0, 0o101, 0o4755), EPERM),
    ("creat", (0, 0o644), ALLOW),
    ("creat", (0, 0o4755), EPERM),
    ("chmod", (0, 0o755), ALLOW),
    ("chmod", (0, 0o6755), EPERM),
    ("mknod", (0, 0o020644), EPERM),
    ("mknod", (0, 0o100644), ALLOW),
    ("iopl", (3,), EPERM),
    ("ioperm", (), EPERM),
    ("modify_ldt", (), EPERM),
    ("uselib", (), ENOSYS),
    ("create_module", (), ENOSYS),
    *((number, (), ENOSYS) for number in (335, 400, 423)),
]


def cases(machine: str) -> list[Case]:
    if machine == "x86_64":
        # 2**31 has the bit of x32 numbers there, see the test for those.
        return [case for case in (*CASES, *X86_CASES) if case[0] != 2**31]
    return [*CASES, *[(n, (), ENOSYS) for n in (244, 259, 295, 423)]]


@pytest.fixture(scope="module")
def filters(
    policy: Callable[..., Policy],
    host: Callable[..., Host],
    compiled: Callable[[Policy, Host], bytes],
) -> dict[str, bytes]:
    return {machine: compiled(policy(), host(machine=machine)) for machine in MACHINES}


@pytest.mark.parametrize("machine", MACHINES)
def test_agent_profile_answers(
    machine: str, filters: dict[str, bytes], answer: Callable[..., str]
) -> None:
    wrong = {
        (call, tuple(map(hex, words))): (found, expected)
        for call, words, expected in cases(machine)
        if (found := answer(filters[machine], machine, call, *words)) != expected
    }
    assert not wrong


@pytest.mark.parametrize("machine", MACHINES)
def test_bits_that_the_kernel_ignores_change_no_answer(
    machine: str, filters: dict[str, bytes], answer: Callable[..., str]
) -> None:
    wrong = {}
    for call, words, expected in cases(machine):
        if call == "unshare":  # unsigned long: the kernel reads, and refuses, the high bits
            continue
        tricked = [word | HIGH | 1 << 63 for word in words]
        found = answer(filters[machine], machine, call, *tricked)
        if found != expected:
            wrong[call, tuple(map(hex, tricked))] = (found, expected)
    assert not wrong


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("action", ["errno", "kill", "log"])
def test_foreign_entry_points_end_the_process(
    machine: str,
    action: str,
    policy: Callable[..., Policy],
    host: Callable[..., Host],
    compiled: Callable[[Policy, Host], bytes],
    answer: Callable[..., str],
) -> None:
    bpf = compiled(policy(action=action), host(machine=machine))
    for foreign in {"x86_64", "aarch64", "i386", "arm"} - {machine}:
        for number in range(0, 500):
            assert answer(bpf, foreign, number) == "kill"


def test_x32_numbers_end_the_process(filters: dict[str, bytes], answer: Callable[..., str]) -> None:
    for number in (*range(0x40000000, 0x40000000 + 600), 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE):
        assert answer(filters["x86_64"], "x86_64", number) == "kill"
    # What a tracer leaves behind that skips a call; the kernel has no such call.
    assert answer(filters["x86_64"], "x86_64", 0xFFFFFFFF) == "ENOSYS"


def expected_answer(judgement: Judgement, words: tuple[int, ...], action: str) -> str:
    """The reference: what the rules say, without libseccomp and without BPF."""
    words = (*words, *(0,) * 6)[:6]
    found: str = judgement.answer
    if judgement.rule and found in ("allow", "log"):
        refused = [
            refusal.answer
            for refusal in judgement.rule.never
            if all(words[m.argument] & m.mask == m.value for m in refusal.when)
        ]
        assert len({*refused}) <= 1, "patterns of different answers overlap"
        if refused:
            found = refused[0]
        elif judgement.rule.only and not any(
            all(words[m.argument] & m.mask == m.value for m in pattern)
            for pattern in judgement.rule.only
        ):
            found = "refuse"
    if found in ("refuse", "EAFNOSUPPORT", "EPROTONOSUPPORT") and action == "kill":
        return "kill"
    return "EPERM" if found == "refuse" else found


SYSCALLS = st.builds(
    SyscallPolicy,
    profile=st.sampled_from(["minimal", "agent", "gpu"]),
    action=st.sampled_from(["errno", "kill", "log"]),
    allow=st.lists(
        st.sampled_from(["openat2", "memfd_create", "ptrace", "mseal", "vmsplice", "io_setup"]),
        max_size=2,
    ).map(tuple),
    deny=st.lists(
        st.sampled_from(["socket", "setuid", "ptrace", "mseal", "clone3", "chmod"]), max_size=2
    ).map(tuple),
)
NAMESPACES = st.sampled_from(
    [
        frozenset({"user", "mount", "pid", "network", "ipc", "uts", "cgroup"}),
        frozenset({"pid", "mount"}),
        frozenset({"pid", "mount", "network"}),
        frozenset({"pid", "mount", "ipc"}),
    ]
)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_programs_answer_as_the_rules_say(
    data: st.DataObject,
    policy: Callable[..., Policy],
    host: Callable[..., Host],
    compiled: Callable[[Policy, Host], bytes],
    answer: Callable[..., str],
) -> None:
    machine = data.draw(st.sampled_from(MACHINES))
    asked = attrs.evolve(
        policy(network=data.draw(st.sampled_from(["none", "proxy"]))), syscalls=data.draw(SYSCALLS)
    )
    on = host(machine=machine, namespaces=data.draw(NAMESPACES))
    judgements = judge(asked, on)
    bpf = compiled(asked, on)
    arch = {"x86_64": pyseccomp.Arch.X86_64, "aarch64": pyseccomp.Arch.AARCH64}[machine]
    ruled = sorted(call for call, judgement in judgements.items() if judgement.rule)
    for call in data.draw(
        st.lists(st.sampled_from([*ruled, *sorted(judgements)]), min_size=30, max_size=60)
    ):
        number = pyseccomp.resolve_syscall(arch, call)
        if number == -1 and call in NUMBERS:
            number = NUMBERS[call]
        if number < 0:
            continue
        words = tuple(_word(data, judgements[call], place) for place in range(6))
        expected = expected_answer(judgements[call], words, asked.syscalls.action)
        assert answer(bpf, machine, number, *words) == expected, (call, [*map(hex, words)])


def _word(data: st.DataObject, judgement: Judgement, place: int) -> int:
    """An argument near what the rule looks at, with high bits, or anything."""
    interesting = [0, 1, 2, 10, 16, 0xFFFFFFFF]
    if judgement.rule:
        patterns = [*judgement.rule.only, *(refusal.when for refusal in judgement.rule.never)]
        interesting += [m.value for p in patterns for m in p if m.argument == place]
        interesting += [m.mask & -m.mask for p in patterns for m in p if m.argument == place]
    near = st.tuples(
        st.sampled_from(sorted({*interesting})),
        st.sampled_from([0, HIGH, 1 << 63, 1 << 31, 1, 0o4000, 0x80000, 0o100]),
    ).map(lambda pair: pair[0] ^ pair[1])
    return data.draw(st.one_of(near, near, st.integers(0, 2**64 - 1)))
