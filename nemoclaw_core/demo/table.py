"""What stopped each attempt of the demo's agent, told by the error that it got and the plan."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Any

import attrs


@attrs.frozen(slots=True, kw_only=True)
class Attempt:
    """What the agent tries, and the walls that may stop it.

    ``walls`` maps the error that the agent sees to what stands behind it: words for the reader, the
    operation of the plan, and the value of its ``target`` or other telling field.
    """

    title: str
    walls: Mapping[int, tuple[str, str, str]]


_NOT_SHOWN = ("not in the agent's view", "enter_view", "")
_SYSCALL = ("system call filter", "seccomp_filter", "")

ATTEMPTS: Mapping[str, Attempt] = {
    "read_key": Attempt(
        title="read ~/.ssh/id_ed25519",
        walls={errno.ENOENT: _NOT_SHOWN, errno.EACCES: ("Landlock", "landlock_ruleset", "")},
    ),
    "read_env": Attempt(title="read .env", walls={errno.EACCES: ("mask", "mask", "/.env")}),
    "write_usr": Attempt(
        title="write to /usr",
        walls={
            errno.EROFS: ("read-only mount", "bind_mount", "/usr"),
            errno.EACCES: ("Landlock", "landlock_ruleset", ""),
        },
    ),
    "plant_hook": Attempt(
        title="plant a git hook",
        walls={
            errno.EROFS: ("mask", "mask", "/.git/hooks"),
            errno.EACCES: ("mask", "mask", "/.git/hooks"),
        },
    ),
    "move_git_aside": Attempt(
        title="move .git aside, make a new one",
        walls={errno.EBUSY: ("held in place by a mount", "bind_mount", "/.git")},
    ),
    "raw_socket": Attempt(
        title="open a raw socket",
        walls=dict.fromkeys(
            (errno.EPERM, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT),
            _SYSCALL,
        ),
    ),
    "mount": Attempt(title="mount a file system", walls={errno.EPERM: _SYSCALL}),
    "ptrace": Attempt(title="trace its parent (ptrace)", walls={errno.EPERM: _SYSCALL}),
    "load_module": Attempt(title="load a kernel module", walls={errno.EPERM: _SYSCALL}),
    "host_loopback": Attempt(
        title="connect to the host's 127.0.0.1",
        walls={errno.ECONNREFUSED: ("network namespace", "unshare", "network")},
    ),
    "signal_outside": Attempt(
        title="signal a process of the host",
        walls={
            errno.ESRCH: ("PID namespace", "unshare", "pid"),
            errno.EPERM: ("Landlock", "landlock_ruleset", ""),
        },
    ),
}


def policy_line(plan: Mapping[str, Any], operation: str, telling: str) -> str:
    """The origin of the step of that operation whose target, or list, has the telling value."""
    for step in plan["steps"]:
        if step["op"] != operation:
            continue
        target = str(step.get("target", ""))
        if not telling or target.endswith(telling) or telling in step.get("namespaces", ()):
            return str(step["origin"]) or "default"
    return ""


def explain(plan: Mapping[str, Any], line: Mapping[str, Any]) -> tuple[str, str] | None:
    """What stopped an attempt, and the policy line; None when nothing that should have."""
    wall = ATTEMPTS[line["name"]].walls.get(line.get("errno", 0))
    if "got" in line or wall is None:
        return None
    words, operation, telling = wall
    return words, policy_line(plan, operation, telling)
