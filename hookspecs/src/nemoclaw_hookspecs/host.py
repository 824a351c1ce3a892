"""What this kernel and this user can do: facts that plan hooks may depend on."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import attrs

NAMESPACES = ("user", "mount", "pid", "network", "ipc", "uts", "cgroup")


def _kinds(names: Iterable[str]) -> frozenset[str]:
    # Typed, because mypy cannot infer the parameter of a converter that is a generic class.
    return frozenset(names)


@attrs.frozen(slots=True, kw_only=True)
class Host:
    """Facts about the machine, probed once and passed to every hook that builds a plan.

    Hooks depend on these values alone, so a test can ask what happens on another machine by
    passing other facts.
    """

    machine: str
    """``os.uname().machine``: ``x86_64`` or ``aarch64``."""
    kernel: str
    """``os.uname().release``."""
    uid: int
    gid: int
    landlock_abi: int
    """Version that ``landlock_create_ruleset`` reports; 0 when Landlock is absent or disabled."""
    namespaces: frozenset[str] = attrs.field(converter=_kinds)
    """Kinds, out of :data:`NAMESPACES`, that this user can create, by way of a user namespace
    where one is needed. Empty where user namespaces are forbidden and the caller is not root."""
    seccomp: bool
    idmapped_mounts: bool
    """True when this user can create ID-mapped mounts (root, Linux >= 5.12)."""
    cgroup: str
    """``v2``, ``v1`` or ``none``: which cgroup hierarchy this user may create groups in."""
    cgroup_paths: tuple[tuple[str, str], ...] = ()
    """Writable parent group for each controller: ``(("pids", "/sys/fs/cgroup/pids"), ...)``."""
    merged_usr: bool = True
    nftables: bool = True
    """True when a network namespace of this user's can redirect and refuse with nftables."""
    ca_bundle: str = ""
    """File of the certificate authorities that this host's programs trust; empty = none known."""

    @property
    def view(self) -> bool:
        """True when a sandbox can have a view of the file system of its own.

        It takes a mount namespace, and a PID namespace for the /proc in it. Where either is
        missing there is no view at all, and none of the namespaces that come with one.
        """
        return {"mount", "pid"} <= self.namespaces

    def made_by(self, plugins: Collection[str]) -> frozenset[str]:
        """Kinds of namespaces that a sandbox has here, when these plugins are enabled."""
        made = set(self.namespaces & {"network"}) if "netns" in plugins else set()
        if self.view and "mounts" in plugins:
            made |= self.namespaces & {"mount", "pid", "ipc", "uts", "cgroup"}
        return frozenset(made)

    @property
    def is_root(self) -> bool:
        """True when the caller is uid 0 of the initial user namespace."""
        return self.uid == 0
