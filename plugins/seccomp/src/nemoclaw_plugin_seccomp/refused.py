"""System calls that no profile allows, by reason.

:data:`NEVER` calls move the walls, look over them, or get around the filter: a policy cannot allow
them. :data:`ON_REQUEST` calls are refused because agents do not need them and kernels have had
bugs in them; ``allow`` adds them. :data:`ABSENT` calls are answered as if this kernel were older.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .groups import IPC, Group, group

if TYPE_CHECKING:
    from nemoclaw_hookspecs import Host

NEVER: tuple[Group, ...] = (
    group(
        "mounts",
        "it changes what the sandbox sees as files, or tells what lies outside the view",
        """
        mount umount2 pivot_root chroot move_mount open_tree fsopen fsconfig fsmount fspick
        mount_setattr swapon swapoff quotactl quotactl_fd open_by_handle_at
        """,
    ),
    group("namespaces", "it enters a namespace that is not the sandbox's own", "setns"),
    group(
        "io_uring",
        "its operations (connect, open, ...) never pass a seccomp filter",
        "io_uring_setup io_uring_enter io_uring_register",
    ),
    group(
        "kernel",
        "it loads code into the kernel, or observes or stops it",
        """
        bpf perf_event_open init_module finit_module delete_module kexec_load kexec_file_load
        reboot syslog acct iopl ioperm vhangup
        """,
    ),
    group(
        "userfaultfd",
        "it lets a program hold the kernel in the middle of a copy, which makes races exploitable",
        "userfaultfd",
    ),
    group(
        "host",
        "it changes the clock or the name of the machine",
        "settimeofday clock_settime adjtimex clock_adjtime sethostname setdomainname",
    ),
    group(
        "keys",
        "keyrings are shared by all that runs under one user id, and no namespace hides them",
        "add_key request_key keyctl",
    ),
)

OTHER_PROCESSES = group(
    "other processes",
    "it reads or controls another process (debuggers)",
    """
    ptrace process_vm_readv process_vm_writev process_madvise process_mrelease kcmp pidfd_getfd
    get_robust_list
    """,
)

ON_REQUEST: tuple[Group, ...] = (
    OTHER_PROCESSES,
    group(
        "anonymous files",
        "it makes memory that can be executed without a file (memfd) or hidden from the kernel",
        "memfd_create memfd_secret",
    ),
    group(
        "placement",
        "NUMA placement; programs go on without it, the gpu profile has it",
        "mbind set_mempolicy get_mempolicy set_mempolicy_home_node move_pages migrate_pages",
    ),
    group(
        "rare",
        "hardly any program needs it and the kernel has had serious bugs in it",
        "vmsplice remap_file_pages modify_ldt fanotify_init fanotify_mark name_to_handle_at",
    ),
)

CLONE3 = group(
    "clone3",
    "its flags are behind a pointer, where no filter can see CLONE_NEWUSER; with ENOSYS the C "
    "library falls back on clone, with any other error it cannot start a thread",
    "clone3",
)

GONE = group(
    "gone",
    "Linux removed it or never had it on this architecture",
    """
    _sysctl sysfs ustat uselib nfsservctl lookup_dcookie create_module get_kernel_syms query_module
    getpmsg putpmsg afs_syscall tuxcall security vserver epoll_ctl_old epoll_wait_old
    set_thread_area get_thread_area
    """,
)

NEW_MOUNTS = group(
    "new mounts",
    "it looks at or changes mounts, namespaces or security labels",
    "statmount listmount open_tree_attr listns lsm_set_self_attr",
)

ABSENT_NEVER: tuple[Group, ...] = (CLONE3, GONE, NEW_MOUNTS)

ABSENT_ON_REQUEST: tuple[Group, ...] = (
    group(
        "openat2",
        "its mode is behind a pointer, so a setuid file could be made with it; programs fall back "
        "on openat",
        "openat2",
    ),
    group(
        "asynchronous files",
        "native AIO; databases fall back on threads",
        "io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents",
    ),
    group(
        "new",
        "younger than this profile; programs fall back on what older kernels have",
        """
        cachestat setxattrat getxattrat listxattrat removexattrat file_getattr file_setattr
        lsm_get_self_attr lsm_list_modules
        """,
    ),
)

NUMBERS: dict[str, int] = {
    # System calls younger than some libseccomp 2.5. From 424 on, Linux gives a call one number on
    # all architectures (include/uapi/asm-generic/unistd.h).
    "cachestat": 451,
    "fchmodat2": 452,
    "map_shadow_stack": 453,
    "futex_wake": 454,
    "futex_wait": 455,
    "futex_requeue": 456,
    "statmount": 457,
    "listmount": 458,
    "lsm_get_self_attr": 459,
    "lsm_set_self_attr": 460,
    "lsm_list_modules": 461,
    "mseal": 462,
    "setxattrat": 463,
    "getxattrat": 464,
    "listxattrat": 465,
    "removexattrat": 466,
    "open_tree_attr": 467,
    "file_getattr": 468,
    "file_setattr": 469,
    "listns": 470,
}

ALL: tuple[Group, ...] = (*NEVER, *ON_REQUEST, *ABSENT_NEVER, *ABSENT_ON_REQUEST)

NEEDS_NAMESPACE = {OTHER_PROCESSES: "pid", IPC: "ipc"}
"""Groups that reach the host's own objects where the host has no namespace of that kind."""


def may_be_allowed(group: Group, host: Host) -> bool:
    """Whether a policy's ``allow`` may name calls of this group on this host.

    Debugging stays among the agent's own processes inside a PID namespace, and System V IPC inside
    an IPC namespace, and only there.
    """
    if group in NEEDS_NAMESPACE:
        return NEEDS_NAMESPACE[group] in host.namespaces
    return group not in NEVER and group not in ABSENT_NEVER
