"""What each seal operation outside the mounts does, in the process that it seals."""

from __future__ import annotations

import _socket
import errno
import fcntl
import os
import struct

from . import kernel, rights

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1
_BACKLOG = 4096
# RLIMIT_* of both architectures (getrlimit(2)).
_RLIMITS = {"data": 2, "core": 4, "nproc": 6, "nofile": 7, "memlock": 8, "msgqueue": 12}


def clone_flags(plan: dict[str, Any]) -> int:
    """The namespaces that the plan's ``unshare`` steps ask for, as clone(2) flags.

    All but the cgroup namespace, for which see :func:`.cgroups.unshare`.
    """
    flags = 0
    for step in plan["steps"]:
        if step["op"] == "unshare":
            for name in step["namespaces"]:
                flags |= kernel.CLONE_FLAGS[name]
    return flags & ~kernel.CLONE_FLAGS["cgroup"]


def has_pid_namespace(plan: dict[str, Any]) -> bool:
    """True when the kernel ends all processes of a sandbox with its init (pid_namespaces(7))."""
    return bool(clone_flags(plan) & kernel.CLONE_FLAGS["pid"])


def map_caller(uid: int, gid: int) -> None:
    """Map the caller's ids to themselves in the new user namespace (user_namespaces(7)).

    A process that is not dumpable does not own its files in proc(5): it is for a moment.
    """
    kernel.prctl(kernel.PR_SET_DUMPABLE, 1)
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{uid} {uid} 1"),
        ("gid_map", f"{gid} {gid} 1"),
    ):
        kernel.write_file(f"/proc/self/{name}", text)
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)


def link_up(step: dict[str, Any]) -> None:
    """netdevice(7): SIOCSIFFLAGS."""
    name = step["interface"].encode()
    sock = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        request = bytearray(struct.pack("16sh22x", name, 0))
        fcntl.ioctl(sock.fileno(), _SIOCGIFFLAGS, request)
        (flags,) = struct.unpack_from("h", request, 16)
        struct.pack_into("h", request, 16, flags | _IFF_UP)
        fcntl.ioctl(sock.fileno(), _SIOCSIFFLAGS, request)
    finally:
        sock.close()


_NETLINK = {"route": 0, "netfilter": 12}
_NLMSG_ERROR, _NLM_F_ACK = 2, 4
_NETLINK_OF = {"sock_diag": 4, "netfilter": 12}  # linux/netlink.h
_HEADER = struct.Struct("=IHHII")


def netlink(step: dict[str, Any]) -> None:
    """Send the messages in one write, and read one acknowledgement for each that asks for it.

    Those of nftables take effect together or not at all.
    """
    messages = list(step["messages"])
    asked = set()
    for number, message in enumerate(messages):
        length, kind, flags, _, port = _HEADER.unpack_from(message)
        messages[number] = _HEADER.pack(length, kind, flags, number, port) + message[16:]
        if flags & _NLM_F_ACK:
            asked.add(number)
    kind = _socket.SOCK_RAW | _socket.SOCK_CLOEXEC
    sock = _socket.socket(_socket.AF_NETLINK, kind, _NETLINK[step["protocol"]])
    try:
        sock.sendto(b"".join(messages), (0, 0))
        while asked:
            data = sock.recv(1 << 16)
            while data:
                length, kind, _, number, _ = _HEADER.unpack_from(data)
                if kind == _NLMSG_ERROR:
                    (result,) = struct.unpack_from("=i", data, 16)
                    if result:
                        text = step["texts"][number] if number < len(messages) else "netlink"
                        raise OSError(-result, f"{text}: {os.strerror(-result)}")
                    asked.discard(number)
                data = data[length + 3 & ~3 :]
    finally:
        sock.close()


def open_socket(step: dict[str, Any]) -> _socket.socket:
    """The socket of a ``listen`` step: bound, and listening if it is of TCP."""
    protocol = _NETLINK_OF.get(step["kind"])
    if protocol is not None:
        kind = _socket.SOCK_RAW | _socket.SOCK_CLOEXEC
        return _socket.socket(_socket.AF_NETLINK, kind, protocol)
    family = _socket.AF_INET6 if ":" in step["address"] else _socket.AF_INET
    kind = _socket.SOCK_STREAM if step["kind"] == "tcp" else _socket.SOCK_DGRAM
    sock = _socket.socket(family, kind | _socket.SOCK_CLOEXEC)
    try:
        if family == _socket.AF_INET6:
            sock.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 1)
        sock.bind((step["address"], step["port"]))
        if step["kind"] == "tcp":
            # Connections wait here until the service has been imported.
            sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def rlimit(step: dict[str, Any]) -> None:
    """Lower a limit. A caller whose own hard limit is lower already keeps that one."""
    kernel.lower_limit(_RLIMITS[step["resource"]], step["value"])


def hostname(step: dict[str, Any]) -> None:
    """sethostname(2)."""
    kernel.set_hostname(step["name"])


def session_keyring(step: dict[str, Any]) -> None:
    """keyctl(2); a kernel built without keyrings has none to hide."""
    try:
        kernel.join_session_keyring()
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise


def set_user(step: dict[str, Any]) -> None:
    """Become another id for good, keeping capabilities until ``drop_capabilities``."""
    kernel.prctl(kernel.PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setresgid(step["gid"], step["gid"], step["gid"])
    os.setresuid(step["uid"], step["uid"], step["uid"])


def drop_capabilities(step: dict[str, Any]) -> None:
    """Empty the ambient and the bounding set, then all others."""
    privileged = rights.raise_permitted_capabilities()
    kernel.prctl(rights.PR_CAP_AMBIENT, rights.PR_CAP_AMBIENT_CLEAR_ALL)
    if privileged:
        rights.empty_bounding_set()
    # An ordinary user outside of a user namespace may not: there is nothing to give up, and with
    # no_new_privs nothing that the bounding set could let a program gain.
    kernel.prctl(kernel.PR_SET_KEEPCAPS, 0)
    rights.clear_capabilities()


def no_new_privileges(step: dict[str, Any]) -> None:
    """prctl(2): nothing that is executed from here on gains a right."""
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)


def landlock_prepare(step: dict[str, Any]) -> int:
    """Build the ruleset while the launcher can still open every path; returns its descriptor."""
    ruleset = rights.landlock_ruleset(step["handled_fs"], step["handled_net"], step["scoped"])
    for rule in step["rules"]:
        path = kernel.open_path(rule["path"])
        try:
            rights.landlock_allow_path(ruleset, path, rule["access"])
        except OSError as error:
            raise OSError(error.errno, f"{rule['path']}: {error.strerror}") from None
        finally:
            os.close(path)
    for port, access in step["ports"]:
        rights.landlock_allow_port(ruleset, port, access)
    return ruleset


def seccomp_filter(step: dict[str, Any]) -> None:
    """seccomp(2)."""
    if step["architecture"] != kernel.MACHINE:
        raise OSError(errno.ENOEXEC, f"the filter is for {step['architecture']}")
    rights.seccomp_filter(step["bpf"])


OPERATIONS = {
    "link_up": link_up,
    "netlink": netlink,
    "rlimit": rlimit,
    "hostname": hostname,
    "session_keyring": session_keyring,
    "set_user": set_user,
    "drop_capabilities": drop_capabilities,
    "no_new_privileges": no_new_privileges,
    "seccomp_filter": seccomp_filter,
}
