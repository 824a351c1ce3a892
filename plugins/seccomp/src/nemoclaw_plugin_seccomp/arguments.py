"""Conditions on the arguments of system calls that a profile allows.

A call whose answer depends on an argument is filtered each time, while the kernel answers plain
allowed calls from a bitmap (Linux >= 5.11). So a condition stands only where it stops something.
"""

from __future__ import annotations

from .rules import (
    INT,
    LONG,
    ArgumentRule,
    Match,
    Pattern,
    any_of,
    both,
    equals,
    refusals,
    without,
)

# sched.h: NEWTIME, NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET. In clone(2) the bit
# of NEWTIME belongs to the exit signal, and no signal has that number.
CLONE_NEW = 0x80 | 0x20000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000
CLONE_NEW |= 0x40000000
CLONE_FS, CLONE_FILES, CLONE_SYSVSEM = 0x200, 0x400, 0x40000

SETID = 0o6000
S_IFMT, S_IFREG, S_IFIFO, S_IFSOCK = 0o170000, 0o100000, 0o010000, 0o140000
RENAME_WHITEOUT = 4
F_SETLEASE = 1024
O_CREAT, O_TMPFILE = 0o100, 0o20000000

MSG_FASTOPEN = 0x20000000
IPPROTO_TCP = 6
TCP_OPTIONS = (23, 30, 31, 33)  # TCP_FASTOPEN, TCP_FASTOPEN_CONNECT, TCP_ULP, TCP_FASTOPEN_KEY

TIOCSTI, TIOCLINUX, TIOCCONS, TIOCSETD, SIOCETHTOOL = 0x5412, 0x541C, 0x541D, 0x5423, 0x8946
CONSOLE_REQUESTS = (0x4B00, 0x5600)
"""KD* and VT_* (ioctl_console(2)): keyboard map, fonts and mode of a virtual console."""
SUBVOLUME_REQUESTS = (0x9401, 0x940E, 0x940F, 0x9417, 0x9418, 0x943F, 0xBC10, 0xBC11)
"""Type and number of SNAP_CREATE, SUBVOL_CREATE, SNAP_DESTROY and their second versions of btrfs,
and of the same two of bcachefs: they make and remove directories, and Landlock does not see it."""

SECCOMP_SET_MODE_STRICT, SECCOMP_SET_MODE_FILTER, SECCOMP_GET_ACTION_AVAIL = 0, 1, 2
SECCOMP_FLAGS = 1 | 2 | 16
"""TSYNC, LOG, TSYNC_ESRCH. Not SPEC_ALLOW, which drops a processor mitigation, and not
NEW_LISTENER, which has no use to a program that only restricts itself."""

PRCTL: dict[str, int] = {
    # prctl(2). Each reads, or changes something that is the caller's own and harmless.
    "PR_SET_PDEATHSIG": 1,
    "PR_GET_PDEATHSIG": 2,
    "PR_GET_DUMPABLE": 3,
    "PR_SET_DUMPABLE": 4,
    "PR_GET_UNALIGN": 5,
    "PR_GET_KEEPCAPS": 7,
    "PR_SET_KEEPCAPS": 8,
    "PR_GET_TIMING": 13,
    "PR_SET_NAME": 15,
    "PR_GET_NAME": 16,
    "PR_GET_ENDIAN": 19,
    "PR_GET_SECCOMP": 21,
    # A program that restricts itself: filters add up, so it can only lose calls by it.
    "PR_SET_SECCOMP": 22,
    "PR_CAPBSET_READ": 23,
    "PR_GET_TSC": 25,
    "PR_GET_SECUREBITS": 27,
    "PR_SET_TIMERSLACK": 29,
    "PR_GET_TIMERSLACK": 30,
    "PR_SET_CHILD_SUBREAPER": 36,
    "PR_GET_CHILD_SUBREAPER": 37,
    "PR_SET_NO_NEW_PRIVS": 38,
    "PR_GET_NO_NEW_PRIVS": 39,
    "PR_SET_THP_DISABLE": 41,
    "PR_GET_THP_DISABLE": 42,
    # Arm: vector lengths, pointer authentication, memory tags; the C library sets them up.
    "PR_SVE_SET_VL": 50,
    "PR_SVE_GET_VL": 51,
    "PR_GET_SPECULATION_CTRL": 52,
    "PR_PAC_RESET_KEYS": 54,
    "PR_SET_TAGGED_ADDR_CTRL": 55,
    "PR_GET_TAGGED_ADDR_CTRL": 56,
    "PR_SME_SET_VL": 63,
    "PR_SME_GET_VL": 64,
    "PR_SET_MDWE": 65,
    "PR_GET_MDWE": 66,
    "PR_GET_SHADOW_STACK_STATUS": 74,
    "PR_SET_SHADOW_STACK_STATUS": 75,
    "PR_LOCK_SHADOW_STACK_STATUS": 76,
    "PR_GET_AUXV": 0x41555856,
    "PR_SET_VMA": 0x53564D41,
}
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_IS_SET, PR_CAP_AMBIENT_LOWER, PR_CAP_AMBIENT_CLEAR_ALL = 1, 3, 4


def _no_setid(argument: int) -> ArgumentRule:
    return ArgumentRule(
        why="mode without S_ISUID and S_ISGID: such a file hands the caller's rights to others, "
        "outside too. A file and a directory look alike here, so `chmod g+s DIRECTORY` is lost",
        only=without(argument, SETID),
    )


def _open(flags: int, mode: int) -> ArgumentRule:
    return ArgumentRule(
        why="no S_ISUID or S_ISGID in the mode of a file that it creates",
        never=refusals(
            both(any_of(flags, O_CREAT | O_TMPFILE), any_of(mode, SETID)),
        ),
    )


def _mknod(mode: int) -> ArgumentRule:
    kinds = (0, S_IFREG, S_IFIFO, S_IFSOCK)
    return ArgumentRule(
        why="regular files, pipes and sockets, without S_ISUID and S_ISGID; no device",
        only=tuple((Match(mode, S_IFMT | SETID, kind),) for kind in kinds),
    )


def _no_fast_open(flags: int) -> ArgumentRule:
    return ArgumentRule(
        why="no MSG_FASTOPEN: it connects without connect(2), past Landlock's TCP rules",
        never=refusals(any_of(flags, MSG_FASTOPEN)),
    )


def _own(*arguments: int, first: tuple[Pattern, ...] = ((),)) -> ArgumentRule:
    return ArgumentRule(
        why="the caller itself, pid 0: not the sandbox's init, and not a process of another group",
        only=both(first, *(equals(argument, 0) for argument in arguments)),
    )


STATIC: dict[str, ArgumentRule] = {
    "clone": ArgumentRule(
        why="no new namespaces (CLONE_NEW*)",
        only=without(0, CLONE_NEW),
    ),
    "unshare": ArgumentRule(
        why="only CLONE_FILES, CLONE_FS and CLONE_SYSVSEM: no new namespaces",
        only=without(0, LONG & ~(CLONE_FILES | CLONE_FS | CLONE_SYSVSEM), LONG),
    ),
    "ioctl": ArgumentRule(
        why="not TIOCSTI and TIOCLINUX, which type into the terminal, nor TIOCCONS, TIOCSETD, "
        "SIOCETHTOOL, virtual consoles (KD*, VT_*), and subvolumes made or removed by request",
        never=refusals(
            (
                *equals(1, TIOCSTI, TIOCLINUX, TIOCCONS, TIOCSETD, SIOCETHTOOL),
                *((Match(1, INT & ~0xFF, request),) for request in CONSOLE_REQUESTS),
                *((Match(1, 0xFFFF, request),) for request in SUBVOLUME_REQUESTS),
            )
        ),
    ),
    "prctl": ArgumentRule(
        why=f"{', '.join(sorted(name for name in PRCTL))}, and PR_CAP_AMBIENT to look or to drop",
        only=(
            *equals(0, *PRCTL.values()),
            *both(
                equals(0, PR_CAP_AMBIENT),
                equals(1, PR_CAP_AMBIENT_IS_SET, PR_CAP_AMBIENT_LOWER, PR_CAP_AMBIENT_CLEAR_ALL),
            ),
        ),
    ),
    "personality": ArgumentRule(
        why="asking (0xffffffff) and the normal one (0); others weaken address randomisation and "
        "the protection of data against execution",
        only=equals(0, 0, 0xFFFFFFFF),
    ),
    "seccomp": ArgumentRule(
        why="more filters, with no flags but TSYNC, LOG and TSYNC_ESRCH",
        only=(
            *equals(0, SECCOMP_SET_MODE_STRICT, SECCOMP_GET_ACTION_AVAIL),
            *both(equals(0, SECCOMP_SET_MODE_FILTER), without(1, INT & ~SECCOMP_FLAGS)),
        ),
    ),
    "open": _open(1, 2),
    "openat": _open(2, 3),
    "creat": _no_setid(1),
    "fcntl": ArgumentRule(
        why="not F_SETLEASE: a lease on a file that can only be read makes a program of the host "
        "that opens it for writing wait, up to /proc/sys/fs/lease-break-time",
        never=refusals(equals(1, F_SETLEASE)),
    ),
    "chmod": _no_setid(1),
    "fchmod": _no_setid(1),
    "fchmodat": _no_setid(2),
    "fchmodat2": _no_setid(2),
    "mknod": _mknod(1),
    "mknodat": _mknod(2),
    "renameat2": ArgumentRule(
        why="no RENAME_WHITEOUT, which leaves a character device (0:0) behind",
        never=refusals(any_of(4, RENAME_WHITEOUT)),
    ),
    "sendto": _no_fast_open(3),
    "sendmsg": _no_fast_open(2),
    "sendmmsg": _no_fast_open(3),
    "setsockopt": ArgumentRule(
        why="not TCP_FASTOPEN, TCP_FASTOPEN_CONNECT, TCP_FASTOPEN_KEY and TCP_ULP",
        never=refusals(both(equals(1, IPPROTO_TCP), equals(2, *TCP_OPTIONS))),
    ),
    "prlimit64": _own(0),
    "sched_setaffinity": _own(0),
    "sched_setscheduler": _own(0),
    "sched_setparam": _own(0),
    "sched_setattr": _own(0),
    "setpriority": _own(1, first=equals(0, 0)),  # PRIO_PROCESS
    "ioprio_set": _own(1, first=equals(0, 1)),  # IOPRIO_WHO_PROCESS
    "move_pages": _own(0),
    "migrate_pages": _own(0),
}
