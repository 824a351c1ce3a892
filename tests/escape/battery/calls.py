"""Kernel interfaces: system calls whose job is powerful or whose code is young."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct

from .registry import CannotJudge, attempt
from .stage import Stage
from .system import MACHINE, call, evaluated, raw, syscall


def call32(value: int, *arguments: int | bytes) -> int:
    """Make a system call of the 32-bit table with ``int 0x80`` from a 64-bit process.

    Up to three arguments; bytes are copied below 4 GiB. Returns what the kernel returned.

    :raises OSError: the kernel refused it.
    :raises CannotJudge: the machine has no such table.
    """
    if MACHINE != "x86_64":
        raise CannotJudge(f"{MACHINE} has no int 0x80")
    # Readable, writable and executable; private, anonymous, 32-bit.
    low = call("mmap", 0, 8192, 7, 0x62, -1, 0, restype=ctypes.c_ssize_t)
    values = [0, 0, 0]
    offset = 4096
    for place, argument in enumerate(arguments):
        if isinstance(argument, bytes):
            ctypes.memmove(low + offset, argument + b"\0", len(argument) + 1)
            values[place] = low + offset
            offset += len(argument) + 1
        else:
            values[place] = argument
    # push rbx; mov eax, ebx, ecx, edx; int 0x80; pop rbx; ret
    code = b"\x53"
    for register, operand in zip(b"\xb8\xbb\xb9\xba", (value, *values), strict=True):
        code += bytes([register]) + struct.pack("I", operand & 0xFFFFFFFF)
    code += b"\xcd\x80\x5b\xc3"
    ctypes.memmove(low, code, len(code))
    result: int = ctypes.CFUNCTYPE(ctypes.c_int)(low)()
    if -4096 < result < 0:
        raise OSError(-result, os.strerror(-result), f"int 0x80 call {value}")
    return result


@attempt("kernel")
def enter_32_bit_calls(stage: Stage) -> str:
    """Enter the kernel through the 32-bit table, which a 64-bit filter does not see."""
    return f"getpid gave {call32(20)}"


@attempt("kernel")
def open_socket_by_32_bit_call(stage: Stage) -> str:
    """Make a socket through the 32-bit table."""
    return f"descriptor {call32(359, 2, 1, 0)}"


@attempt("kernel")
def enter_x32_calls(stage: Stage) -> str:
    """Enter the kernel with an x32 number."""
    if MACHINE != "x86_64":
        raise CannotJudge(f"{MACHINE} has no x32 calls")
    return f"getpid gave {raw('x32 getpid', 0x40000000 | 39)}"


@attempt("kernel", host="kernel/io_uring_disabled<=0")
def set_up_io_uring(stage: Stage) -> str:
    """Set up io_uring, whose operations no filter sees."""
    return f"descriptor {syscall('io_uring_setup', 4, ctypes.create_string_buffer(120))}"


@attempt("kernel", needs="root")
def load_bpf(stage: Stage) -> str:
    """Create a BPF map."""
    attributes = struct.pack("5I", 2, 4, 4, 1, 0) + bytes(100)
    return f"descriptor {syscall('bpf', 0, attributes, len(attributes))}"


@attempt("kernel", host="kernel/perf_event_paranoid<=2")
def open_performance_event(stage: Stage) -> str:
    """Open a performance counter."""
    attributes = struct.pack("IIQQQQQ", 1, 64, 0, 0, 0, 0, 0x60) + bytes(16)
    return f"descriptor {syscall('perf_event_open', attributes, 0, -1, -1, 0)}"


@attempt("kernel")
def handle_page_faults(stage: Stage) -> str:
    """Make a userfaultfd, with which the kernel is held up at will."""
    return f"descriptor {syscall('userfaultfd', os.O_CLOEXEC | 1)}"


@attempt("kernel")
def listen_for_calls(stage: Stage) -> str:
    """Install a filter that asks a listener of the attacker's about each call."""
    call("prctl", 38, 1, 0, 0, 0)
    code = struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000)
    buffer = ctypes.create_string_buffer(code)
    program = struct.pack("HxxxxxxQ", 1, ctypes.addressof(buffer))
    return f"descriptor {syscall('seccomp', 1, 8, program)}"


@attempt("kernel")
def change_personality(stage: Stage) -> str:
    """Take another execution domain: the 32-bit one."""
    syscall("personality", 0x0008)
    return "PER_LINUX32"


@attempt("kernel")
def use_local_descriptor_table(stage: Stage) -> str:
    """Write a segment to the local descriptor table."""
    segment = struct.pack("4I", 0, 0, 0xFFFFF, 0x51)
    syscall("modify_ldt", 1, segment, len(segment))
    return "wrote a segment"


@attempt("kernel")
def synchronise_quota(stage: Stage) -> str:
    """Call the quota interface."""
    syscall("quotactl", 0x800001 << 8, None, 0, None)
    return "Q_SYNC"


@attempt("kernel")
def locate_memory(stage: Stage) -> str:
    """Ask which memory node a page is on, with a call for moving pages."""
    page = mmap.mmap(-1, 4096)
    page[0] = 1
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    pages, status = ctypes.c_size_t(address), ctypes.c_int()
    syscall("move_pages", 0, 1, ctypes.byref(pages), None, ctypes.byref(status), 0)
    return f"node {status.value}"


@attempt("kernel", needs="root")
def watch_file_system(stage: Stage) -> str:
    """Watch the whole file system with fanotify."""
    group = syscall("fanotify_init", 0, os.O_RDONLY)
    syscall("fanotify_mark", group, 0x1 | 0x100, 0x20, -100, stage.work.encode())
    return "a mark is set"


@attempt("kernel")
def open_event_group(stage: Stage) -> str:
    """Make an unprivileged fanotify group."""
    return f"descriptor {syscall('fanotify_init', 0x200, os.O_RDONLY)}"


@attempt("kernel", needs="root")
def load_module(stage: Stage) -> str:
    """Load a kernel module (an empty one)."""
    return evaluated((errno.ENOEXEC,), lambda: syscall("init_module", bytes(64), 64, b""))


@attempt("kernel", needs="root")
def load_module_file(stage: Stage) -> str:
    """Load a kernel module from a file (from no file)."""
    return evaluated((errno.EBADF,), lambda: syscall("finit_module", -1, b"", 0))


@attempt("kernel", needs="root")
def load_kernel(stage: Stage) -> str:
    """Load another kernel (of no segments, for another machine)."""
    return evaluated((errno.EINVAL,), lambda: syscall("kexec_load", 0, 0, None, 0xFFFF0000))


@attempt("kernel", needs="root")
def raise_input_privilege(stage: Stage) -> str:
    """Get at the machine's input and output ports."""
    syscall("ioperm", 0x80, 1, 1)
    return "port 0x80"


@attempt("kernel", needs="root")
def raise_input_level(stage: Stage) -> str:
    """Get at every port at once."""
    syscall("iopl", 3)
    return "iopl(3)"
