"""What to do about something that this host does not offer."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping

import attrs

from .answers import Answer

_SYSCTL = "/proc/sys"
_READ = (
    "kernel/unprivileged_userns_clone",
    "kernel/apparmor_restrict_unprivileged_userns",
    "user/max_user_namespaces",
    "user/max_mnt_namespaces",
    "user/max_pid_namespaces",
    "user/max_net_namespaces",
    "user/max_ipc_namespaces",
    "user/max_uts_namespaces",
    "user/max_cgroup_namespaces",
)
_LIMIT = {
    "user": "max_user_namespaces",
    "mount": "max_mnt_namespaces",
    "pid": "max_pid_namespaces",
    "network": "max_net_namespaces",
    "ipc": "max_ipc_namespaces",
    "uts": "max_uts_namespaces",
    "cgroup": "max_cgroup_namespaces",
}
_CONTAINER = (
    "if this is a container, its runtime forbids it: see docs/doctor.md on containers; else look "
    "for a security module or a system call filter that nemoclaw was started under"
)


@attrs.frozen(slots=True, kw_only=True)
class Settings:
    """What the administrator has set, as far as it decides about walls."""

    sysctls: Mapping[str, str]
    """By name as sysctl(8) writes it; those that this kernel lacks are left out."""
    security_modules: str
    """``/sys/kernel/security/lsm``; empty when it cannot be read."""

    @classmethod
    def here(cls) -> Settings:
        """Read them."""
        values = {name.replace("/", "."): _content(f"{_SYSCTL}/{name}") for name in _READ}
        return cls(
            sysctls={name: value for name, value in values.items() if value},
            security_modules=_content("/sys/kernel/security/lsm"),
        )


def _content(path: str) -> str:
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return ""


def libseccomp() -> Answer:
    """Whether the library that compiles system call filters is installed."""
    try:
        ctypes.CDLL("libseccomp.so.2")
    except OSError as error:
        return Answer(subject="libseccomp", works=False, detail=str(error))
    return Answer(subject="libseccomp", works=True, detail="libseccomp.so.2")


def remedy(answer: Answer, uid: int, settings: Settings) -> str:
    """What the reader can do so that the answer becomes another. Empty when it works."""
    if answer.works:
        return ""
    topic, _, name = answer.subject.partition(".")
    if topic == "namespace":
        return _namespace(name, answer.detail, uid, settings)
    if topic == "cgroup":
        return _cgroup(uid)
    if topic == "landlock":
        return _landlock(settings)
    return {
        "seccomp": "run a kernel with CONFIG_SECCOMP_FILTER=y. " + _CONTAINER,
        "libseccomp": "install it: `apt install libseccomp2`, `dnf install libseccomp`, "
        "`apk add libseccomp` or `pacman -S libseccomp`",
        "nftables": "load the kernel modules nf_tables, nft_chain_nat, nft_redir, nft_reject_inet "
        "and nft_ct, if namespace.network works",
        "idmapped-mounts": ""  # Nothing is lost: only root needs them.
        if uid
        else "run Linux 5.12 or newer, or give the work directory to the user that the agent runs "
        "as",
    }[topic]


def _namespace(kind: str, detail: str, uid: int, settings: Settings) -> str:
    values = settings.sysctls
    found = []
    if uid and values.get("kernel.unprivileged_userns_clone") == "0":
        found.append(_set("kernel.unprivileged_userns_clone", "1"))
    limits = (_LIMIT["user"], _LIMIT[kind]) if uid else (_LIMIT[kind],)
    for limit in dict.fromkeys(f"user.{name}" for name in limits):
        if values.get(limit) == "0":
            found.append(_set(limit, "10000"))
    if uid and values.get("kernel.apparmor_restrict_unprivileged_userns", "0") != "0":
        found.append(
            "allow the Python interpreter user namespaces in an AppArmor profile (docs/doctor.md "
            "has one), or " + _set("kernel.apparmor_restrict_unprivileged_userns", "0")
        )
    if found:
        return "; ".join(found)
    if detail.startswith("ENOSPC"):
        return "too many namespaces are in use, or nested: raise " + " or ".join(
            f"user.{name}" for name in limits
        )
    if detail.startswith("EINVAL"):
        return f"run a kernel that was built with {kind} namespaces"
    return _CONTAINER


def _set(name: str, value: str) -> str:
    return f"as root: sysctl -w {name}={value} (and write it into /etc/sysctl.d/ to keep it)"


def _landlock(settings: Settings) -> str:
    modules = settings.security_modules
    if modules and "landlock" not in modules.split(","):
        return (
            f"add `lsm=landlock,{modules}` to the kernel's command line (in /etc/default/grub, "
            "then update-grub) and restart"
        )
    return "run Linux 5.13 or newer with CONFIG_SECURITY_LANDLOCK=y. " + _CONTAINER


def _cgroup(uid: int) -> str:
    if uid == 0 and os.path.isdir("/run/systemd/system"):
        return "start it in a group that systemd delegates: systemd-run --scope -p Delegate=yes"
    if uid == 0:
        return "mount the cgroup file system writable, with the pids and memory controllers"
    return (
        "start it in a group that systemd delegates to you: systemd-run --user --scope -p "
        "Delegate=yes -- nemoclaw run ... (a service: Delegate=yes); needs the unified hierarchy"
    )
