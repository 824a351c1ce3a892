"""Which sockets the descriptor tables of one process hold (proc(5): fd, fdinfo; kcmp(2))."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator

_KCMP = {"x86_64": 312, "aarch64": 272, "riscv64": 272}
_KCMP_FILES = 2
_LARGE = 1 << 14
_syscall = ctypes.CDLL(None).syscall
_syscall.argtypes = [ctypes.c_long] * 6
_syscall.restype = ctypes.c_long
_kcmp = _KCMP.get(os.uname().machine, -1)


class Unsettled(Exception):
    """What was read of the processes does not fit together: they changed meanwhile."""


def sockets_of(directory: int, threads: list[str]) -> dict[int, str]:
    """A link for each socket that a process has open, by the socket's inode.

    A thread may have left the common table with unshare(2), and the first one may have ended.

    :param directory: of the process, in proc(5).
    :param threads: names of all its threads.
    :raises Unsettled: a table cannot be read.
    """
    found: dict[int, str] = {}
    first = 0
    for name in threads:
        if first and not _syscall(_kcmp, first, int(name), _KCMP_FILES, 0, 0):
            continue
        found.update(_table(directory, f"task/{name}"))
        first = first or int(name)
    return found


def holds(directory: int, link: str, inode: int) -> bool:
    """Whether a link that :func:`sockets_of` gave is still of that socket."""
    try:
        if "/fdinfo/" in link:
            return inode in _numbers(_content(directory, link))
        return os.readlink(link, dir_fd=directory) == f"socket:[{inode}]"
    except OSError:
        return False


def waiting_rights(directory: int, link: str) -> int:
    """How many descriptors lie in the queue of a Unix socket, to be received by someone.

    :raises Unsettled: it is closed by now, or this kernel does not tell.
    """
    try:
        text = _content(directory, link.replace("/fd/", "/fdinfo/"))
    except OSError as error:
        raise Unsettled from error
    _, found, rest = text.partition("scm_fds:")
    if not found:
        raise Unsettled
    return int(rest.split(maxsplit=1)[0])


def state_of(directory: int, thread: str) -> str:
    """One letter: R runs, Z has ended; see proc_pid_stat(5)."""
    text = _content(directory, f"task/{thread}/stat")
    return text[text.rindex(")") + 2 :][:1]


def _table(directory: int, thread: str) -> dict[int, str]:
    try:
        folder = os.open(f"{thread}/fd", os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    except PermissionError:
        return _hidden_table(directory, thread)
    except (FileNotFoundError, ProcessLookupError) as error:
        raise Unsettled from error
    found = {}
    try:
        for name in os.listdir(folder):
            try:
                target = os.readlink(name, dir_fd=folder)
            except FileNotFoundError:
                continue  # Closed meanwhile.
            except (PermissionError, ProcessLookupError) as error:
                raise Unsettled from error
            if target.startswith("socket:["):
                found[int(target[8:-1])] = f"{thread}/fd/{name}"
    finally:
        os.close(folder)
    return found


def _hidden_table(directory: int, thread: str) -> dict[int, str]:
    """The table of a process that is not dumpable: its ``fd`` is root's, but not ``fdinfo``.

    :raises Unsettled: it cannot be read either, or this kernel does not tell enough.
    """
    found = {}
    try:
        if state_of(directory, thread[len("task/") :]) in "ZX":
            return {}  # Nobody owns the files of one that has ended: it has none.
        for name in _names(directory, f"{thread}/fdinfo"):
            try:
                inodes = _numbers(_content(directory, f"{thread}/fdinfo/{name}"))
            except FileNotFoundError:
                continue
            for inode in inodes:
                found[inode] = f"{thread}/fdinfo/{name}"
    except OSError as error:
        raise Unsettled from error
    return found


def _numbers(text: str) -> Iterator[int]:
    """The inode that an entry of fdinfo tells, whatever kind of file it is.

    A file that is no socket may happen to have a socket's number. That only adds an owner.

    :raises Unsettled: it tells none, as before Linux 5.14.
    """
    _, found, rest = text.partition("\nino:")
    if not found:
        raise Unsettled
    yield int(rest.split(maxsplit=1)[0])


def _names(directory: int, name: str) -> list[str]:
    folder = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        return os.listdir(folder)
    finally:
        os.close(folder)


def _content(directory: int, name: str) -> str:
    descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        return os.read(descriptor, _LARGE).decode("utf-8", "replace")
    finally:
        os.close(descriptor)
