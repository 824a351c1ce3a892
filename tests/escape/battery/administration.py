"""Kernel interfaces: what an administrator may do to the machine. Harmless even where it works:
each either changes nothing, or has arguments that the kernel refuses after it checked the caller.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from typing import Any

from .registry import Stopped, attempt
from .stage import Stage, first, opened
from .system import evaluated, syscall


@attempt("kernel", needs="root")
def reboot(stage: Stage) -> str:
    """Reboot the machine (with a wrong magic number)."""
    return evaluated((errno.EINVAL,), lambda: syscall("reboot", 0, 0, 0, None))


@attempt("kernel", needs="root")
def add_swap(stage: Stage) -> str:
    """Add swap space (a file that is not there)."""
    path = f"{stage.work}/{stage.name}".encode()
    return evaluated((errno.ENOENT,), lambda: syscall("swapon", path, 0))


@attempt("kernel", needs="root")
def account_processes(stage: Stage) -> str:
    """Write process accounts to a file (that is not there)."""
    path = f"{stage.work}/{stage.name}".encode()
    return evaluated((errno.ENOENT,), lambda: syscall("acct", path))


@attempt("kernel", needs="root")
def set_clock(stage: Stage) -> str:
    """Set the clock (to no time at all)."""
    syscall("settimeofday", None, None)
    return "settimeofday"


@attempt("kernel", needs="root")
def adjust_clock(stage: Stage) -> str:
    """Adjust the clock's rate (to one that does not exist), in two ways."""
    timex = ctypes.create_string_buffer(struct.pack("I", 0x4000), 256)
    clock = 0  # CLOCK_REALTIME
    ways: list[tuple[str, Any]] = [
        ("adjtimex", lambda: syscall("adjtimex", timex)),
        ("clock_adjtime", lambda: syscall("clock_adjtime", clock, timex)),
    ]
    return first([(name, lambda way=way: evaluated((errno.EINVAL,), way)) for name, way in ways])


@attempt("kernel", needs="root")
def read_kernel_log(stage: Stage) -> str:
    """Read the kernel's log."""
    buffer = ctypes.create_string_buffer(64)
    return f"{syscall('syslog', 3, buffer, 64)} bytes"


@attempt("kernel", needs="namespace")
def set_host_name(stage: Stage) -> str:
    """Set the host name (to what it is)."""
    socket.sethostname(os.uname().nodename)
    return "set it"


@attempt("kernel")
def learn_host_name(stage: Stage) -> str:
    """Learn the host's name."""
    if os.uname().nodename != stage.fact("hostname"):
        raise Stopped(f"it says {os.uname().nodename}")
    return os.uname().nodename


def _rewrite(path: str) -> str:
    with open(path, encoding="ascii") as file:
        value = file.read()
    with open(path, "w", encoding="ascii") as file:
        file.write(value)
    return f"wrote {value.strip()!r}"


@attempt("kernel", needs="root")
def set_core_pattern(stage: Stage) -> str:
    """Name the program that the host runs for a core dump (to what it is)."""
    return _rewrite("/proc/sys/kernel/core_pattern")


@attempt("kernel", needs="root")
def set_sysctl(stage: Stage) -> str:
    """Set a kernel parameter (to what it is)."""
    paths = ("kernel/printk", "vm/swappiness", "fs/file-max", "kernel/pid_max", "net/ipv4/tcp_ecn")
    return first([(path, lambda path=path: _rewrite(f"/proc/sys/{path}")) for path in paths])


@attempt("kernel", needs="root")
def press_magic_key(stage: Stage) -> str:
    """Open the trigger of the magic system request key."""
    return opened(stage.fact("magic_key"), os.O_WRONLY)


@attempt("kernel", needs="root")
def read_kernel_addresses(stage: Stage) -> str:
    """Read addresses of the kernel's symbols."""
    with open("/proc/kallsyms", "rb") as file:
        for line in file:
            if int(line.split()[0], 16):
                return "addresses"
    raise Stopped("every address is zero, or there is none")


@attempt("kernel", needs="root")
def read_kernel_tables(stage: Stage) -> str:
    """Read one of the kernel's tables that only root may see."""
    names = ("kcore", "kmsg", "kpageflags", "vmallocinfo", "slabinfo", "timer_list")
    return first([(name, lambda name=name: opened(f"/proc/{name}", os.O_RDONLY)) for name in names])


@attempt("kernel", needs="root")
def write_sys(stage: Stage) -> str:
    """Open a switch of the kernel's in /sys for writing."""
    paths = (
        "/sys/kernel/mm/transparent_hugepage/enabled",
        "/sys/power/state",
        "/sys/kernel/uevent_helper",
        "/sys/module/printk/parameters/time",
        "/sys/kernel/mm/ksm/run",
    )
    return first([(path, lambda path=path: opened(path, os.O_WRONLY)) for path in paths])


@attempt("kernel", needs="root")
def write_interrupt_affinity(stage: Stage) -> str:
    """Open the switch that says which processor handles interrupts."""
    return opened("/proc/irq/default_smp_affinity", os.O_WRONLY)
