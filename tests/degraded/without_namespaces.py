"""Run a command where a kind of namespaces is refused: ``python3 THIS KIND COMMAND [ARGUMENT ...]``

KIND is ``user`` or ``pid``. A seccomp filter answers EPERM to clone(2) and unshare(2) that ask for
one, as a kernel does whose administrator forbids them (``user.max_pid_namespaces = 0``). Or it is
``nftables``: to sockets of NETLINK_NETFILTER the answer is that of a kernel without them.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

CLONE, UNSHARE, SECCOMP, SOCKET = {"x86_64": (56, 272, 317, 41), "aarch64": (220, 97, 277, 198)}[
    os.uname().machine
]
FLAGS = {"user": 0x10000000, "pid": 0x20000000}
NO_NEW_PRIVS, EPERM = 38, 1
LOAD_NUMBER, LOAD_FLAGS = (0x20, 0, 0, 0), (0x20, 0, 0, 16)
LOAD_FAMILY, LOAD_PROTOCOL = LOAD_FLAGS, (0x20, 0, 0, 32)
NETLINK, NETFILTER, EPROTONOSUPPORT = 16, 12, 93
ALLOW, REFUSE = (0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x00050000 | EPERM)
NONE_SUCH = (0x06, 0, 0, 0x00050000 | EPROTONOSUPPORT)


class Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def _without(flag: int) -> tuple[tuple[int, ...], ...]:
    return (
        LOAD_NUMBER,
        (0x15, 1, 0, CLONE),
        (0x15, 0, 3, UNSHARE),
        LOAD_FLAGS,
        (0x45, 0, 1, flag),
        REFUSE,
        ALLOW,
    )


def _without_nftables() -> tuple[tuple[int, ...], ...]:
    return (
        LOAD_NUMBER,
        (0x15, 0, 5, SOCKET),
        LOAD_FAMILY,
        (0x15, 0, 3, NETLINK),
        LOAD_PROTOCOL,
        (0x15, 0, 1, NETFILTER),
        NONE_SUCH,
        ALLOW,
    )


def main() -> None:
    """Install the filter, and become the command."""
    libc = ctypes.CDLL(None, use_errno=True)
    kind = sys.argv[1]
    lines = _without_nftables() if kind == "nftables" else _without(FLAGS[kind])
    code = b"".join(struct.pack("=HBBI", *line) for line in lines)
    program = Program(len(lines), code)
    libc.prctl(NO_NEW_PRIVS, 1, 0, 0, 0)
    if libc.syscall(SECCOMP, 1, 0, ctypes.byref(program)):
        sys.exit(f"seccomp: {os.strerror(ctypes.get_errno())}")
    os.execv(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
