"""The system calls that the launcher needs and Python's ``os`` lacks (ctypes, stdlib only).

Those by which a process gives up rights are in :mod:`.rights`.

Every function raises :class:`OSError` with the call's name on failure. Numbers and structures
follow the kernel's uapi headers; man-pages section 2 documents each call.
"""

from __future__ import annotations

import ctypes
import errno
import os

MACHINE = os.uname().machine
if MACHINE == "x86_64":
    _CLONE, _PIVOT_ROOT, _KEYCTL = 56, 155, 250
elif MACHINE == "aarch64":
    _CLONE, _PIVOT_ROOT, _KEYCTL = 220, 41, 219
else:
    raise OSError(errno.ENOSYS, f"nemoclaw knows no system call numbers for {MACHINE}")

# Numbers that all architectures share (added since Linux 5.1).
_PIDFD_OPEN, _CLOSE_RANGE, _OPENAT2 = 434, 436, 437
_OPEN_TREE, _MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT, _MOUNT_SETATTR = 428, 429, 430, 431, 432, 442

CLONE_FLAGS = {
    "user": 0x10000000,
    "mount": 0x00020000,
    "pid": 0x20000000,
    "network": 0x40000000,
    "ipc": 0x08000000,
    "uts": 0x04000000,
    "cgroup": 0x02000000,
}
_SIGCHLD = 17

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
O_PATH = 0o10000000
RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_IN_ROOT = 0x02, 0x04, 0x10

MS_REC, MS_PRIVATE = 0x4000, 0x40000
MNT_DETACH = 2
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC = 0x1, 0x2, 0x4, 0x8
MOUNT_ATTR_IDMAP = 0x00100000

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_KEEPCAPS = 1, 4, 8
PR_SET_NAME, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 15, 36, 38

libc = ctypes.CDLL(None, use_errno=True)
# The same functions with the interpreter lock held across the call: clone must not release it.
_locked = ctypes.PyDLL(None, use_errno=True)
syscall = libc.syscall
syscall.restype = ctypes.c_long
_locked.syscall.restype = ctypes.c_long


# Looked up once, in the launcher: a sandbox's init would look each of them up anew.
for _name in ("mount", "umount2", "unshare", "prctl", "prlimit64", "signalfd", "sethostname"):
    getattr(libc, _name)


def check(result: int, call: str) -> int:
    """A call's result.

    :raises OSError: it failed.
    """
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
    return result


def _bytes(path: str) -> bytes:
    return os.fsencode(path)


def write_file(path: str, value: str) -> None:
    """Write a value to a file of the kernel's.

    :raises OSError: with the file's path.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, value.encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        os.close(descriptor)


def clone(flags: int) -> int:
    """Fork into new namespaces (clone(2)); returns as fork does.

    One clone into all namespaces is much cheaper than unshare and a second fork for the PID
    namespace. ``PyOS_BeforeFork`` and its pair are the documented way to fork outside ``os.fork``.
    Only for a process with a single thread.
    """
    ctypes.pythonapi.PyOS_BeforeFork()
    result = _locked.syscall(_CLONE, ctypes.c_ulong(flags | _SIGCHLD), None, None, None, None)
    number = ctypes.get_errno()
    if result == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        return 0
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    if result < 0:
        raise OSError(number, f"clone: {os.strerror(number)}")
    return int(result)


def unshare(flags: int) -> None:
    """unshare(2)."""
    check(libc.unshare(ctypes.c_int(flags)), "unshare")


def prctl(option: int, value: int = 0, third: int = 0) -> int:
    """prctl(2) with integer arguments."""
    return check(
        libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(third), 0, 0), f"prctl({option})"
    )


def close_range(first: int, last: int = 0xFFFFFFFF) -> None:
    """Close every descriptor from ``first`` to ``last`` (close_range(2))."""
    if first <= last:
        check(syscall(_CLOSE_RANGE, ctypes.c_uint(first), ctypes.c_uint(last), 0), "close_range")


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


def open_path(
    path: str, *, directory: int = AT_FDCWD, in_root: bool = False, link: bool = False
) -> int:
    """A path descriptor, opened without following any symbolic link (openat2(2)).

    :param link: the last component may be a symbolic link; then the descriptor is of the link.
    :raises OSError: ELOOP when a component is a symbolic link.
    """
    resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | (RESOLVE_IN_ROOT if in_root else 0)
    flags = O_PATH | os.O_CLOEXEC | (os.O_NOFOLLOW if link else 0)
    how = _OpenHow(flags, 0, resolve)
    result = syscall(
        _OPENAT2, directory, _bytes(path), ctypes.byref(how), ctypes.c_size_t(ctypes.sizeof(how))
    )
    return check(result, f"openat2 {path}")


def mount(source: str, target: str, kind: str, flags: int, data: str) -> None:
    """mount(2)."""
    result = libc.mount(
        _bytes(source), _bytes(target), _bytes(kind), ctypes.c_ulong(flags), _bytes(data)
    )
    check(result, f"mount {kind} at {target}")


def detach(target: str) -> None:
    """umount2(2) with MNT_DETACH."""
    check(libc.umount2(_bytes(target), MNT_DETACH), f"umount {target}")


def pivot_root(new: str, old: str) -> None:
    """pivot_root(2)."""
    check(syscall(_PIVOT_ROOT, _bytes(new), _bytes(old)), "pivot_root")


def open_tree(descriptor: int) -> int:
    """A detached, recursive copy of the mounts at a path descriptor (open_tree(2))."""
    flags = 1 | os.O_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE
    return check(syscall(_OPEN_TREE, descriptor, b"", ctypes.c_uint(flags)), "open_tree")


def move_mount(tree: int, target: int) -> None:
    """Attach a detached mount at a path descriptor (move_mount(2))."""
    both_empty = 0x04 | 0x40
    check(syscall(_MOVE_MOUNT, tree, b"", target, b"", both_empty), "move_mount")


class _MountAttr(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def mount_setattr(
    descriptor: int, attributes: int, *, recursive: bool = True, userns: int = 0
) -> None:
    """Set attributes of the mount at a descriptor (mount_setattr(2))."""
    attr = _MountAttr(attributes, 0, 0, userns)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    result = syscall(
        _MOUNT_SETATTR,
        descriptor,
        b"",
        ctypes.c_uint(flags),
        ctypes.byref(attr),
        ctypes.c_size_t(ctypes.sizeof(attr)),
    )
    check(result, "mount_setattr")


def new_filesystem(kind: str, attributes: int, options: tuple[tuple[str, str], ...] = ()) -> int:
    """A detached mount of a new file system (fsopen(2), fsconfig(2), fsmount(2))."""
    context = check(syscall(_FSOPEN, kind.encode(), 1), f"fsopen {kind}")
    try:
        for name, value in options:
            result = syscall(_FSCONFIG, context, 1, name.encode(), value.encode(), 0)
            check(result, f"fsconfig {kind} {name}={value}")
        check(syscall(_FSCONFIG, context, 6, None, None, 0), f"fsconfig {kind}")
        return check(syscall(_FSMOUNT, context, 1, ctypes.c_uint(attributes)), f"fsmount {kind}")
    finally:
        os.close(context)


def lower_limit(resource: int, value: int) -> None:
    """Set a resource limit, soft and hard, to ``value`` or to the present hard limit if that is
    lower (prlimit(2))."""
    limit = (ctypes.c_uint64 * 2)()
    check(libc.prlimit64(0, resource, None, ctypes.byref(limit)), "prlimit")
    # No limit is the largest number that there is.
    limit[0] = limit[1] = min(value, limit[1])
    check(libc.prlimit64(0, resource, ctypes.byref(limit), None), "prlimit")


def join_session_keyring() -> None:
    """Replace the session keyring by a new anonymous one (keyctl(2))."""
    check(syscall(_KEYCTL, 1, None), "keyctl(JOIN_SESSION_KEYRING)")


def signal_descriptor(*numbers: int) -> int:
    """A descriptor that becomes readable when one of the (blocked) signals is pending."""
    mask = (ctypes.c_uint64 * 16)()
    for number in numbers:
        mask[0] |= 1 << (number - 1)
    return check(libc.signalfd(-1, ctypes.byref(mask), os.O_CLOEXEC | os.O_NONBLOCK), "signalfd")


def forget_arguments(title: str) -> None:
    """Overwrite this process's arguments and environment, which proc(5) shows, by a title.

    A fork keeps them: without this, pid 1 of a sandbox would show the supervisor's command line,
    and hold its environment in memory.
    """
    with open("/proc/self/stat", "rb", buffering=0) as file:
        fields = file.read().rpartition(b")")[2].split()
    # Fields 48 to 51: arg_start, arg_end, env_start, env_end; the split begins at field 3.
    arg_start, arg_end, env_start, env_end = map(int, fields[45:49])
    for start, end in ((arg_start, arg_end), (env_start, env_end)):
        if 0 < start < end:
            ctypes.memset(start, 0, end - start)
    name = title.encode()[: max(0, arg_end - arg_start - 1)]
    if arg_start:
        ctypes.memmove(arg_start, name, len(name))
    check(libc.prctl(PR_SET_NAME, ctypes.c_char_p(title.encode()), 0, 0, 0), "prctl(SET_NAME)")


def set_hostname(name: str) -> None:
    """sethostname(2)."""
    data = name.encode()
    check(libc.sethostname(data, ctypes.c_size_t(len(data))), "sethostname")
