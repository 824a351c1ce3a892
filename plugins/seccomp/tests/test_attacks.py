"""Real processes under the real filter: each attack works outside it, and fails inside.

Whether a call was refused by the filter or by the kernel is told apart by a second filter with
``action = "kill"``: there a refused call ends in SIGSYS.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import platform
import pty
import signal
import socket
import termios
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pyseccomp  # type: ignore[import-untyped]
import pytest
from nemoclaw_hookspecs import Host, Policy
from nemoclaw_plugin_seccomp import refused

if TYPE_CHECKING:
    from collections.abc import Callable

    Attempt = Callable[..., str]

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.syscall.restype = ctypes.c_long
HIGH = 1 << 32
NEVER = [call for group in (*refused.NEVER, *refused.ON_REQUEST) for call in group.calls]


def number_of(call: str) -> int:
    """-1 or below where this machine or libseccomp has no such call."""
    return int(pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, call))


def raw(call: str | int, *arguments: int | bytes | None) -> int:
    """The system call itself, all 64 bits of each argument; OSError with its errno."""
    number = number_of(call) if isinstance(call, str) else call
    words = [
        value if isinstance(value, (bytes, type(None))) else ctypes.c_ulong(value & 2**64 - 1)
        for value in arguments
    ]
    result = int(LIBC.syscall(ctypes.c_long(number), *words))
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


@pytest.fixture(scope="module")
def inside(
    policy: Callable[..., Policy], here: Host, compiled: Callable[[Policy, Host], bytes]
) -> bytes:
    return compiled(policy(), here)


@pytest.fixture(scope="module")
def killing(
    policy: Callable[..., Policy], here: Host, compiled: Callable[[Policy, Host], bytes]
) -> bytes:
    return compiled(policy(action="kill"), here)


@pytest.mark.parametrize("call", NEVER)
def test_refused_call_reaches_the_kernel_outside_and_not_inside(
    call: str, inside: bytes, killing: bytes, attempt: Attempt
) -> None:
    if number_of(call) < 0:
        pytest.skip(f"{call} does not exist on {platform.machine()}")

    def action() -> str:
        os.setsid()  # so that vhangup() has no terminal to hang up
        # No pointer, descriptor, flag or magic number is valid, so root does no harm either.
        raw(call, *(-1,) * 6)
        return "worked"

    assert attempt(None, action) != "SIGSYS"
    assert attempt(inside, action) == "EPERM"
    assert attempt(killing, action) == "SIGSYS"


def prove(
    attempt: Attempt, bpf: bytes, action: Callable[[], object], expected: str = "EPERM"
) -> None:
    """It works outside, and inside it gives ``expected``."""
    outside = attempt(None, action)
    if outside in ("EPERM", "EACCES", "ENOSYS", "EAFNOSUPPORT", "EPROTONOSUPPORT"):
        pytest.skip(f"this host and user cannot do it even outside: {outside}")
    assert outside == "worked", outside
    assert attempt(bpf, action) == expected


def works(call: str | int, *arguments: int | bytes | None) -> Callable[[], str]:
    def action() -> str:
        raw(call, *arguments)
        return "worked"

    return action


@pytest.mark.parametrize("flags", [0x10000000, 0x10020000, 0x50000000], ids=["user", "mnt", "net"])
def test_new_namespaces(flags: int, inside: bytes, attempt: Attempt) -> None:
    prove(attempt, inside, works("unshare", flags))

    def clone() -> str:
        pid = raw("clone", flags | 17, 0, 0, 0, 0)
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        return "worked"

    prove(attempt, inside, clone)

    def clone_with_high_bits() -> str:
        pid = raw("clone", HIGH * 0xFFFF | flags | 17, 0, 0, 0, 0)
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        return "worked"

    prove(attempt, inside, clone_with_high_bits)


def test_clone3_is_absent_whatever_the_action(
    inside: bytes, killing: bytes, attempt: Attempt
) -> None:
    arguments = (ctypes.c_uint64 * 8)(0, 0, 0, 0, 17)

    def clone3() -> str:
        pid = raw(435, ctypes.addressof(arguments), 64)
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        return "worked"

    prove(attempt, inside, clone3, "ENOSYS")
    assert attempt(killing, clone3) == "ENOSYS"


def test_entering_a_namespace(inside: bytes, attempt: Attempt) -> None:
    with open("/proc/self/ns/uts") as own:
        descriptor = own.fileno()
        assert attempt(None, works("setns", descriptor, 0)) in ("worked", "EPERM")
        assert attempt(None, works("setns", 9999, 0)) == "EBADF"
        assert attempt(inside, works("setns", descriptor, 0)) == "EPERM"
        assert attempt(inside, works("setns", 9999, 0)) == "EPERM"


@pytest.mark.parametrize(
    ("call", "mode"),
    [
        ("fchmod", 0o4755),
        ("fchmod", 0o2755),
        ("fchmod", 0o6755 | HIGH),
        ("fchmod", 0o4755 | 1 << 20),
    ],
)
def test_setid_by_chmod(
    call: str, mode: int, inside: bytes, attempt: Attempt, tmp_path: Path
) -> None:
    path = tmp_path / "tool"
    path.write_bytes(b"#!/bin/true\n")

    def chmod() -> str:
        with path.open() as file:
            raw(call, file.fileno(), mode)
        return "worked" if path.stat().st_mode & 0o6000 else "no bit was set"

    prove(attempt, inside, chmod)
    path.chmod(0o600)
    # What everybody does goes on working.
    assert attempt(inside, lambda: os.chmod(path, 0o755)) == "None"


@pytest.mark.parametrize("flags", [4, 4 | HIGH, 5])
def test_a_rename_leaves_no_device(
    flags: int, inside: bytes, attempt: Attempt, tmp_path: Path
) -> None:
    path, moved = tmp_path / "name", tmp_path / "moved"

    def rename() -> str:
        path.unlink(missing_ok=True)
        moved.unlink(missing_ok=True)
        path.touch()
        raw("renameat2", -100, bytes(path), -100, bytes(moved), flags)
        return "worked" if path.is_char_device() else "no device"

    prove(attempt, inside, rename)
    assert (
        attempt(inside, lambda: raw("renameat2", -100, bytes(path), -100, bytes(moved), 0)) == "0"
    )


@pytest.mark.parametrize("at", ["fchmodat", "openat", "mknodat", "tmpfile"])
def test_setid_by_path(at: str, inside: bytes, attempt: Attempt, tmp_path: Path) -> None:
    path = tmp_path / "tool"
    calls: dict[str, tuple[str, tuple[int | bytes, ...]]] = {
        "fchmodat": ("fchmodat", (-100, bytes(path), 0o4755)),
        "openat": ("openat", (-100, bytes(path), os.O_CREAT | os.O_WRONLY, 0o4755)),
        "mknodat": ("mknodat", (-100, bytes(path), 0o104755, 0)),
        "tmpfile": ("openat", (-100, bytes(tmp_path), os.O_TMPFILE | os.O_WRONLY, 0o4755)),
    }

    def action() -> str:
        if at == "fchmodat":
            path.touch()
        call, arguments = calls[at]
        descriptor = raw(call, *arguments)
        found = os.fstat(descriptor) if at == "tmpfile" else path.stat()
        if at != "tmpfile":
            path.unlink()
        return "worked" if found.st_mode & 0o4000 else "no bit was set"

    prove(attempt, inside, action)


def test_device_node(inside: bytes, killing: bytes, attempt: Attempt, tmp_path: Path) -> None:
    path = bytes(tmp_path / "null")
    prove(attempt, inside, works("mknodat", -100, path, 0o020666, os.makedev(1, 3)))
    assert attempt(killing, works("mknodat", -100, path, 0o020666, os.makedev(1, 3))) == "SIGSYS"
    assert attempt(killing, works("mknodat", -100, path + b"f", 0o010666, 0)) == "worked"


def type_into_own_terminal(request: int) -> Callable[[], str]:
    """An action that fakes input on a terminal that is its controlling one."""

    def action() -> str:
        controller, terminal = pty.openpty()
        os.setsid()
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
        settings = termios.tcgetattr(terminal)
        settings[3] &= ~(termios.ICANON | termios.ECHO)
        termios.tcsetattr(terminal, termios.TCSANOW, settings)
        raw("ioctl", terminal, request, b"x")
        typed = os.read(terminal, 1)
        # The controller is named so that it stays open: its end would be a hang-up.
        return "worked" if typed == b"x" and controller else "nothing was typed"

    return action


@pytest.mark.parametrize("request_number", [0x5412, 0x5412 | HIGH, 0x5412 | 1 << 63])
def test_typing_into_the_terminal(request_number: int, inside: bytes, attempt: Attempt) -> None:
    prove(attempt, inside, type_into_own_terminal(request_number))


@pytest.mark.parametrize("request_number", [0x541C, 0x541D, 0x5423, 0x8946, 0x4B3A, 0x5606])
def test_other_terminal_and_device_requests(
    request_number: int, inside: bytes, killing: bytes, attempt: Attempt
) -> None:
    # On no terminal, because TIOCCONS would take the console away from its owner.
    action = works("ioctl", 9999, request_number, 0)
    assert attempt(None, action) == "EBADF"
    assert attempt(inside, action) == "EPERM"
    assert attempt(killing, action) == "SIGSYS"


@pytest.mark.parametrize(
    ("family", "kind", "protocol", "expected"),
    [
        (2, 3, 6, "EPERM"),  # raw TCP
        (2, 3, 1, "EPROTONOSUPPORT"),  # raw ICMP
        (2, 2, 1, "EPROTONOSUPPORT"),  # ping
        (2, 1, 262, "EPROTONOSUPPORT"),  # MPTCP
        (2, 1 | 0o2000000, 262 | HIGH, "EPROTONOSUPPORT"),
        (2, 1, 132, "EPROTONOSUPPORT"),  # SCTP
        (2, 2, 136, "EPROTONOSUPPORT"),  # UDP-Lite
        (16, 3, 12, "EPROTONOSUPPORT"),  # netfilter
        (16, 3, 4, "EPROTONOSUPPORT"),  # sock_diag
        (16, 3, 15, "EPROTONOSUPPORT"),  # uevents
        (17, 3, 3, "EAFNOSUPPORT"),  # packet
        (17 | HIGH, 3, 3, "EAFNOSUPPORT"),
        (38, 5, 0, "EAFNOSUPPORT"),  # crypto
        (40, 1, 0, "EAFNOSUPPORT"),  # vsock
        (44, 3, 0, "EAFNOSUPPORT"),  # xdp
        (43, 1, 0, "EAFNOSUPPORT"),  # smc
    ],
)
def test_sockets_that_leave_the_path_of_the_proxy(
    family: int,
    kind: int,
    protocol: int,
    expected: str,
    inside: bytes,
    killing: bytes,
    attempt: Attempt,
) -> None:
    assert attempt(None, works("socket", family, kind, protocol)) != "SIGSYS"
    assert attempt(inside, works("socket", family, kind, protocol)) == expected
    assert attempt(killing, works("socket", family, kind, protocol)) == "SIGSYS"


def test_allowed_sockets_work(killing: bytes, attempt: Attempt) -> None:
    def action() -> str:
        for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                socket.socket(family, kind | socket.SOCK_NONBLOCK).close()
        socket.if_nameindex()
        left, right = socket.socketpair()
        left.send(b"x")
        return "worked" if right.recv(1) == b"x" else "lost"

    assert attempt(killing, action) == "worked"


def test_connecting_without_connect(inside: bytes, attempt: Attempt) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        address = b"\x02\x00" + port.to_bytes(2, "big") + b"\x7f\x00\x00\x01" + bytes(8)

        def fast_open(flags: int) -> Callable[[], str]:
            def action() -> str:
                with socket.socket() as client:
                    raw("sendto", client.fileno(), b"x", 1, flags, address, 16)
                    client.getpeername()
                return "worked"

            return action

        prove(attempt, inside, fast_open(socket.MSG_FASTOPEN))
        prove(attempt, inside, fast_open(socket.MSG_FASTOPEN | HIGH))

        def option() -> str:
            with socket.socket() as client:
                client.setsockopt(socket.IPPROTO_TCP, 30, 1)
            return "worked"

        prove(attempt, inside, option)


@pytest.mark.parametrize("high", [0, HIGH], ids=["plain", "high bits"])
def test_holding_up_who_writes_a_file(
    high: int, inside: bytes, attempt: Attempt, tmp_path: Path
) -> None:
    """A lease needs a descriptor for reading alone; who opens the file to write then waits."""
    path = tmp_path / "file"
    path.write_text("")

    def lease() -> str:
        signal.signal(signal.SIGIO, signal.SIG_IGN)  # By it the holder is asked to let go.
        with path.open() as file:
            raw("fcntl", file.fileno(), 1024 | high, fcntl.F_RDLCK)
            # A writer that does not wait is told that it would have to.
            with pytest.raises(BlockingIOError):
                os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
        return "worked"

    prove(attempt, inside, lease)


def test_file_locks_and_flags_are_left(killing: bytes, attempt: Attempt, tmp_path: Path) -> None:
    path = tmp_path / "file"

    def use() -> str:
        with path.open("w") as file:
            fcntl.lockf(file, fcntl.LOCK_EX)
            fcntl.fcntl(file, fcntl.F_SETFL, os.O_NONBLOCK)
            os.close(fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, 0))
        return "used"

    assert attempt(killing, use) == "used"


@pytest.mark.parametrize(
    "persona", [0x0040000, 0x0400000, 8, 0x0040000 | HIGH, 0x0400000 | 1 << 63]
)
def test_weakening_the_address_space(persona: int, inside: bytes, attempt: Attempt) -> None:
    prove(attempt, inside, works("personality", persona))
    assert attempt(inside, works("personality", 0xFFFFFFFF)) == "worked"


def test_executing_without_a_file(inside: bytes, attempt: Attempt) -> None:
    def action() -> str:
        descriptor = os.memfd_create("x")
        os.write(descriptor, Path("/bin/true").read_bytes())
        pid = os.fork()
        if pid == 0:
            os.execve(descriptor, ["true"], {})
        return "worked" if os.waitpid(pid, 0)[1] == 0 else "failed"

    prove(attempt, inside, action)


def child_doing(act: Callable[[int], object]) -> Callable[[], str]:
    """An action that starts a child, and acts on it."""

    def action() -> str:
        pid = os.fork()
        if pid == 0:
            time.sleep(20)
            os._exit(0)
        try:
            act(pid)
        finally:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
        return "worked"

    return action


@pytest.mark.parametrize(
    "name",
    ["ptrace", "vm_readv", "setpriority", "affinity", "scheduler", "ioprio", "prlimit", "kcmp"],
)
def test_reaching_into_another_process(name: str, inside: bytes, attempt: Attempt) -> None:
    def read_memory(pid: int) -> None:
        target = ctypes.create_string_buffer(8)
        vector = (ctypes.c_void_p * 2)(ctypes.addressof(target), 8)
        where = ctypes.addressof(vector)
        raw("process_vm_readv", pid, where, 1, where, 1, 0)

    attacks: dict[str, Callable[[int], object]] = {
        "ptrace": lambda pid: raw("ptrace", 0x4206, pid, 0, 0),  # PTRACE_SEIZE
        "vm_readv": read_memory,
        "setpriority": lambda pid: os.setpriority(os.PRIO_PROCESS, pid, 5),
        "affinity": lambda pid: os.sched_setaffinity(pid, os.sched_getaffinity(0)),
        "scheduler": lambda pid: os.sched_setscheduler(pid, os.SCHED_BATCH, os.sched_param(0)),
        "ioprio": lambda pid: raw("ioprio_set", 1, pid, 3 << 13),
        "prlimit": lambda pid: raw("prlimit64", pid | HIGH, 7, 0, 0),
        "kcmp": lambda pid: raw("kcmp", os.getpid(), pid, 2, 0, 0),
    }
    prove(attempt, inside, child_doing(attacks[name]))
    assert attempt(inside, child_doing(lambda pid: os.kill(pid, 0))) == "worked"


def test_own_priority_and_limits_can_be_changed(killing: bytes, attempt: Attempt) -> None:
    def action() -> str:
        os.nice(1)
        os.setpriority(os.PRIO_PROCESS, 0, 2)
        os.sched_setaffinity(0, os.sched_getaffinity(0))
        raw("ioprio_set", 1, 0, 3 << 13)
        raw("prlimit64", 0, 7, 0, 0)
        return "worked"

    assert attempt(killing, action) == "worked"


def test_kernel_interfaces(inside: bytes, attempt: Attempt) -> None:
    parameters = (ctypes.c_char * 120)()
    prove(attempt, inside, works("io_uring_setup", 4, ctypes.addressof(parameters)))
    prove(attempt, inside, works("userfaultfd", 1))  # UFFD_USER_MODE_ONLY
    prove(attempt, inside, works("add_key", b"user", b"nemoclaw-test", b"x", 1, -2))
    prove(attempt, inside, works("keyctl", 0, -3, 1))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="int 0x80 is an x86 instruction")
def test_entering_the_kernel_as_a_32_bit_program(inside: bytes, attempt: Attempt) -> None:
    def getpid_by_int80() -> str:
        page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        # push rbx; mov eax, 20 (getpid of i386); int 0x80; pop rbx; ret
        page.write(b"\x53\xb8\x14\x00\x00\x00\xcd\x80\x5b\xc3")
        address = ctypes.addressof(ctypes.c_char.from_buffer(page))
        return "worked" if ctypes.CFUNCTYPE(ctypes.c_int)(address)() == os.getpid() else "failed"

    outside = attempt(None, getpid_by_int80)
    if outside != "worked":
        pytest.skip(f"this kernel has no 32-bit entry: {outside}")
    assert attempt(inside, getpid_by_int80) == "SIGSYS"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="x32 is an ABI of x86-64")
def test_x32_numbers(inside: bytes, attempt: Attempt) -> None:
    getpid = 0x40000000 | 39
    assert attempt(None, works(getpid)) in ("worked", "ENOSYS")
    assert attempt(inside, works(getpid)) == "SIGSYS"


def test_unknown_calls_are_absent(inside: bytes, killing: bytes, attempt: Attempt) -> None:
    for number in (500, 5000, 2**29, -1):
        for bpf in (None, inside, killing):
            assert attempt(bpf, works(number)) == "ENOSYS"


def test_filter_cannot_be_replaced_or_loosened(
    inside: bytes, attempt: Attempt, policy: Callable[..., Policy]
) -> None:
    """A second filter that allows everything adds nothing: the strictest answer wins."""
    everything = (ctypes.c_char * 8).from_buffer_copy(b"\x06\x00\x00\x00\x00\x00\xff\x7f")

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))

    program = Program(1, ctypes.addressof(everything))

    def action() -> str:
        assert LIBC.prctl(38, 1, 0, 0, 0) == 0
        raw("seccomp", 1, 0, ctypes.addressof(program))
        raw("personality", 0x0040000)
        return "worked"

    prove(attempt, inside, action)

    def listen() -> str:
        assert LIBC.prctl(38, 1, 0, 0, 0) == 0
        raw("seccomp", 1, 8, ctypes.addressof(program))  # NEW_LISTENER
        return "worked"

    prove(attempt, inside, listen)
