"""Put a process under a seccomp filter, as the launcher does."""

from __future__ import annotations

import ctypes
import os

_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_SECCOMP_SET_MODE_FILTER = 1

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class _Program(ctypes.Structure):
    """``struct sock_fprog`` (linux/filter.h)."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def install_filter(bpf: bytes) -> None:
    """Set no_new_privs and install a filter (seccomp(2)) on this thread, for good.

    For a forked child: in :func:`~nemoclaw_testing.run_forked`, or as a ``preexec_fn``.

    :param bpf: as in ``SeccompFilter.bpf``.
    :raises OSError: the kernel refuses it.
    """
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs cannot be set")
    program = _Program(len(bpf) // 8, bpf)
    number = _SECCOMP[os.uname().machine]
    if _libc.syscall(number, _SECCOMP_SET_MODE_FILTER, 0, ctypes.byref(program)):
        raise OSError(ctypes.get_errno(), "the filter cannot be installed")
