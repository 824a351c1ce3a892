"""Processes: more processes, threads, memory and descriptors than the policy allows.

The policy ``limits`` allows 40 processes, 192 MiB and 64 open files.
"""

from __future__ import annotations

import mmap
import os
import resource
import threading
import time

from .registry import CannotJudge, Stopped, attempt
from .stage import Stage, effective_capabilities

MIB = 1 << 20
_TOO_MUCH = 400 * MIB


@attempt("processes", policy="limits")
def too_many_processes(stage: Stage) -> str:
    """Have 100 processes at once."""
    children: list[int] = []
    try:
        for _ in range(100):
            child = os.fork()
            if not child:
                time.sleep(10)
                os._exit(0)
            children.append(child)
        return f"{len(children)} processes"
    finally:
        for child in children:
            os.kill(child, 9)


@attempt("processes", policy="limits")
def too_many_threads(stage: Stage) -> str:
    """Have 100 threads at once."""
    done = threading.Event()
    threads = [threading.Thread(target=done.wait, daemon=True) for _ in range(100)]
    try:
        for thread in threads:
            thread.start()
    except RuntimeError as error:  # Python's word for EAGAIN
        raise Stopped(str(error)) from error
    finally:
        done.set()
    return f"{len(threads)} threads"


def _hold(size: int) -> None:
    area = mmap.mmap(-1, size)
    for offset in range(0, size, 4096):
        area[offset] = 1


@attempt("processes", policy="limits")
def too_much_memory(stage: Stage) -> str:
    """Use 400 MiB of memory in one process."""
    _hold(_TOO_MUCH)
    return "400 MiB"


@attempt("processes", policy="limits")
def too_much_memory_together(stage: Stage) -> str:
    """Use 400 MiB of memory in four processes of 100 MiB."""
    ready_reader, ready_writer = os.pipe()
    children = []
    try:
        for _ in range(4):
            child = os.fork()
            if not child:
                try:
                    _hold(_TOO_MUCH // 4)
                    os.write(ready_writer, b".")
                    time.sleep(10)
                finally:
                    os._exit(0)
            children.append(child)
        os.close(ready_writer)
        got = b""
        while len(got) < 4:
            gone = [child for child in children if os.waitpid(child, os.WNOHANG) != (0, 0)]
            if gone:
                raise Stopped(f"{len(gone)} of 4 died")
            os.set_blocking(ready_reader, False)
            try:
                got += os.read(ready_reader, 4)
            except BlockingIOError:
                time.sleep(0.01)
        return "4 times 100 MiB"
    finally:
        for child in children:
            try:
                os.kill(child, 9)
            except ProcessLookupError:
                continue


@attempt("processes", policy="limits")
def too_much_in_memory_file(stage: Stage) -> str:
    """Keep 400 MiB in an anonymous file, which no resource limit counts."""
    descriptor = os.memfd_create("hoard")
    return _fill(descriptor)


@attempt("processes", policy="limits")
def too_much_in_shared_memory(stage: Stage) -> str:
    """Keep 400 MiB in a file in /dev/shm."""
    path = f"/dev/shm/{os.path.basename(stage.base)}-{stage.name}"
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    os.unlink(path)
    return _fill(descriptor)


def _fill(descriptor: int) -> str:
    block = bytes(MIB)
    for _ in range(_TOO_MUCH // MIB):
        if os.write(descriptor, block) != MIB:
            raise Stopped("a short write")
    return "400 MiB"


@attempt("processes", policy="limits")
def too_many_descriptors(stage: Stage) -> str:
    """Have 100 open files at once."""
    held = [os.open("/dev/null", os.O_RDONLY) for _ in range(100)]
    return f"{len(held)} open files"


@attempt("processes", policy="limits")
def raise_own_limit(stage: Stage) -> str:
    """Raise the soft limit of open files above the policy's number."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 1000), hard))
    held = [os.open("/dev/null", os.O_RDONLY) for _ in range(100)]
    return f"{len(held)} open files"


@attempt("processes", needs="root")
def raise_hard_limit(stage: Stage) -> str:
    """Raise a hard limit."""
    hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]
    if hard == resource.RLIM_INFINITY:
        raise CannotJudge("the limit of locked memory is infinite already")
    if stage.outside and not effective_capabilities() >> 24 & 1:
        raise CannotJudge("this host's root has no CAP_SYS_RESOURCE")
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, hard + 4096))
    except ValueError as error:  # Python's word for EPERM
        raise Stopped(str(error)) from error
    return f"{hard} to {hard + 4096}"
