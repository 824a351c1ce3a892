"""Claims about putting a process under a filter."""

from __future__ import annotations

import ctypes
import os
import struct

import pytest
from nemoclaw_testing import install_filter, run_forked

PR_GET_NO_NEW_PRIVS, PR_GET_SECCOMP = 39, 21
# SECCOMP_RET_ALLOW, and SECCOMP_RET_ERRNO with ENOSPC for getppid alone.
ALLOW = struct.pack("=HBBI", 6, 0, 0, 0x7FFF0000)
GETPPID = {"x86_64": 110, "aarch64": 173}[os.uname().machine]
FULL = (
    struct.pack("=HBBI", 0x20, 0, 0, 0)
    + struct.pack("=HBBI", 0x15, 0, 1, GETPPID)
    + struct.pack("=HBBI", 6, 0, 0, 0x00050000 | 28)
    + ALLOW
)


def state() -> tuple[int, int]:
    libc = ctypes.CDLL(None)
    return libc.prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), libc.prctl(PR_GET_SECCOMP, 0, 0, 0, 0)


def test_the_filter_is_in_force_and_only_in_the_child() -> None:
    def sealed() -> tuple[tuple[int, int], int]:
        install_filter(FULL)
        libc = ctypes.CDLL(None, use_errno=True)
        libc.getppid()
        return state(), libc.syscall(GETPPID)

    before = state()
    assert run_forked(sealed) == ((1, 2), -1)
    assert state() == before


def test_a_program_that_is_none_is_refused() -> None:
    with pytest.raises(OSError, match="cannot be installed"):
        run_forked(install_filter, b"\xff" * 8)
