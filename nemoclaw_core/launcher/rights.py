"""The system calls by which a process gives up rights: capabilities, Landlock, seccomp.

As in :mod:`.kernel`, every function raises :class:`OSError` with the call's name on failure.
"""

from __future__ import annotations

import ctypes
import errno

from . import kernel

_SECCOMP, _CAPSET, _CAPGET = {"x86_64": (317, 126, 125), "aarch64": (277, 91, 90)}[kernel.MACHINE]
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446

PR_CAPBSET_READ, PR_CAPBSET_DROP = 23, 24
PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 47, 4


class _CapHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapData(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def _capabilities() -> tuple[_CapHeader, ctypes.Array[_CapData]]:
    return _CapHeader(0x20080522, 0), (_CapData * 2)()


def raise_permitted_capabilities() -> bool:
    """Make every permitted capability effective (capget(2), capset(2)); False if there is none."""
    header, data = _capabilities()
    kernel.check(kernel.syscall(_CAPGET, ctypes.byref(header), ctypes.byref(data)), "capget")
    for word in data:
        word.effective = word.permitted
    kernel.check(kernel.syscall(_CAPSET, ctypes.byref(header), ctypes.byref(data)), "capset")
    return any(word.permitted for word in data)


def clear_capabilities() -> None:
    """Give up every capability: permitted, effective and inheritable (capset(2))."""
    header, data = _capabilities()
    kernel.check(kernel.syscall(_CAPSET, ctypes.byref(header), ctypes.byref(data)), "capset")


def empty_bounding_set() -> None:
    """Drop every capability that this kernel knows from the bounding set (PR_CAPBSET_DROP)."""
    prctl = kernel.libc.prctl
    number = 0
    while (held := prctl(PR_CAPBSET_READ, number, 0, 0, 0)) >= 0:
        # Dropping one that is gone costs as much as dropping it.
        if held and prctl(PR_CAPBSET_DROP, number, 0, 0, 0) < 0:
            kernel.check(-1, "prctl(PR_CAPBSET_DROP)")
        number += 1
    # One past the last capability gives EINVAL; before that nothing may fail.
    if number == 0 or ctypes.get_errno() != errno.EINVAL:
        kernel.check(-1, "prctl(PR_CAPBSET_READ)")


class _RulesetAttr(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathBeneathAttr(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


class _NetPortAttr(ctypes.Structure):
    _fields_ = (("allowed_access", ctypes.c_uint64), ("port", ctypes.c_uint64))


def landlock_ruleset(handled_fs: int, handled_net: int, scoped: int) -> int:
    """A new ruleset (landlock_create_ruleset(2)). Parts of the structure that are zero and that
    the kernel may not know yet are left off its end."""
    attr = _RulesetAttr(handled_fs, handled_net, scoped)
    size = 24 if scoped else 16 if handled_net else 8
    result = kernel.syscall(_LANDLOCK_CREATE, ctypes.byref(attr), ctypes.c_size_t(size), 0)
    return kernel.check(result, "landlock_create_ruleset")


def landlock_allow_path(ruleset: int, path: int, access: int) -> None:
    """Grant rights below a path descriptor (landlock_add_rule(2))."""
    attr = _PathBeneathAttr(access, path)
    kernel.check(
        kernel.syscall(_LANDLOCK_ADD, ruleset, 1, ctypes.byref(attr), 0), "landlock_add_rule"
    )


def landlock_allow_port(ruleset: int, port: int, access: int) -> None:
    """Grant rights on a TCP port (landlock_add_rule(2))."""
    attr = _NetPortAttr(access, port)
    kernel.check(
        kernel.syscall(_LANDLOCK_ADD, ruleset, 2, ctypes.byref(attr), 0), "landlock_add_rule"
    )


def landlock_restrict_self(ruleset: int, flags: int) -> None:
    """Enforce a ruleset on the calling thread (landlock_restrict_self(2))."""
    result = kernel.syscall(_LANDLOCK_RESTRICT, ruleset, ctypes.c_uint(flags))
    kernel.check(result, "landlock_restrict_self")


class _SockFprog(ctypes.Structure):
    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def seccomp_filter(bpf: bytes) -> None:
    """Install a seccomp filter on the calling thread (seccomp(2), SECCOMP_SET_MODE_FILTER)."""
    program = _SockFprog(len(bpf) // 8, bpf)
    kernel.check(kernel.syscall(_SECCOMP, 1, 0, ctypes.byref(program)), "seccomp")
