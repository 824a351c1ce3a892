"""Other machines, simulated in a child process: by a system call filter, a sysctl, an id."""

from __future__ import annotations

import ctypes
import errno
import os
import pickle
import struct
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from nemoclaw_core.host import Examination, examine
from nemoclaw_core.launcher import kernel, rights

NUMBERS = {
    "x86_64": {
        "clone": 56,
        "unshare": 272,
        "clone3": 435,
        "mount": 165,
        "seccomp": 317,
        "fsopen": 430,
        "move_mount": 429,
        "pivot_root": 155,
        "mount_setattr": 442,
        "landlock_create_ruleset": 444,
        "landlock_restrict_self": 446,
        "sethostname": 170,
        "mkdir": 83,
    },
    "aarch64": {
        "clone": 220,
        "unshare": 97,
        "clone3": 435,
        "mount": 40,
        "seccomp": 277,
        "fsopen": 430,
        "move_mount": 429,
        "pivot_root": 41,
        "mount_setattr": 442,
        "landlock_create_ruleset": 444,
        "landlock_restrict_self": 446,
        "sethostname": 161,
        "mkdir": 34,
    },
}[os.uname().machine]

_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000


def refuse(call: str, error: int, flag: int = 0) -> None:
    """Make a system call fail with ``error`` from here on (when its first argument has ``flag``).

    This is how container runtimes forbid namespaces.
    """
    program = [
        (_LOAD, 0, 0, 0),
        (_EQUAL, 0, 3 if flag else 1, NUMBERS[call]),
        *([(_LOAD, 0, 0, 16), (_ANY_BIT, 0, 1, flag)] if flag else []),
        (_RETURN, 0, 0, _ERRNO | error),
        (_RETURN, 0, 0, _ALLOW),
    ]
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    rights.seccomp_filter(b"".join(struct.pack("HBBI", *line) for line in program))


def become(user: int) -> None:
    """Another id, without supplementary groups."""
    if user != os.getuid():
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
        # Changing the id hides /proc/self from ourselves until the next exec (proc(5)).
        kernel.prctl(kernel.PR_SET_DUMPABLE, 1)


def elsewhere(*changes: Callable[[], object], run: Callable[[], Any] = examine) -> Any:
    """Run ``run`` in a child to which ``changes`` were made, and return what it returns."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        result: object = RuntimeError("the child died")
        try:
            for change in changes:
                change()
            result = run()
        except BaseException as error:
            result = error
        finally:
            with os.fdopen(writer, "wb") as report:
                report.write(pickle.dumps(result))
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as report:
        result = pickle.loads(report.read())
    os.waitpid(child, 0)
    if isinstance(result, BaseException):
        raise result
    return result


def no_user_namespaces(user: int) -> None:
    """Live as ``user`` in a user namespace whose ``user.max_user_namespaces`` is 0."""
    libc = ctypes.CDLL(None, use_errno=True)
    become(user)
    if libc.unshare(kernel.CLONE_FLAGS["user"]):
        raise OSError(ctypes.get_errno(), "unshare")
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{user} {user} 1"),
        ("gid_map", f"{user} {user} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    with open("/proc/sys/user/max_user_namespaces", "w") as file:
        file.write("0")
    rights.clear_capabilities()


@pytest.fixture(scope="session")
def simulate() -> Callable[..., Any]:
    """``simulate(change, ..., run=function)``: by default, examine the host after the changes."""
    return elsewhere


@pytest.fixture(scope="session")
def change() -> Any:
    """The changes that can be made: ``change.refuse``, ``change.become`` ..."""

    class Changes:
        @staticmethod
        def refuse(call: str, error: int = errno.EPERM, flag: int = 0) -> Callable[[], None]:
            return lambda: refuse(call, error, flag)

        @staticmethod
        def become(user: int) -> Callable[[], None]:
            return lambda: become(user)

        @staticmethod
        def no_user_namespaces(user: int) -> Callable[[], None]:
            return lambda: no_user_namespaces(user)

    return Changes


USERS = (0, 1000) if os.getuid() == 0 else (os.getuid(),)


@pytest.fixture(params=USERS, ids=[f"uid{user}" for user in USERS])
def user(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(scope="session")
def plain_user() -> int:
    """Somebody who is not root."""
    return 1000 if os.getuid() == 0 else os.getuid()


@pytest.fixture(scope="session")
def here() -> dict[int, Examination]:
    """What was found on this machine, by user."""
    return {user: elsewhere(partial(become, user)) for user in USERS}
