"""Policies and hosts to test with: valid ones, of which a test names only what it is about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import attrs
from nemoclaw_hookspecs import (
    NAMESPACES,
    FilesystemPolicy,
    Host,
    InferencePolicy,
    NetworkPolicy,
    Origin,
    PathRule,
    PluginPolicy,
    Policy,
    ProcessPolicy,
    SyscallPolicy,
)

Table = Mapping[str, Any]


def make_rule(
    path: str,
    access: Literal["read", "write", "deny"] = "read",
    kind: Literal["directory", "file", "device", "socket", "missing"] = "directory",
    *,
    uid: int = 1000,
    gid: int = 1000,
    line: int = 1,
) -> PathRule:
    """A path rule as the policy reader resolves it; ``line`` shows up in errors and gaps."""
    return PathRule(
        path=path,
        access=access,
        kind=kind,
        uid=-1 if kind == "missing" else uid,
        gid=-1 if kind == "missing" else gid,
        origin=Origin(file="policies.toml", line=line, key=f"filesystem.{access}[0]"),
    )


def make_policy(
    *,
    name: str = "test",
    compatibility: Literal["strict", "best-effort"] = "strict",
    filesystem: Table | None = None,
    process: Table | None = None,
    syscalls: Table | None = None,
    network: Table | None = None,
    inference: Table | None = None,
    plugins: Table | None = None,
) -> Policy:
    """A valid policy. Each table holds the fields that differ from the defaults here.

    By default the agent reads ``/usr``, ``/etc`` and ``/home/agent/work/vendor``, writes in
    ``/home/agent/work``, and is denied a directory, a file and a missing path.
    """
    work = "/home/agent/work"
    return Policy(
        name=name,
        file="policies.toml",
        compatibility=compatibility,
        filesystem=attrs.evolve(
            FilesystemPolicy(
                rules=(
                    make_rule("/usr", uid=0, gid=0, line=3),
                    make_rule("/etc", uid=0, gid=0, line=3),
                    make_rule(f"{work}/vendor", line=3),
                    make_rule(work, "write", line=4),
                    make_rule("/etc/ssh", "deny", uid=0, gid=0, line=5),
                    make_rule(f"{work}/.env", "deny", "file", line=5),
                    make_rule(f"{work}/.git/hooks", "deny", "missing", line=5),
                ),
                workdir=work,
                home="/home/agent",
            ),
            **(filesystem or {}),
        ),
        process=attrs.evolve(
            ProcessPolicy(
                uid=1000,
                gid=1000,
                switch_user=False,
                max_processes=512,
                max_memory=4 << 30,
                max_open_files=4096,
                timeout=0.0,
                environment_pass=("LANG", "TERM"),
                environment_set={"CI": "1"},
            ),
            **(process or {}),
        ),
        syscalls=attrs.evolve(SyscallPolicy(), **(syscalls or {})),
        network=attrs.evolve(NetworkPolicy(), **(network or {})),
        inference=attrs.evolve(InferencePolicy(), **(inference or {})),
        plugins=attrs.evolve(PluginPolicy(), **(plugins or {})),
    )


def make_host(**changes: Any) -> Host:
    """A host on which an ordinary user can do everything, or differs as the arguments say."""
    return attrs.evolve(
        Host(
            machine="x86_64",
            kernel="6.18.0",
            uid=1000,
            gid=1000,
            landlock_abi=7,
            namespaces=frozenset(NAMESPACES),
            seccomp=True,
            idmapped_mounts=False,
            cgroup="none",
        ),
        **changes,
    )


def _hosts() -> tuple[Host, ...]:
    """Every Landlock ABI with and without namespaces, users and machines alternating."""
    machines = ("x86_64", "aarch64")
    found: list[Host] = []
    every: frozenset[str] = frozenset(NAMESPACES)
    none: frozenset[str] = frozenset()
    for abi in range(8):
        for index, namespaces in enumerate((every, none)):
            root = (abi + index) % 2 == 0
            found.append(
                make_host(
                    machine=machines[(abi // 2 + index) % 2],
                    uid=0 if root else 1000,
                    gid=0 if root else 1000,
                    landlock_abi=abi,
                    namespaces=namespaces,
                    idmapped_mounts=root and bool(namespaces),
                )
            )
    for machine in machines:
        for uid in (0, 1000):
            found.append(
                make_host(
                    machine=machine,
                    uid=uid,
                    gid=uid,
                    landlock_abi=0,
                    namespaces=none,
                    seccomp=False,
                )
            )
    for kind in NAMESPACES:
        found.append(make_host(namespaces=every - {kind}))
    return tuple(found)


HOSTS: tuple[Host, ...] = _hosts()
"""Machines that a layer must have an answer for, from one that has nothing to one that has all."""
