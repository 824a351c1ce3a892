"""Seal operations: everything that may happen between fork and exec, as data.

A plan is an ordered list of these values. Plugins return them, the core orders them by phase and
checks them, and a small interpreter that knows nothing else executes them. No plugin code ever
runs in the process that becomes the agent.

The set is closed. An operation that is not listed here cannot be part of a plan.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import attrs

Phase = Literal[
    "namespaces", "mounts", "network", "resources", "identity", "landlock", "seccomp", "exec"
]
PHASES: tuple[Phase, ...] = (
    "namespaces",
    "mounts",
    "network",
    "resources",
    "identity",
    "landlock",
    "seccomp",
    "exec",
)


@attrs.frozen(slots=True, kw_only=True)
class Operation:
    """Base of all seal operations. ``origin`` names the policy line that it came from."""

    phase: ClassVar[Phase]
    origin: str = ""


@attrs.frozen(slots=True, kw_only=True)
class Unshare(Operation):
    """Create namespaces (namespaces(7)). Operations of several plugins unite into one clone(2)."""

    phase = "namespaces"
    namespaces: tuple[str, ...]


@attrs.frozen(slots=True, kw_only=True)
class BindMount(Operation):
    """Show ``source`` of the host at ``target`` of the view (open_tree(2), move_mount(2)).

    ``source`` is opened without following any symbolic link: a path that became a link since the
    policy was resolved stops the spawn.
    """

    phase = "mounts"
    source: str
    target: str
    kind: Literal["directory", "file", "device", "socket"]
    read_only: bool = True
    owner: tuple[int, int] | None = None
    """Host (uid, gid) that shall appear as the agent's own id: an ID-mapped mount. None = as is."""


@attrs.frozen(slots=True, kw_only=True)
class Tmpfs(Operation):
    """An empty private directory (tmpfs(5)). ``size`` in bytes, 0 = the kernel's default."""

    phase = "mounts"
    target: str
    size: int = 0
    mode: int = 0o755
    read_only: bool = False


@attrs.frozen(slots=True, kw_only=True)
class Directory(Operation):
    """An empty directory of the view's own root. Belongs to nobody inside."""

    phase = "mounts"
    target: str


@attrs.frozen(slots=True, kw_only=True)
class Symlink(Operation):
    """A symbolic link at ``target`` of the view with the text ``text``."""

    phase = "mounts"
    target: str
    text: str


@attrs.frozen(slots=True, kw_only=True)
class FileMount(Operation):
    """A read-only file with the given content at ``target`` of the view."""

    phase = "mounts"
    target: str
    content: str = ""
    generated: Literal["", "authorities"] = ""
    """``authorities``: the content is made at each start. It is the host's file of that name, with
    the certificate of the sandbox's own authority (see :attr:`Layer.authority`) added to it."""
    optional: bool = False
    """It is there to cover what the host has: where the view shows a directory of the host's that
    holds nothing of that name, there is nothing to cover."""


@attrs.frozen(slots=True, kw_only=True)
class Mask(Operation):
    """Hide what is at ``target``: a directory is covered by an empty read-only one, a file by one
    that nobody can open.

    ``missing`` says that nothing was there: the launcher then makes an empty directory of that
    name on the host as the mount's anchor, and removes it again when the sandbox ends.
    """

    phase = "mounts"
    target: str
    kind: Literal["directory", "file", "missing"]


@attrs.frozen(slots=True, kw_only=True)
class Proc(Operation):
    """A proc(5) of the sandbox's own PID namespace, mounted read-only."""

    phase = "mounts"
    target: str = "/proc"
    masked: tuple[str, ...] = ()
    """Names below ``target`` that are covered by an empty file."""


@attrs.frozen(slots=True, kw_only=True)
class Devices(Operation):
    """A minimal /dev: the named device files of the host, pts, shm, and the usual links."""

    phase = "mounts"
    target: str = "/dev"
    names: tuple[str, ...] = ("null", "zero", "full", "random", "urandom", "tty")
    shm_size: int = 0


@attrs.frozen(slots=True, kw_only=True)
class EnterView(Operation):
    """Make the assembled view the root (pivot_root(2)) and drop every other mount."""

    phase = "mounts"


@attrs.frozen(slots=True, kw_only=True)
class LinkUp(Operation):
    """Bring a network interface of the new network namespace up."""

    phase = "network"
    interface: str = "lo"


@attrs.frozen(slots=True, kw_only=True)
class Netlink(Operation):
    """Configure the new network namespace by netlink(7) messages, sent as they are.

    A layer encodes them when the plan is compiled, with whatever library it likes; the launcher
    sends them and wants each one acknowledged.
    """

    phase = "network"
    protocol: Literal["route", "netfilter"]
    messages: tuple[bytes, ...]
    """Whole messages, header included. Those of nftables form one transaction."""
    texts: tuple[str, ...]
    """What each message does, for people, in the words of ip(8) and nft(8)."""


@attrs.frozen(slots=True, kw_only=True)
class Listen(Operation):
    """A socket that is born in the network namespace and held outside, by the supervisor.

    A socket stays in the namespace that it was born in (network_namespaces(7)): the agent connects
    to it as to a program of its own, and what serves it is out of the agent's reach.
    """

    phase = "network"
    name: str
    """What the network service knows it by."""
    kind: Literal["tcp", "udp", "sock_diag", "netfilter"]
    """``sock_diag``: a socket of NETLINK_SOCK_DIAG, to look up who owns a connection.
    ``netfilter``: one of NETLINK_NETFILTER, to look up how one was redirected."""
    address: str = ""
    port: int = 0


@attrs.frozen(slots=True, kw_only=True)
class Rlimit(Operation):
    """A resource limit, soft and hard alike (getrlimit(2)): ``nofile``, ``nproc``, ``core``..."""

    phase = "resources"
    resource: Literal["nofile", "nproc", "core", "data", "memlock", "msgqueue"]
    value: int


@attrs.frozen(slots=True, kw_only=True)
class JoinCgroup(Operation):
    """A control group of the sandbox's own (cgroups(7)), removed when the sandbox ends."""

    phase = "resources"
    parent: str
    """Existing directory of the hierarchy; the group is made below it, named after the sandbox."""
    settings: tuple[tuple[str, str], ...]
    """Files of the group and what is written to them, for instance ``("pids.max", "512")``."""


@attrs.frozen(slots=True, kw_only=True)
class Hostname(Operation):
    """The host name inside the UTS namespace."""

    phase = "identity"
    name: str = "nemoclaw"


@attrs.frozen(slots=True, kw_only=True)
class SessionKeyring(Operation):
    """Join a new, empty session keyring: none of the caller's keys is possessed (keyrings(7))."""

    phase = "identity"


@attrs.frozen(slots=True, kw_only=True)
class SetUser(Operation):
    """Become ``uid``/``gid`` without supplementary groups. Only for a caller who is root."""

    phase = "identity"
    uid: int
    gid: int


@attrs.frozen(slots=True, kw_only=True)
class DropCapabilities(Operation):
    """Empty all capability sets and the bounding set (capabilities(7))."""

    phase = "identity"


@attrs.frozen(slots=True, kw_only=True)
class NoNewPrivileges(Operation):
    """Set no_new_privs, and make the sandbox's init not dumpable (prctl(2))."""

    phase = "identity"


@attrs.frozen(slots=True, kw_only=True)
class LandlockRule:
    """Rights below one path of the view: LANDLOCK_ACCESS_FS_* bits."""

    path: str
    access: int
    origin: str = ""


@attrs.frozen(slots=True, kw_only=True)
class LandlockRuleset(Operation):
    """One Landlock layer (landlock(7)). What is handled and not granted by a rule is denied."""

    phase = "landlock"
    handled_fs: int
    handled_net: int = 0
    scoped: int = 0
    restrict_flags: int = 0
    rules: tuple[LandlockRule, ...] = ()
    ports: tuple[tuple[int, int], ...] = ()
    """``(port, LANDLOCK_ACCESS_NET_* bits)``."""


@attrs.frozen(slots=True, kw_only=True)
class SeccompFilter(Operation):
    """One seccomp filter (seccomp(2)): classic BPF, instructions of 8 bytes in host order."""

    phase = "seccomp"
    architecture: str
    bpf: bytes
    name: str = "agent"


OPERATIONS: tuple[type[Operation], ...] = (
    Unshare,
    BindMount,
    Tmpfs,
    Directory,
    Symlink,
    FileMount,
    Mask,
    Proc,
    Devices,
    EnterView,
    LinkUp,
    Netlink,
    Listen,
    Rlimit,
    JoinCgroup,
    Hostname,
    SessionKeyring,
    SetUser,
    DropCapabilities,
    NoNewPrivileges,
    LandlockRuleset,
    SeccompFilter,
)


@attrs.frozen(slots=True, kw_only=True)
class Gap:
    """Something that the policy asks for and this host cannot enforce.

    In a ``strict`` policy a gap of any layer stops the spawn. In a ``best-effort`` policy it is
    printed and logged each time.
    """

    what: str
    consequence: str
    remedy: str
    origin: str = ""


@attrs.frozen(slots=True, kw_only=True)
class Layer:
    """What one plugin contributes to the plan.

    :param operations: what to do, in any order; the core sorts by phase and keeps the order
        within a phase.
    :param gaps: what this plugin would need and the host lacks. Empty = the layer is whole.
    :param notes: what is told at each start although the layer is whole: that the agent has less
        here than the policy would give it. A sentence each, without a full stop.
    :param service: ``MODULE:FUNCTION`` in the plugin's own package, which makes the
        :class:`~nemoclaw_hookspecs.NetworkService` that serves what its ``Listen`` operations open.
    :param authority: ``MODULE:FUNCTION`` likewise, which makes a sandbox's own certificate
        authority: an object with its certificate, PEM, as ``ca_certificate``. The service gets it.
    :param environment: variables that tell programs of what the layer offers, of a proxy say. What
        the policy sets wins.
    """

    operations: tuple[Operation, ...] = ()
    gaps: tuple[Gap, ...] = ()
    notes: tuple[str, ...] = ()
    service: str = ""
    authority: str = ""
    environment: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def status(self) -> Literal["full", "partial", "none"]:
        """``full`` without gaps, ``partial`` with operations and gaps, else ``none``."""
        if not self.gaps:
            return "full"
        return "partial" if self.operations else "none"
