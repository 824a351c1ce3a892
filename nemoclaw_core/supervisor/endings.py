"""What to tell a person whose command the kernel ended for the policy's sake.

A command that meets the memory limit, or makes a forbidden system call, gets a signal and no word.
Imported only when one did.
"""

from __future__ import annotations

import os
import sys

from nemoclaw_hookspecs.errors import NemoclawError

from ..events.wording import SIGSYS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_LIMITS = ("memory.max", "memory.limit_in_bytes")


def tell_memory(name: str, plan: Mapping[str, Any], origin: str, kills: int) -> None:
    """Say on standard error that the sandbox met its memory limit.

    :param origin: the policy line of ``process.max_memory``.
    :param kills: how many of its processes the kernel ended for it.
    """
    from ..policy.quantities import show_size

    sizes = [
        show_size(int(value))
        for step in plan["steps"]
        if step["op"] == "join_cgroup"
        for file, value in step["settings"]
        if file in _LIMITS
    ]
    _tell(
        f"{name} reached its memory limit{''.join(f', {size}' for size in sizes)}: the kernel "
        f"ended {kills} of its processes",
        origin,
        "give it more with process.max_memory (0 = no limit), or let it do less at a time",
    )


def tell_forbidden_call(name: str, origin: str, status: int) -> None:
    """Say on standard error that the filter of system calls ended the command, if it did.

    :param origin: the policy line of ``syscalls.action = "kill"``.
    :param status: as of waitpid(2); a shell ends with 128 and the signal of what it has run.
    """
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == SIGSYS:
        what = f"{name} was ended by SIGSYS: it made a system call that the policy forbids"
    elif os.WIFEXITED(status) and os.WEXITSTATUS(status) == 128 + SIGSYS:
        what = (
            f"{name} ended with status {128 + SIGSYS}: as a shell does, when what it has run made "
            "a system call that the policy forbids"
        )
    else:
        return
    _tell(
        what,
        origin,
        'with syscalls.action = "errno" the call fails and the program goes on; the kernel log '
        "has its number (journalctl -k --grep seccomp); syscalls.allow permits it",
    )


def _tell(what: str, origin: str, remedy: str) -> None:
    told = NemoclawError(what, where=origin or None, remedy=remedy)
    sys.stderr.write(f"nemoclaw: {told}\n")
