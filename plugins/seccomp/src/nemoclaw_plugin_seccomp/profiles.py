"""The profiles: which groups each allows."""

from __future__ import annotations

from . import groups
from .groups import Group, group

MINIMAL: tuple[Group, ...] = (
    groups.DATA,
    groups.FILES,
    groups.MEMORY,
    groups.PROCESSES,
    groups.IDENTITY,
    groups.SIGNALS,
    groups.WAITING,
    groups.TIME,
    groups.LIMITS,
    groups.SYSTEM,
    groups.RESTRICTION,
    groups.MESSAGES,
)
"""Compute and files: shells, interpreters, compilers, archives. Makes no socket but pairs."""

AGENT: tuple[Group, ...] = (*MINIMAL, groups.NETWORK, groups.WATCHING, groups.IPC)
"""Agents and the development tools that they run."""

PROFILES: dict[str, tuple[Group, ...]] = {
    "minimal": MINIMAL,
    "agent": AGENT,
    "gpu": (*AGENT, groups.GPU),
}

STARTING = group(
    "starting",
    "what the sandbox's init and the dynamic loader call to start an agent and to wait for it, "
    "when the filter is in force already",
    """
    clone execve exit exit_group wait4 kill setsid setpgid getpid getppid
    read write close close_range fcntl ioctl dup2 dup3 lseek pread64
    openat stat fstat newfstatat access faccessat faccessat2 chdir umask
    brk mmap munmap mprotect mremap madvise
    rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack signalfd4
    futex set_tid_address set_robust_list rseq arch_prctl prctl prlimit64 getrandom
    poll ppoll sendmsg recvmsg recvfrom
    """,
)
"""A policy cannot deny these."""
