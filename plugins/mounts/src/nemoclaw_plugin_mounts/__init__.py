"""The mounts layer: the agent sees a file system that holds what the policy names, and no more."""

from __future__ import annotations

from nemoclaw_hookspecs import Gap, Host, Layer, Policy, hookimpl

from .view import build_view

NEMOCLAW_API = (1, 0)

_NEEDED = {
    "mount": "paths outside the policy stay visible: their names, sizes and times can be read, and"
    " their modes and times changed; `deny` and read-only islands inside a writable tree"
    " cannot be enforced",
    "pid": "the agent sees the processes of its user, and what it starts may outlive it",
    "ipc": "the agent shares System V IPC objects and POSIX queues with its user",
    "uts": "the agent sees the host's name",
    "cgroup": "the agent sees the path of its control group",
}
_REMEDY = "allow unprivileged user namespaces on this host (`nemoclaw doctor` says how)"


@hookimpl
def apply_fs(policy: Policy, host: Host) -> Layer:
    """The view, and the namespaces that it needs; a gap for each namespace that is missing."""
    origin = str(policy.filesystem.origins.get("read", "filesystem"))
    gaps = tuple(
        Gap(
            what=f"no {kind} namespace",
            consequence=consequence,
            remedy=_REMEDY,
            origin=origin,
        )
        for kind, consequence in _NEEDED.items()
        if kind not in host.namespaces
    )
    if not {"mount", "pid"} <= host.namespaces:
        return Layer(gaps=gaps)
    kinds = tuple(kind for kind in _NEEDED if kind in host.namespaces)
    return Layer(operations=build_view(policy, kinds), gaps=gaps)
