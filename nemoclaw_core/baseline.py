"""What the core adds to every plan: identity, resource limits, and what no plugin may leave out."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
from nemoclaw_hookspecs.host import Host
from nemoclaw_hookspecs.policy import Policy
from nemoclaw_hookspecs.seal import (
    DropCapabilities,
    Gap,
    Hostname,
    JoinCgroup,
    NoNewPrivileges,
    Operation,
    Rlimit,
    SessionKeyring,
    SetUser,
    Unshare,
)

from .policy import gpu
from .policy.quantities import show_size
from .unserved import unserved

CORE = "core"
"""The name under which the core's own steps stand in a plan. No plugin can have it."""

LOCKED_MEMORY = 8 << 20
"""Bytes that the agent may lock: what Linux gives an ordinary user (since 5.16)."""


@attrs.frozen(slots=True, kw_only=True)
class Baseline:
    """The core's own contribution.

    :param gaps: limits that nothing on this host can hold, and what this version of nemoclaw does
        not do. A ``strict`` policy stops on them.
    :param weaknesses: limits that hold, but not as tightly as the policy reads. They are shown
        and do not stop anything, or few laptops could run an agent at all.
    """

    operations: tuple[Operation, ...]
    gaps: tuple[Gap, ...] = ()
    weaknesses: tuple[Gap, ...] = ()


def baseline(policy: Policy, host: Host, namespaces: frozenset[str]) -> Baseline:
    """The core's own operations for a policy on a host.

    :param namespaces: the kinds that the plugins ask for; the host name can only be set in a UTS
        namespace, and whoever is not root reaches any of them through a user namespace.
    """
    groups = _cgroups(policy, host)
    in_groups = {name for group in groups for name, _ in group.settings}
    pids_hold = "pids.max" in in_groups
    memory_holds = bool(in_groups & {"memory.max", "memory.limit_in_bytes"})
    processes = (
        ()
        if pids_hold or not host.is_root
        else (
            Gap(
                what="process limit",
                consequence="the agent can start any number of processes: RLIMIT_NPROC counts "
                "all processes of an id, and the id of agents started by root is shared",
                remedy="give nemoclaw a writable `pids` control group, or start it as an "
                "ordinary user",
                origin=_origin(policy, "max_processes"),
            ),
        )
    )
    weaknesses = (
        ()
        if memory_holds or not policy.process.max_memory
        else (
            Gap(
                what="memory limit of the whole sandbox",
                consequence=f"{show_size(policy.process.max_memory)} holds for each process (its "
                "private data, RLIMIT_DATA) and for each of /tmp, the home directory and /dev/shm, "
                f"not for their sum, and there may be {policy.process.max_processes} processes",
                remedy="give nemoclaw a writable `memory` control group (systemd: Delegate=memory)",
                origin=_origin(policy, "max_memory"),
            ),
        )
    )
    operations = (
        *_namespaces(host, namespaces),
        *_limits(policy, host, memory_holds=memory_holds),
        *groups,
        *_identity(policy, namespaces),
    )
    gaps = (*processes, *_gpu(policy), *unserved(policy))
    return Baseline(operations=operations, gaps=gaps, weaknesses=weaknesses)


def _gpu(policy: Policy) -> Iterator[Gap]:
    """What ``process.gpu`` promises and the host's devices, or a ``deny``, do not let be."""
    missing = gpu.missing(policy.filesystem.rules) if policy.process.gpu else ""
    if not missing:
        return
    if missing == gpu.MEMORY:
        yield Gap(
            what=f"the GPU's /dev/{missing}",
            consequence="CUDA cannot start: the driver makes this file when it is first used, "
            "and the agent cannot have it made",
            remedy="run `nvidia-modprobe -u -c 0` as root outside, once after each restart",
            origin=_origin(policy, "gpu"),
        )
        return
    yield Gap(
        what="a GPU",
        consequence="the agent finds none: there is no device file of one that it may open "
        f"({', '.join(gpu.PATTERNS)})",
        remedy="install the GPU's driver (for NVIDIA, `nvidia-smi` then lists it), or write "
        "`gpu = false`",
        origin=_origin(policy, "gpu"),
    )


def _origin(policy: Policy, key: str) -> str:
    return str(policy.process.origins.get(key) or f"process.{key} (default)")


def _namespaces(host: Host, namespaces: frozenset[str]) -> Iterator[Operation]:
    if namespaces and not host.is_root:
        yield Unshare(namespaces=("user",), origin=CORE)


def _limits(policy: Policy, host: Host, *, memory_holds: bool) -> Iterator[Operation]:
    process = policy.process
    yield Rlimit(
        resource="nofile",
        value=process.max_open_files,
        origin=_origin(policy, "max_open_files"),
    )
    # The kernel does not count processes of uid 0 against this limit (setrlimit(2)), and the id
    # that root's agents switch to is the same for all of them.
    if not host.is_root:
        yield Rlimit(
            resource="nproc",
            value=process.max_processes,
            origin=_origin(policy, "max_processes"),
        )
    if process.max_memory and not memory_holds:
        # Never RLIMIT_AS: V8 and the Go runtime reserve address space they do not use.
        yield Rlimit(
            resource="data",
            value=process.max_memory,
            origin=f"{_origin(policy, 'max_memory')} (no memory cgroup: for each process)",
        )
    yield Rlimit(resource="core", value=0, origin=CORE)
    yield Rlimit(resource="memlock", value=LOCKED_MEMORY, origin=CORE)


def _cgroups(policy: Policy, host: Host) -> tuple[JoinCgroup, ...]:
    """One group for each hierarchy: with cgroup v2 both controllers live in the same."""
    memory_file = "memory.max" if host.cgroup == "v2" else "memory.limit_in_bytes"
    asked = {
        "pids": ("max_processes", "pids.max", policy.process.max_processes),
        "memory": ("max_memory", memory_file, policy.process.max_memory),
    }
    parents = dict(host.cgroup_paths) if host.cgroup != "none" else {}
    settings: dict[str, list[tuple[str, str]]] = {}
    origins: dict[str, list[str]] = {}
    for controller, (key, file, value) in asked.items():
        if controller in parents and (value or controller == "pids"):
            settings.setdefault(parents[controller], []).append((file, str(value)))
            origins.setdefault(parents[controller], []).append(_origin(policy, key))
    return tuple(
        JoinCgroup(parent=parent, settings=tuple(files), origin=", ".join(origins[parent]))
        for parent, files in settings.items()
    )


def _identity(policy: Policy, namespaces: frozenset[str]) -> Iterator[Operation]:
    if "uts" in namespaces:
        yield Hostname(origin=CORE)
    yield SessionKeyring(origin=CORE)
    if policy.process.switch_user:
        yield SetUser(
            uid=policy.process.uid, gid=policy.process.gid, origin=_origin(policy, "user")
        )
    yield DropCapabilities(origin=CORE)
    yield NoNewPrivileges(origin=CORE)
