"""Run a command on a host that refuses user namespaces: ``python3 THIS COMMAND [ARGUMENT ...]``.

A seccomp filter answers EPERM to clone(2) and unshare(2) with CLONE_NEWUSER, as a kernel does
whose administrator forbids them.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

CLONE, UNSHARE, SECCOMP = {"x86_64": (56, 272, 317), "aarch64": (220, 97, 277)}[os.uname().machine]
NEWUSER, NO_NEW_PRIVS, EPERM = 0x10000000, 38, 1
LOAD_NUMBER, LOAD_FLAGS = (0x20, 0, 0, 0), (0x20, 0, 0, 16)
ALLOW, REFUSE = (0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x00050000 | EPERM)
PROGRAM = (
    LOAD_NUMBER,
    (0x15, 1, 0, CLONE),
    (0x15, 0, 3, UNSHARE),
    LOAD_FLAGS,
    (0x45, 0, 1, NEWUSER),
    REFUSE,
    ALLOW,
)


class Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def main() -> None:
    """Install the filter, and become the command."""
    libc = ctypes.CDLL(None, use_errno=True)
    code = b"".join(struct.pack("=HBBI", *line) for line in PROGRAM)
    program = Program(len(PROGRAM), code)
    libc.prctl(NO_NEW_PRIVS, 1, 0, 0, 0)
    if libc.syscall(SECCOMP, 1, 0, ctypes.byref(program)):
        sys.exit(f"seccomp: {os.strerror(ctypes.get_errno())}")
    os.execv(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
