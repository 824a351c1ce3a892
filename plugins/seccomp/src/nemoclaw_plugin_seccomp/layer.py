"""The plugin's contribution to a plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nemoclaw_hookspecs import Gap, Layer, SeccompFilter

from .filters import ARCHITECTURES, LIBRARY_MINIMUM, LibraryMissing, compile_filter
from .judge import judge, profile_name
from .problems import origin

if TYPE_CHECKING:
    from nemoclaw_hookspecs import Host, Policy


def build(policy: Policy, host: Host) -> Layer:
    """The filter of ``policy`` for ``host``, and what is missing.

    :raises PolicyError: the policy asks for a filter that makes no sense.
    """
    judgements = judge(policy, host)
    where = origin(policy, "profile")
    if not host.seccomp:
        return _without(
            "this kernel has no seccomp filters",
            "use a kernel with CONFIG_SECCOMP_FILTER=y",
            where,
        )
    if host.machine not in ARCHITECTURES:
        return _without(
            f"there is no system call profile for {host.machine}",
            f"run on {' or '.join(ARCHITECTURES)}",
            where,
        )
    try:
        program = compile_filter(judgements, host.machine, policy.syscalls.action)
    except LibraryMissing as error:
        return _without(
            f"{LIBRARY_MINIMUM} or newer is missing ({error})",
            "apt install libseccomp2, dnf install libseccomp, or apk add libseccomp",
            where,
        )
    operation = SeccompFilter(
        architecture=host.machine, bpf=program, name=profile_name(policy), origin=where
    )
    return Layer(operations=(operation,), gaps=_gaps(policy))


def _without(what: str, remedy: str, where: str) -> Layer:
    gap = Gap(
        what=what,
        consequence="the agent can make every system call: namespaces, io_uring, raw sockets, ...",
        remedy=remedy,
        origin=where,
    )
    return Layer(gaps=(gap,))


def _gaps(policy: Policy) -> tuple[Gap, ...]:
    if policy.syscalls.action != "log":
        return ()
    return (
        Gap(
            what='action = "log" refuses only what would move the walls',
            consequence="calls that the profile does not list are let through and logged: that is "
            "what it is for, on any host, and less than a strict policy promises",
            remedy='set action = "errno", and allow the calls that the kernel log names; or, while '
            'you find out which those are, compatibility = "best-effort"',
            origin=origin(policy, "action"),
        ),
    )
