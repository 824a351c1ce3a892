"""System calls that Python does not offer, by name, for x86-64 and aarch64.

Numbers from the kernel's ``arch/x86/entry/syscalls/syscall_64.tbl`` and
``include/uapi/asm-generic/unistd.h``.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from typing import Any

from .registry import CannotJudge

libc = ctypes.CDLL(None, use_errno=True)
MACHINE = os.uname().machine
AT_FDCWD = -100

_NUMBERS: dict[str, tuple[int | None, int | None]] = {
    "acct": (163, 89),
    "add_key": (248, 217),
    "adjtimex": (159, 171),
    "bpf": (321, 280),
    "clock_adjtime": (305, 266),
    "clone": (56, 220),
    "clone3": (435, 435),
    "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263),
    "fchmodat2": (452, 452),
    "file_getattr": (468, 468),
    "file_setattr": (469, 469),
    "finit_module": (313, 273),
    "fsopen": (430, 430),
    "get_robust_list": (274, 100),
    "init_module": (175, 105),
    "io_uring_setup": (425, 425),
    "ioperm": (173, None),
    "iopl": (172, None),
    "ioprio_get": (252, 31),
    "ioprio_set": (251, 30),
    "kcmp": (312, 272),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "modify_ldt": (154, None),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "move_pages": (279, 239),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "openat2": (437, 437),
    "perf_event_open": (298, 241),
    "personality": (135, 92),
    "pidfd_getfd": (438, 438),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "pivot_root": (155, 41),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "reboot": (169, 142),
    "renameat2": (316, 276),
    "request_key": (249, 218),
    "rt_sigqueueinfo": (129, 138),
    "sched_setattr": (314, 274),
    "seccomp": (317, 277),
    "setns": (308, 268),
    "settimeofday": (164, 170),
    "setxattrat": (463, 463),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
}

CLONE_NEWTIME = 0x80
CLONE_NEWNS = 0x20000
CLONE_NEWCGROUP = 0x2000000
CLONE_NEWUTS = 0x4000000
CLONE_NEWIPC = 0x8000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000


def number(name: str) -> int:
    """The number of a system call on this machine.

    :raises CannotJudge: this architecture has no such call.
    """
    column = {"x86_64": 0, "aarch64": 1}.get(MACHINE)
    found = None if column is None else _NUMBERS[name][column]
    if found is None:
        raise CannotJudge(f"{name} does not exist on {MACHINE}")
    return found


def syscall(name: str, *arguments: Any) -> int:
    """Make a system call. Integers are passed as longs, bytes as pointers, None as a null pointer.

    :raises OSError: the kernel refused it.
    """
    return raw(name, number(name), *arguments)


def raw(name: str, value: int, *arguments: Any) -> int:
    """Make the system call of this number; ``name`` is for the error.

    :raises OSError: the kernel refused it.
    """
    converted = [_argument(argument) for argument in arguments]
    ctypes.set_errno(0)
    libc.syscall.restype = ctypes.c_long
    result: int = libc.syscall(ctypes.c_long(value), *converted)
    if result == -1:
        number_of_error = ctypes.get_errno()
        raise OSError(number_of_error, os.strerror(number_of_error), name)
    return result


def _argument(value: Any) -> Any:
    if value is None:
        return ctypes.c_void_p(0)
    if isinstance(value, int):
        return ctypes.c_long(value)
    if isinstance(value, bytes):
        return ctypes.c_char_p(value)
    return value


def call(function: str, *arguments: Any, restype: Any = ctypes.c_int) -> int:
    """Call a function of the C library that returns -1 and sets errno on failure.

    :raises OSError: it failed.
    """
    entry = getattr(libc, function)
    entry.restype = restype
    ctypes.set_errno(0)
    result: int = entry(*(_argument(argument) for argument in arguments))
    if result == -1:
        number_of_error = ctypes.get_errno()
        raise OSError(number_of_error, os.strerror(number_of_error), function)
    return result


def evaluated(expected: tuple[int, ...], attack: Callable[[], Any]) -> str:
    """Make a call that cannot do harm because its arguments are nonsense.

    It counts as worked when the kernel got as far as looking at them, which it does only for
    those whom it would have obeyed.

    :raises OSError: it was refused with an error that is not ``expected``.
    """
    try:
        attack()
    except OSError as error:
        if error.errno not in expected:
            raise
        return f"the kernel looked at the arguments ({errno.errorcode[error.errno]})"
    return "the kernel obeyed"
