"""The lists are complete, and name what exists."""

from __future__ import annotations

from itertools import combinations

import pyseccomp  # type: ignore[import-untyped]
import pytest
from nemoclaw_plugin_seccomp import arguments, profiles, refused, rules
from nemoclaw_plugin_seccomp.problems import NAMES

AGENTS = """
access arch_prctl bind brk capget chdir chmod clock_gettime clock_nanosleep clone close close_range
connect copy_file_range dup dup2 epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait
eventfd2 execve faccessat2 fadvise64 fallocate fchmod fcntl flock fstat fsync ftruncate futex getcwd
getdents64 getegid geteuid getgid getpeername getpgrp getpid getppid getrandom getrusage getsockname
getsockopt gettid getuid inotify_add_watch inotify_init1 inotify_rm_watch ioctl kill link listen
lseek lstat madvise mkdir mmap mprotect mremap munmap newfstatat open openat pidfd_open pipe2 poll
prctl pread64 prlimit64 pselect6 pwrite64 pwritev read readlink recvfrom recvmsg rename renameat
renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigprocmask rt_sigreturn rt_sigsuspend
sched_getaffinity sched_getparam sched_getscheduler sched_setscheduler sched_yield sendmmsg sendto
set_robust_list set_tid_address setsid setsockopt shutdown sigaltstack socket socketpair stat statfs
statx symlink sysinfo tgkill timerfd_create timerfd_settime umask uname unlink unlinkat utimensat
vfork wait4 write writev
"""
"""What real agents were seen to call, less clone3, openat2, io_uring and mbind: they do without."""


def table(arch: int) -> dict[str, int]:
    """Names that libseccomp knows on one architecture, and their numbers."""
    found = {}
    for number in range(1024):
        try:
            found[pyseccomp.resolve_syscall(arch, number).decode()] = number
        except ValueError:
            continue
    assert len(found) > 250
    return found


X86_64, AARCH64 = table(pyseccomp.Arch.X86_64), table(pyseccomp.Arch.AARCH64)
ALL = (*profiles.PROFILES["gpu"], *refused.ALL)


def test_every_name_exists_in_libseccomp_or_is_too_young_for_it() -> None:
    assert {*X86_64, *AARCH64, *refused.NUMBERS} >= NAMES


def test_every_call_that_libseccomp_knows_is_judged() -> None:
    assert {*X86_64, *AARCH64} <= NAMES


@pytest.mark.parametrize("known", [X86_64, AARCH64])
def test_numbers_of_young_calls_agree_with_libseccomp(known: dict[str, int]) -> None:
    shared = refused.NUMBERS.keys() & known.keys()
    assert shared
    assert {name: refused.NUMBERS[name] for name in shared} == {n: known[n] for n in shared}


def test_no_call_is_in_two_groups_unless_the_gpu_profile_adds_it() -> None:
    for left, right in combinations(ALL, 2):
        shared = {*left.calls} & {*right.calls}
        assert not shared or "gpu" in (left.name, right.name), (left.name, right.name, shared)


def test_no_profile_allows_what_is_never_allowed() -> None:
    never = {call for group in (*refused.NEVER, *refused.ABSENT_NEVER) for call in group.calls}
    for groups in profiles.PROFILES.values():
        assert not never & {call for group in groups for call in group.calls}


def test_profiles_only_add() -> None:
    sizes = [{c for g in profiles.PROFILES[name] for c in g.calls} for name in profiles.PROFILES]
    assert [*profiles.PROFILES] == ["minimal", "agent", "gpu"]
    assert sizes[0] < sizes[1] < sizes[2]


def test_agent_profile_has_what_real_agents_call() -> None:
    listed = {call for group in profiles.AGENT for call in group.calls}
    assert {*AGENTS.split()} <= listed


def test_every_profile_can_start_an_agent() -> None:
    minimal = {call for group in profiles.MINIMAL for call in group.calls}
    assert {*profiles.STARTING.calls} <= minimal


def test_argument_rules_are_of_calls_that_can_be_allowed() -> None:
    allowed = {call for group in ALL for call in group.calls}
    assert arguments.STATIC.keys() <= allowed
    for rule in arguments.STATIC.values():
        assert rule.only or rule.never
        assert rule.why


def test_complement_covers_exactly_what_is_not_named() -> None:
    patterns = rules.other_than(0, (1, 2, 10, 16), 6)
    for value in range(64):
        hits = sum(value & m.mask == m.value for (m,) in patterns)
        assert hits == (value not in (1, 2, 10, 16))
