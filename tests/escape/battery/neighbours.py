"""Processes: reading, changing and borrowing from processes of the host and of nemoclaw."""

from __future__ import annotations

import ctypes
import glob
import os
import resource

from .registry import CannotJudge, Stopped, attempt
from .stage import ENVIRONMENT, Stage
from .system import call, syscall

PTRACE_TRACEME = 0
PTRACE_SEIZE = 0x4206
_TRACED = "kernel/yama/ptrace_scope<=1"


@attempt("processes", victim=True, host=_TRACED)
def trace_host_process(stage: Stage) -> str:
    """Trace a host process."""
    syscall("ptrace", PTRACE_SEIZE, stage.victim, 0, 0)
    return "seized it"


@attempt("processes")
def trace_oneself(stage: Stage) -> str:
    """Become traceable, the first half of tracing a child."""
    child = os.fork()
    if not child:
        try:
            syscall("ptrace", PTRACE_TRACEME, 0, 0, 0)
        except OSError as error:
            os._exit(error.errno or 255)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code > 0:
        raise OSError(code, os.strerror(code), "ptrace")
    if code < 0:
        raise Stopped(f"killed by signal {-code}")
    return "ptrace(PTRACE_TRACEME)"


@attempt("processes", victim=True, host=_TRACED)
def read_host_memory(stage: Stage) -> str:
    """Read the memory of a host process through /proc."""
    descriptor = os.open(f"/proc/{stage.victim}/mem", os.O_RDONLY)
    return stage.found(os.pread(descriptor, 64, stage.victim_fact("secret")))


@attempt("processes", victim=True, host=_TRACED)
def read_host_memory_by_call(stage: Stage) -> str:
    """Read the memory of a host process with process_vm_readv."""
    buffer = ctypes.create_string_buffer(64)
    local = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), 64)
    remote = (ctypes.c_size_t * 2)(stage.victim_fact("secret"), 64)
    syscall("process_vm_readv", stage.victim, local, 1, remote, 1, 0)
    return stage.found(buffer.raw)


@attempt("processes", victim=True, host=_TRACED)
def write_host_memory(stage: Stage) -> str:
    """Write to the memory of a host process through /proc."""
    descriptor = os.open(f"/proc/{stage.victim}/mem", os.O_RDWR)
    os.pwrite(descriptor, b"planted", stage.victim_fact("scratch"))
    return "wrote 7 bytes"


@attempt("processes", victim=True, host=_TRACED)
def write_host_memory_by_call(stage: Stage) -> str:
    """Write to the memory of a host process with process_vm_writev."""
    buffer = ctypes.create_string_buffer(b"planted")
    local = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), 7)
    remote = (ctypes.c_size_t * 2)(stage.victim_fact("scratch"), 7)
    return f"wrote {syscall('process_vm_writev', stage.victim, local, 1, remote, 1, 0)} bytes"


@attempt("processes", victim=True, host=_TRACED)
def take_host_descriptor(stage: Stage) -> str:
    """Take an open file out of a host process with pidfd_getfd."""
    process = syscall("pidfd_open", stage.victim, 0)
    descriptor = syscall("pidfd_getfd", process, stage.victim_fact("file"), 0)
    return stage.found(os.pread(descriptor, 64, 0))


@attempt("processes", victim=True)
def open_host_descriptor(stage: Stage) -> str:
    """Open a file that a host process holds, through /proc."""
    return stage.read(f"/proc/{stage.victim}/fd/{stage.victim_fact('file')}")


@attempt("processes", victim=True)
def hold_host_process(stage: Stage) -> str:
    """Get a pidfd of a host process."""
    if stage.ours(stage.victim):
        raise Stopped("the number is one of our own")
    return f"descriptor {syscall('pidfd_open', stage.victim, 0)}"


@attempt("processes", victim=True)
def compare_host_process(stage: Stage) -> str:
    """Learn kernel pointers' order by comparing with a host process."""
    return f"kcmp gave {syscall('kcmp', os.getpid(), stage.victim, 1, 0, 0)}"


@attempt("processes", victim=True)
def robust_list_of_host_process(stage: Stage) -> str:
    """Learn an address in a host process."""
    head, size = ctypes.c_size_t(), ctypes.c_size_t()
    syscall("get_robust_list", stage.victim, ctypes.byref(head), ctypes.byref(size))
    if stage.ours(stage.victim):
        raise Stopped("the number is one of our own")
    return f"at {head.value:#x}"


@attempt("processes", victim=True)
def list_host_maps(stage: Stage) -> str:
    """Read the memory map of a host process."""
    with open(f"/proc/{stage.victim}/maps", "rb") as file:
        if stage.ours(stage.victim):
            raise Stopped("the number is one of our own")
        return f"{len(file.readlines())} mappings"


@attempt("processes", effect="victim")
def renice_host_process(stage: Stage) -> str:
    """Change the priority of a host process."""
    os.setpriority(os.PRIO_PROCESS, stage.victim, 7)
    return "set it to 7"


@attempt("processes", effect="victim")
def pin_host_process(stage: Stage) -> str:
    """Move a host process to one processor."""
    if len(os.sched_getaffinity(0)) < 2:
        raise CannotJudge("there is one processor")
    os.sched_setaffinity(stage.victim, {min(os.sched_getaffinity(0))})
    return "moved it"


@attempt("processes", effect="victim")
def schedule_host_process(stage: Stage) -> str:
    """Change the scheduling policy of a host process."""
    os.sched_setscheduler(stage.victim, os.SCHED_BATCH, os.sched_param(0))
    return "set SCHED_BATCH"


@attempt("processes", victim=True)
def input_priority_of_host_process(stage: Stage) -> str:
    """Change the input and output priority of a host process."""
    if stage.ours(stage.victim):
        raise Stopped("the number is one of our own")
    syscall("ioprio_set", 1, stage.victim, (2 << 13) | 7)
    return "set it to 7"


@attempt("processes", effect="victim")
def limit_host_process(stage: Stage) -> str:
    """Change a resource limit of a host process."""
    resource.prlimit(stage.victim, resource.RLIMIT_NOFILE, (50, 50))
    return "set 50 open files"


@attempt("processes", effect="victim")
def offer_host_process(stage: Stage) -> str:
    """Make a host process the first to die when memory runs out."""
    with open(f"/proc/{stage.victim}/oom_score_adj", "w", encoding="ascii") as file:
        file.write("900")
    return "set 900"


@attempt("processes", victim=True)
def see_host_processes(stage: Stage) -> str:
    """Find a host process in /proc."""
    for pid in stage.other_processes():
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if b"escape.host" in file.read():
                    return f"process {pid}"
        except FileNotFoundError:
            continue  # It has just ended.
    raise Stopped("none is visible")


@attempt("processes", victim=True)
def find_secret_in_environments(stage: Stage) -> str:
    """Look for the caller's secret in the initial environment of every visible process."""
    return _search(stage, "/proc/{}/environ")


@attempt("processes", victim=True)
def find_secret_in_descriptors(stage: Stage) -> str:
    """Look for the secret in every regular file that a visible process holds open."""
    return _search(stage, "/proc/{}/fd/*")


def _search(stage: Stage, pattern: str) -> str:
    looked = refused = 0
    for pid in stage.other_processes():
        for path in glob.glob(pattern.format(pid)):
            try:
                if path.endswith("environ") or os.path.isfile(path):
                    looked += 1
                    return f"{stage.read(path)} of process {pid}"
            except Stopped:
                continue
            except OSError:
                refused += 1
    raise Stopped(f"{looked} looked at, {refused} of them refused")


@attempt("processes")
def find_secret_in_own_environment(stage: Stage) -> str:
    """Find the caller's secret in the inherited environment."""
    if ENVIRONMENT not in os.environ:
        raise Stopped("the variable is not there")
    return stage.found(os.environb[ENVIRONMENT.encode()])


@attempt("processes")
def read_parent_environment(stage: Stage) -> str:
    """Read the initial environment of the process that started the attempt."""
    with open(f"/proc/{stage.parent}/environ", "rb") as file:
        return f"{len(file.read())} bytes"


@attempt("processes")
def list_parent_descriptors(stage: Stage) -> str:
    """List the descriptors of the process that started the attempt."""
    return f"{len(os.listdir(f'/proc/{stage.parent}/fd'))} descriptors"


@attempt("processes")
def read_parent_memory(stage: Stage) -> str:
    """Read the memory of the process that started the attempt."""
    with open(f"/proc/{stage.parent}/maps", encoding="utf-8") as file:
        start = int(file.readline().partition("-")[0], 16)
    return f"{len(os.pread(os.open(f'/proc/{stage.parent}/mem', os.O_RDONLY), 16, start))} bytes"


@attempt("processes", host=_TRACED)
def trace_parent(stage: Stage) -> str:
    """Trace the process that started the attempt."""
    syscall("ptrace", PTRACE_SEIZE, stage.parent, 0, 0)
    return "seized it"


@attempt("processes", host=_TRACED)
def take_parent_descriptor(stage: Stage) -> str:
    """Take a descriptor out of the process that started the attempt."""
    process = syscall("pidfd_open", stage.parent, 0)
    return f"descriptor {syscall('pidfd_getfd', process, 0, 0)}"


@attempt("processes", alone=True)
def parent_descriptor_elsewhere(stage: Stage) -> str:
    """Reach the files of the starting process's own view through its root and directory links."""
    target = os.readlink(f"/proc/{stage.parent}/cwd")
    os.close(call("open", f"/proc/{stage.parent}/root/".encode(), os.O_RDONLY))
    return f"its working directory is {target}"
