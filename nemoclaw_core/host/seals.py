"""Landlock and seccomp, as this kernel offers them to this process."""

from __future__ import annotations

import ctypes
import errno
import os

from ..launcher import kernel, rights
from .answers import Answer, told
from .children import Tell, ask

_LANDLOCK_CREATE_RULESET = 444
_LANDLOCK_CREATE_RULESET_VERSION = 1
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_SECCOMP_GET_ACTION_AVAIL = 2
# include/uapi/linux/seccomp.h: SECCOMP_RET_*
_ACTIONS = {"kill": 0x80000000, "errno": 0x00050000, "log": 0x7FFC0000}

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

_WHY = {
    errno.ENOSYS: "the kernel was built without Landlock (ENOSYS)",
    errno.EOPNOTSUPP: "Landlock is switched off: it is not in the kernel's list of security "
    "modules (EOPNOTSUPP)",
}


def landlock() -> tuple[int, Answer]:
    """The ABI version (landlock_create_ruleset(2)), 0 when a ruleset cannot be enforced."""
    version = int(
        _libc.syscall(
            _LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), _LANDLOCK_CREATE_RULESET_VERSION
        )
    )
    if version < 1:
        number = ctypes.get_errno()
        error = OSError(number, f"landlock_create_ruleset: {os.strerror(number)}")
        return 0, Answer(subject="landlock", works=False, detail=_WHY.get(number) or told(error))
    reply = ask(_restrict)
    if reply.failure:
        return 0, Answer(subject="landlock", works=False, detail=reply.failure)
    return version, Answer(subject="landlock", works=True, detail=f"ABI {version}")


def _restrict(tell: Tell) -> None:
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    ruleset = rights.landlock_ruleset(1, 0, 0)
    rights.landlock_restrict_self(ruleset, 0)


def seccomp() -> Answer:
    """Whether filters exist with every action that a policy can ask for (seccomp(2))."""
    for name, action in _ACTIONS.items():
        value = ctypes.c_uint32(action)
        result = _libc.syscall(
            _SECCOMP[os.uname().machine], _SECCOMP_GET_ACTION_AVAIL, 0, ctypes.byref(value)
        )
        if result:
            number = ctypes.get_errno()
            error = OSError(number, f"seccomp (action {name}): {os.strerror(number)}")
            return Answer(subject="seccomp", works=False, detail=told(error))
    return Answer(subject="seccomp", works=True, detail="filters with errno, kill and log")
