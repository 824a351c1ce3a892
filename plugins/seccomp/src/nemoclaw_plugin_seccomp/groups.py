"""System calls that a profile may allow, by subject.

The lists follow what fourteen agent programs were seen to use, and what the tools that agents run
need: shells, git, compilers, make, Python, Node.js, Go, Rust and Java programs, SQLite, tar, ssh.
Names are libseccomp's. A call that exists on one architecture only is simply absent on the others.
Conditions on arguments are in ``arguments.py``.
"""

from __future__ import annotations

import attrs


@attrs.frozen(slots=True, kw_only=True)
class Group:
    """Calls that are judged together, and why."""

    name: str
    why: str
    calls: tuple[str, ...]


def group(name: str, why: str, calls: str) -> Group:
    return Group(name=name, why=why, calls=tuple(calls.split()))


DATA = group(
    "data",
    "move bytes through open descriptors",
    """
    read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 lseek
    close close_range dup dup2 dup3 fcntl flock pipe pipe2 ioctl
    fsync fdatasync sync syncfs sync_file_range fallocate ftruncate fadvise64 readahead
    copy_file_range sendfile splice tee
    """,
)

FILES = group(
    "files",
    "open, arrange and describe files; which ones is the filesystem policy's subject",
    """
    open openat creat truncate access faccessat faccessat2
    stat lstat fstat newfstatat statx statfs fstatfs readlink readlinkat
    getcwd chdir fchdir getdents getdents64 umask
    mkdir mkdirat rmdir rename renameat renameat2 link linkat symlink symlinkat unlink unlinkat
    mknod mknodat chmod fchmod fchmodat fchmodat2
    chown lchown fchown fchownat utime utimes futimesat utimensat
    getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr
    setxattr lsetxattr fsetxattr removexattr lremovexattr fremovexattr
    """,
)

MEMORY = group(
    "memory",
    "the process's own address space; what is locked is bounded by RLIMIT_MEMLOCK",
    # map_shadow_stack and mseal: the C library protects its own stacks and mappings with them.
    """
    brk mmap munmap mremap mprotect madvise msync mincore membarrier
    mlock mlock2 munlock mlockall munlockall
    pkey_alloc pkey_free pkey_mprotect map_shadow_stack mseal
    """,
)

PROCESSES = group(
    "processes",
    "start programs and threads, wait for them, end",
    # unshare: what is left of it after the argument rule is CLONE_FILES, CLONE_FS, CLONE_SYSVSEM.
    """
    fork vfork clone execve execveat exit exit_group wait4 waitid unshare
    set_tid_address set_robust_list rseq arch_prctl prctl personality restart_syscall
    getpid gettid getppid getpgid getpgrp setpgid getsid setsid
    futex futex_waitv futex_wait futex_wake futex_requeue
    """,
)

IDENTITY = group(
    "identity",
    "ask who one is; without capabilities the kernel refuses to become anybody else",
    """
    getuid geteuid getgid getegid getresuid getresgid getgroups
    setuid setgid setreuid setregid setresuid setresgid setfsuid setfsgid setgroups
    capget capset
    """,
)

SIGNALS = group(
    "signals",
    "signals; whom they reach is limited by the PID namespace and Landlock's signal scope",
    """
    kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo pause
    rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigsuspend rt_sigtimedwait
    sigaltstack signalfd signalfd4
    """,
)

WAITING = group(
    "waiting",
    "wait for descriptors",
    """
    poll ppoll select pselect6 eventfd eventfd2
    epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2
    """,
)

TIME = group(
    "time",
    "read clocks, sleep, own timers",
    """
    time gettimeofday clock_gettime clock_getres clock_nanosleep nanosleep times
    alarm getitimer setitimer timer_create timer_settime timer_gettime timer_getoverrun timer_delete
    timerfd_create timerfd_settime timerfd_gettime
    """,
)

LIMITS = group(
    "limits",
    "the process's own limits, priority and place, by pid 0",
    """
    getrlimit setrlimit prlimit64 getrusage getpriority setpriority ioprio_get ioprio_set
    sched_yield sched_getaffinity sched_setaffinity sched_getscheduler sched_setscheduler
    sched_getparam sched_setparam sched_getattr sched_setattr sched_rr_get_interval
    sched_get_priority_min sched_get_priority_max
    """,
)

SYSTEM = group("system", "facts about the machine, random bytes", "uname sysinfo getcpu getrandom")

RESTRICTION = group(
    "restriction",
    "programs that restrict themselves further (file, sshd, browsers); both can only tighten",
    "landlock_create_ruleset landlock_add_rule landlock_restrict_self seccomp",
)

MESSAGES = group(
    "messages",
    "talk over sockets that exist: inherited ones and pairs",
    """
    socketpair sendto recvfrom sendmsg recvmsg sendmmsg recvmmsg shutdown
    getsockname getpeername getsockopt setsockopt
    """,
)

NETWORK = group(
    "network",
    "make sockets; where they may connect is the network policy's subject",
    "socket connect bind listen accept accept4",
)

WATCHING = group(
    "watching",
    "file watchers (editors, bundlers, test runners) and process descriptors (Python, Bun)",
    "inotify_init inotify_init1 inotify_add_watch inotify_rm_watch pidfd_open pidfd_send_signal",
)

IPC = group(
    "ipc",
    "System V IPC and POSIX queues (PostgreSQL), inside the sandbox's own IPC namespace",
    """
    shmget shmat shmdt shmctl semget semop semtimedop semctl msgget msgsnd msgrcv msgctl
    mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr
    """,
)

GPU = group(
    "gpu",
    "CUDA: the driver initialises through memfd_create (error 304 without it); PyTorch and NCCL "
    "place their own memory on NUMA nodes",
    # mbind, set_mempolicy, get_mempolicy, set_mempolicy_home_node: pinned host buffers near the
    # GPU. move_pages: hwloc and libnuma ask with it where a page is. All act on the caller.
    # Locking memory and sched_setaffinity are in every profile already, ioctl has no list of
    # permitted requests that the nvidia devices would have to be added to.
    "memfd_create mbind set_mempolicy get_mempolicy set_mempolicy_home_node move_pages",
)
