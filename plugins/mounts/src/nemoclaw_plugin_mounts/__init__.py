"""The mounts layer: the agent sees a file system that holds what the policy names, and no more."""

from __future__ import annotations

from nemoclaw_hookspecs import Gap, Host, Layer, Policy, hookimpl

from .view import build_view

NEMOCLAW_API = (1, 0)

_NEEDED = {
    "mount": "paths outside the policy stay visible: their names, sizes and times can be read, and"
    " their modes and times changed; `deny` and read-only islands inside a writable tree"
    " cannot be enforced",
    "pid": "the agent sees the processes of its user",
    "ipc": "the agent shares System V IPC objects and POSIX queues with its user",
    "uts": "the agent sees the host's name",
    "cgroup": "the agent sees the path of its control group",
}
_SLOW_END = (
    "; and before Landlock ABI 6 what it starts has to be looked for when the sandbox ends, is"
    " stopped or its time is up, which waits as long as it forks faster than that"
)
_LANDLOCK_SIGNALS = 6
_REMEDY = "allow unprivileged user namespaces on this host (`nemoclaw doctor` says how)"


def _without_view(host: Host, origin: str) -> tuple[Gap, ...]:
    """What is said of the kinds that this host has, and that nothing is made of without a view."""
    kinds = [kind for kind in _NEEDED if kind in host.namespaces]
    if not kinds:
        return ()
    missing = " and ".join(kind for kind in ("mount", "pid") if kind not in host.namespaces)
    return (
        Gap(
            what="no view of the file system",
            consequence=f"without a {missing} namespace nothing is made of the others either"
            f" ({', '.join(kinds)}): {'; '.join(_NEEDED[kind] for kind in kinds)}",
            remedy=_REMEDY,
            origin=origin,
        ),
    )


@hookimpl
def apply_fs(policy: Policy, host: Host) -> Layer:
    """The view, and the namespaces that it needs; a gap for each namespace that is missing."""
    origin = str(policy.filesystem.origins.get("read", "filesystem"))
    slow = host.landlock_abi < _LANDLOCK_SIGNALS
    gaps = tuple(
        Gap(
            what=f"no {kind} namespace",
            consequence=consequence + (_SLOW_END if kind == "pid" and slow else ""),
            remedy=_REMEDY,
            origin=origin,
        )
        for kind, consequence in _NEEDED.items()
        if kind not in host.namespaces
    )
    if not host.view:
        return Layer(gaps=(*gaps, *_without_view(host, origin)))
    kinds = tuple(kind for kind in _NEEDED if kind in host.namespaces)
    return Layer(operations=build_view(policy, kinds), gaps=gaps)
