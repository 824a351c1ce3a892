"""What an older Landlock cannot do, said for people: one gap for each right that is missing."""

from __future__ import annotations

import attrs
from nemoclaw_hookspecs import Gap

from .rights import KERNELS


@attrs.frozen(slots=True, kw_only=True)
class _Missing:
    abi: int
    what: str
    alone: str
    """What follows where Landlock is the only wall."""
    beside: str
    """What follows where the namespace ``wall`` stands beside it."""
    wall: str


# ABI 7 is not here: it adds audit records, and no wall. ABI 9 and 10 (sockets by path, UDP) are not
# either: they double what the mount view, the network namespace and seccomp enforce everywhere.
_TABLE = (
    _Missing(
        abi=2,
        what="moving files between directories",
        alone="the kernel refuses every rename and link from one directory to another, also where "
        "the policy grants both; git, npm and compilers will fail",
        beside="the kernel refuses every rename and link from one directory to another, also where "
        "the policy grants both; git, npm and compilers will fail",
        wall="mount",
    ),
    _Missing(
        abi=3,
        what="a limit on truncating files",
        alone="the agent can empty any file that its user may write, also outside the policy",
        beside="only the mounts keep the agent from emptying files that it may read: one wall "
        "where there should be two",
        wall="mount",
    ),
    _Missing(
        abi=5,
        what="a limit on device control (ioctl)",
        alone="the agent can send control commands to any device that it can open",
        beside="the agent can send control commands to any device that the policy lets it read",
        wall="mount",
    ),
    _Missing(
        abi=6,
        what="a limit on abstract UNIX sockets",
        alone="the agent can connect to abstract UNIX sockets of processes outside (X11, D-Bus)",
        beside="only the network namespace keeps the agent from abstract UNIX sockets outside: one "
        "wall where there should be two",
        wall="network",
    ),
    _Missing(
        abi=6,
        what="a limit on signals",
        alone="the agent can send signals to any process of its user, and stop or kill it",
        beside="only the PID namespace keeps the agent from signalling processes outside; a shared "
        "process group or terminal is not covered by it",
        wall="pid",
    ),
)


def missing_rights(abi: int, walls: frozenset[str], origin: str) -> tuple[Gap, ...]:
    """Gaps of this ABI version.

    :param walls: kinds of namespaces that will be made.
    """
    return tuple(
        Gap(
            what=f"{each.what}: Landlock ABI {each.abi}, this kernel has {abi}",
            consequence=each.beside if each.wall in walls else each.alone,
            remedy=f"run Linux {KERNELS[each.abi]} or newer",
            origin=origin,
        )
        for each in _TABLE
        if abi < each.abi
    )


def no_landlock(origin: str) -> Gap:
    """The gap of a host without Landlock."""
    return Gap(
        what="Landlock: this kernel does not offer it",
        consequence="no path is guarded by Landlock: files, signals and abstract sockets have one "
        "wall less, or none where namespaces are missing too",
        remedy=f"run Linux {KERNELS[1]} or newer with CONFIG_SECURITY_LANDLOCK=y, and list "
        "`landlock` in the `lsm=` boot parameter (/sys/kernel/security/lsm shows what is on)",
        origin=origin,
    )


def open_network(abi: int, handled: bool, origin: str) -> Gap:
    """The gap of a host, or a policy, without a network namespace of the sandbox's own."""
    if handled:
        covered = "TCP and UDP" if abi >= 10 else "binding and connecting TCP sockets"
        return Gap(
            what="network protocols beyond what Landlock knows",
            consequence=f"without a network namespace Landlock refuses {covered}, and nothing "
            "else: MPTCP, TCP Fast Open, "
            + ("" if abi >= 10 else "UDP, ")
            + "ICMP, netlink and raw sockets are left to the system call filter",
            remedy="allow network namespaces on this host (`nemoclaw doctor` says how), and list "
            "`netns` in plugins.enable",
            origin=origin,
        )
    return Gap(
        what=f"a limit on the network: Landlock ABI 4, this kernel has {abi}",
        consequence="without a network namespace nothing but the system call filter keeps the "
        "agent from the network",
        remedy=f"allow network namespaces on this host (`nemoclaw doctor` says how), or run Linux "
        f"{KERNELS[4]} or newer",
        origin=origin,
    )
