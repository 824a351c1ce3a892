"""Processes: more privilege: capabilities, set-user-id programs, namespaces."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import struct
import subprocess
import time

from . import system
from .registry import CannotJudge, Stopped, attempt
from .stage import Stage, first
from .system import call, syscall

_USERNS = "user/max_user_namespaces>=1"


@attempt("processes")
def hold_capabilities(stage: Stage) -> str:
    """Have any capability at all, if only in the bounding set."""
    with open("/proc/self/status", encoding="ascii") as file:
        sets = [line.split() for line in file if line.startswith("Cap")]
    held = [f"{name} {value}" for name, value in sets if int(value, 16)]
    if not held:
        raise Stopped("all five sets are empty")
    return " ".join(held)


@attempt("processes", needs="root")
def become_root(stage: Stage) -> str:
    """Become user 0."""
    os.setresuid(0, 0, 0)
    return "setresuid(0, 0, 0)"


@attempt("processes", needs="root")
def become_another_user(stage: Stage) -> str:
    """Become another user and another group."""
    os.setresgid(4711, 4711, 4711)
    os.setresuid(4711, 4711, 4711)
    return "became 4711"


@attempt("processes", needs="user")
def gain_by_setuid_program(stage: Stage) -> str:
    """Run a set-user-id program of root's and have it run as root."""
    for program in ("/usr/bin/su", "/bin/su", "/usr/bin/passwd", "/usr/bin/chsh"):
        if os.path.exists(program):
            break
    else:
        raise Stopped("no set-user-id program is in sight")
    with subprocess.Popen(
        [program], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as child:
        end = time.monotonic() + 1
        try:
            while time.monotonic() < end and child.poll() is None:
                with open(f"/proc/{child.pid}/status", encoding="ascii") as file:
                    if "\nUid:\t0\t" in file.read().replace(f"Uid:\t{os.getuid()}\t", "Uid:\t"):
                        return f"{program} runs as root"
        except (FileNotFoundError, ProcessLookupError) as error:
            raise Stopped("it ended before it could be looked at") from error
        finally:
            try:
                child.terminate()
            except PermissionError:  # it is root's now; the end of its input ends it
                pass
    raise Stopped(f"{program} stayed an ordinary program")


@attempt("processes")
def gain_by_execution(stage: Stage) -> str:
    """Be allowed to gain privileges by executing a file (no_new_privs is off)."""
    if call("prctl", 39, 0, 0, 0, 0):
        raise Stopped("no_new_privs is set")
    return "no_new_privs is off"


@attempt("processes", host=_USERNS)
def new_user_namespace(stage: Stage) -> str:
    """Make a user namespace, which brings every capability in it."""
    syscall("unshare", system.CLONE_NEWUSER)
    return "unshare(CLONE_NEWUSER)"


@attempt("processes", host=_USERNS)
def clone_user_namespace(stage: Stage) -> str:
    """Make a child in a user namespace with clone."""
    return _child(syscall("clone", system.CLONE_NEWUSER | int(signal.SIGCHLD), 0, 0, 0, 0))


@attempt("processes", host=_USERNS)
def clone3_user_namespace(stage: Stage) -> str:
    """Make a child in a user namespace with clone3, whose flags no filter can see."""
    arguments = struct.pack("8Q", system.CLONE_NEWUSER, 0, 0, 0, int(signal.SIGCHLD), 0, 0, 0)
    return _child(syscall("clone3", arguments, len(arguments)))


def _child(pid: int) -> str:
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
    return "the child lived"


@attempt("processes", host=_USERNS)
def mount_in_user_namespace(stage: Stage) -> str:
    """Make user and mount namespaces and mount over the work directory."""
    user, group = os.getuid(), os.getgid()
    syscall("unshare", system.CLONE_NEWUSER | system.CLONE_NEWNS)
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"0 {user} 1"),
        ("gid_map", f"0 {group} 1"),
    ):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)
    syscall("mount", b"none", stage.work.encode(), b"tmpfs", 0, None)
    return "mounted it"


@attempt("processes", needs="namespace")
def new_other_namespaces(stage: Stage) -> str:
    """Make a namespace of any other kind."""
    attacks = []
    for name in ("NS", "NET", "PID", "IPC", "UTS", "CGROUP", "TIME"):
        flag = getattr(system, f"CLONE_NEW{name}")
        attacks.append((name, lambda flag=flag: syscall("unshare", flag)))
    return first(attacks)


@attempt("processes", needs="root", victim=True)
def join_host_namespaces(stage: Stage) -> str:
    """Enter the namespaces of a host process."""
    process = syscall("pidfd_open", stage.victim, 0)
    flags = system.CLONE_NEWNS | system.CLONE_NEWNET | system.CLONE_NEWIPC
    syscall("setns", process, flags)
    return "setns"


@attempt("processes", needs="namespace")
def join_namespace_by_proc(stage: Stage) -> str:
    """Enter a namespace (one's own) through its file in /proc."""
    descriptor = os.open("/proc/self/ns/uts", os.O_RDONLY)
    syscall("setns", descriptor, 0)
    return "setns"


@attempt("processes", needs="root")
def raise_priority(stage: Stage) -> str:
    """Take a higher priority than everybody else."""
    os.setpriority(os.PRIO_PROCESS, 0, -5)
    return "nice -5"


@attempt("processes", needs="root")
def become_real_time(stage: Stage) -> str:
    """Take a real-time scheduling policy."""
    if resource.getrlimit(resource.RLIMIT_RTPRIO)[1]:
        raise CannotJudge("the host allows real-time scheduling to everybody")
    os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    return "SCHED_RR"


@attempt("processes", needs="root")
def leave_control_group(stage: Stage) -> str:
    """Move into the root control group, away from the limits."""
    groups = []
    for top, directories, _ in os.walk("/sys/fs/cgroup"):
        groups.append((top, lambda top=top: _enter(top)))
        if top.count("/") > 4:
            directories.clear()
    return first(groups)


def _enter(group: str) -> str:
    with open(f"{group}/cgroup.procs", "w", encoding="ascii") as file:
        file.write(str(os.getpid()))
    return "entered it"


@attempt("processes")
def execute_memory(stage: Stage) -> str:
    """Execute a program from an anonymous file, which no path rule can name."""
    with open("/bin/true", "rb") as file:
        program = file.read()
    descriptor = os.memfd_create("program", 0)
    os.write(descriptor, program)
    child = os.fork()
    if not child:
        try:
            os.execve(descriptor, ["program"], {})
        except OSError as error:
            os._exit(error.errno or 255)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code > 0:
        raise OSError(code, os.strerror(code), "execveat")
    if code < 0:
        raise Stopped(f"killed by signal {-code}")
    return "it ran"


@attempt("processes")
def lose_address_randomisation(stage: Stage) -> str:
    """Turn address space randomisation off for what is executed next."""
    syscall("personality", ctypes.c_ulong(0x0040000))
    return "ADDR_NO_RANDOMIZE"
