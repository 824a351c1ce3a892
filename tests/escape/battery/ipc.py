"""Kernel interfaces: System V and POSIX communication, and keys, none of which are files."""

from __future__ import annotations

import ctypes
import struct

from .registry import Stopped, attempt
from .stage import Stage
from .system import call, syscall

PROCESS_KEYRING, SESSION_KEYRING, USER_KEYRING = -2, -3, -4
KEYCTL_SEARCH, KEYCTL_READ, KEYCTL_LINK = 10, 11, 8


@attempt("kernel")
def attach_shared_memory(stage: Stage) -> str:
    """Read a System V shared memory segment of the host."""
    address = call("shmat", stage.fact("shared_memory"), None, 0x1000, restype=ctypes.c_ssize_t)
    return stage.found(ctypes.string_at(address, 64))


@attempt("kernel")
def find_shared_memory(stage: Stage) -> str:
    """Find a System V shared memory segment of the host by its key."""
    identifier = call("shmget", ctypes.c_int(stage.fact("ipc_key")), 0, 0)
    return f"segment {identifier}"


@attempt("kernel")
def receive_message(stage: Stage) -> str:
    """Receive a message from a System V queue of the host."""
    buffer = ctypes.create_string_buffer(128)
    call("msgrcv", stage.fact("message_queue"), buffer, 64, 0, 0o4000)
    return stage.found(buffer.raw)


@attempt("kernel")
def change_semaphore(stage: Stage) -> str:
    """Change a System V semaphore of the host."""
    call("semop", stage.fact("semaphore"), struct.pack("Hhh", 0, 1, 0o4000), 1)
    return "added one"


@attempt("kernel")
def list_shared_memory(stage: Stage) -> str:
    """Find the host's segments in /proc/sysvipc."""
    with open("/proc/sysvipc/shm", encoding="ascii") as file:
        keys = {int(line.split()[0]) for line in file.readlines()[1:]}
    if stage.fact("ipc_key") not in keys:
        raise Stopped(f"{len(keys)} segments, not the host's")
    return "it is listed"


@attempt("kernel")
def receive_posix_message(stage: Stage) -> str:
    """Receive a message from a POSIX queue of the host."""
    queue = call("mq_open", stage.fact("posix_queue").encode(), 0o4000)
    buffer = ctypes.create_string_buffer(8192)
    call("mq_receive", queue, buffer, 8192, None)
    return stage.found(buffer.raw)


def _read_key(stage: Stage, identifier: int) -> str:
    buffer = ctypes.create_string_buffer(128)
    syscall("keyctl", KEYCTL_READ, identifier, buffer, 128)
    return stage.found(buffer.raw)


@attempt("kernel")
def read_session_key(stage: Stage) -> str:
    """Read a key from the caller's session keyring."""
    name = stage.fact("key").encode()
    found = syscall("keyctl", KEYCTL_SEARCH, SESSION_KEYRING, b"user", name, 0)
    return _read_key(stage, found)


@attempt("kernel")
def request_session_key(stage: Stage) -> str:
    """Have the kernel look for the caller's key in every keyring."""
    return _read_key(stage, syscall("request_key", b"user", stage.fact("key").encode(), None, 0))


@attempt("kernel")
def read_user_key(stage: Stage) -> str:
    """Read a key from the keyring that all processes of the user share."""
    name = stage.fact("user_key").encode()
    syscall("keyctl", KEYCTL_LINK, USER_KEYRING, PROCESS_KEYRING)
    found = syscall("keyctl", KEYCTL_SEARCH, USER_KEYRING, b"user", name, 0)
    return _read_key(stage, found)


@attempt("kernel")
def read_key_by_number(stage: Stage) -> str:
    """Read the caller's key by its number."""
    return _read_key(stage, stage.fact("key_number"))


@attempt("kernel")
def add_key(stage: Stage) -> str:
    """Store a key in the kernel, beyond every limit on memory."""
    syscall("add_key", b"user", b"planted", b"planted", 7, PROCESS_KEYRING)
    return "stored it"


@attempt("kernel")
def list_keys(stage: Stage) -> str:
    """Find the caller's key in /proc/keys."""
    with open("/proc/keys", encoding="utf-8") as file:
        if stage.fact("key") not in file.read():
            raise Stopped("it is not listed")
    return "it is listed"


@attempt("kernel")
def count_keys(stage: Stage) -> str:
    """Learn in /proc/key-users who has keys."""
    with open("/proc/key-users", encoding="ascii") as file:
        text = file.read()
    if not text:
        raise Stopped("the list is empty")
    return f"{len(text.splitlines())} users"
