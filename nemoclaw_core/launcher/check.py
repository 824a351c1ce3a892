"""Is this a plan? Checked by the launcher itself, whoever made it, before anything is done.

The table below is the whole language that the launcher understands. It stands apart from the attrs
classes in ``nemoclaw_hookspecs.seal`` on purpose: the launcher trusts no import of theirs. A test
compares the two.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PHASES = (
    "namespaces", "mounts", "network", "resources", "identity", "landlock", "seccomp",
)  # fmt: skip
_NAMESPACES = ("user", "mount", "pid", "network", "ipc", "uts", "cgroup")
_RLIMITS = ("nofile", "nproc", "core", "data", "memlock", "msgqueue")
_MAX_STEPS = 4096


class Malformed(ValueError):
    """The launcher was handed something that is not a plan."""


def _integer(value: Any) -> bool:
    # bool is an int in Python, and not in a plan.
    return type(value) is int and -1 <= value < 1 << 64


def _text(value: Any) -> bool:
    return type(value) is str and len(value) < 1 << 20 and "\0" not in value


def _flag(value: Any) -> bool:
    return type(value) is bool


def _path(value: Any) -> bool:
    """Absolute and normal: no empty, ``.`` or ``..`` segments."""
    if not _text(value) or not value.startswith("/") or len(value) > 4096:
        return False
    return value == "/" or all(part not in ("", ".", "..") for part in value[1:].split("/"))


def _inside(value: Any) -> bool:
    return _path(value) and value != "/"


def _name(value: Any) -> bool:
    return _text(value) and value not in ("", ".", "..") and "/" not in value


def _one_of(*choices: str) -> Any:
    return lambda value: type(value) is str and value in choices


def _list_of(test: Any) -> Any:
    return lambda value: type(value) is list and len(value) < 1 << 16 and all(map(test, value))


def _ids(value: Any) -> bool:
    return value is None or (type(value) is list and len(value) == 2 and all(map(_id, value)))


def _id(value: Any) -> bool:
    return _integer(value) and 0 <= value < (1 << 32) - 1


def _mask_target(value: Any) -> bool:
    return _text(value) and all(_name(part) for part in value.split("/"))


def _setting(value: Any) -> bool:
    return type(value) is list and len(value) == 2 and _name(value[0]) and _text(value[1])


def _port_number(value: Any) -> bool:
    return _integer(value) and 0 <= value < 65536


def _port(value: Any) -> bool:
    return (
        type(value) is list and len(value) == 2 and all(map(_integer, value)) and value[0] < 65536
    )


def _rule(value: Any) -> bool:
    return (
        type(value) is dict
        and set(value) == {"path", "access", "origin"}
        and _path(value["path"])
        and _integer(value["access"])
        and value["access"] > 0
        and _text(value["origin"])
    )


def _netlink(value: Any) -> bool:
    """A whole message: its header tells its own length (netlink(7))."""
    return (
        type(value) is bytes
        and 16 <= len(value) <= 1 << 16
        and (int.from_bytes(value[:4], sys.byteorder) == len(value) and len(value) % 4 == 0)
    )


def _bpf(value: Any) -> bool:
    return type(value) is bytes and 0 < len(value) <= 8 * 4096 and len(value) % 8 == 0


OPERATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "unshare": ("namespaces", {"namespaces": _list_of(_one_of(*_NAMESPACES))}),
    "bind_mount": (
        "mounts",
        {
            "source": _inside,
            "target": _inside,
            "kind": _one_of("directory", "file", "device", "socket"),
            "read_only": _flag,
            "owner": _ids,
        },
    ),
    "tmpfs": (
        "mounts",
        {"target": _inside, "size": _integer, "mode": _integer, "read_only": _flag},
    ),
    "directory": ("mounts", {"target": _inside}),
    "symlink": ("mounts", {"target": _inside, "text": _text}),
    # What is generated was put into `content` before the plan came here.
    "file_mount": (
        "mounts",
        {"target": _inside, "content": _text, "generated": _one_of(""), "optional": _flag},
    ),
    "mask": ("mounts", {"target": _inside, "kind": _one_of("directory", "file", "missing")}),
    "proc": ("mounts", {"target": _inside, "masked": _list_of(_mask_target)}),
    "devices": (
        "mounts",
        {"target": _inside, "names": _list_of(_name), "shm_size": _integer},
    ),
    "enter_view": ("mounts", {}),
    "link_up": ("network", {"interface": _name}),
    "netlink": (
        "network",
        {
            "protocol": _one_of("route", "netfilter"),
            "messages": _list_of(_netlink),
            "texts": _list_of(_text),
        },
    ),
    "listen": (
        "network",
        {
            "name": _name,
            "kind": _one_of("tcp", "udp", "sock_diag", "netfilter"),
            "address": _text,
            "port": _port_number,
        },
    ),
    "rlimit": ("resources", {"resource": _one_of(*_RLIMITS), "value": _integer}),
    "join_cgroup": ("resources", {"parent": _inside, "settings": _list_of(_setting)}),
    "hostname": ("identity", {"name": _name}),
    "session_keyring": ("identity", {}),
    "set_user": ("identity", {"uid": _id, "gid": _id}),
    "drop_capabilities": ("identity", {}),
    "no_new_privileges": ("identity", {}),
    "landlock_ruleset": (
        "landlock",
        {
            "handled_fs": _integer,
            "handled_net": _integer,
            "scoped": _integer,
            "restrict_flags": _integer,
            "rules": _list_of(_rule),
            "ports": _list_of(_port),
        },
    ),
    "seccomp_filter": ("seccomp", {"architecture": _name, "bpf": _bpf, "name": _name}),
}
_COMMON = {"op", "plugin", "origin"}


def check_plan(plan: Any) -> None:
    """Accept a plan, or say what is wrong with it.

    :raises Malformed: unknown operation, missing, unknown or ill-typed field, wrong phase order,
        a view that is built and never entered, mounts without a namespace of their own.
    """
    if type(plan) is not dict or type(plan.get("steps")) is not list:
        raise Malformed("a plan is a table with a list of steps")
    steps = plan["steps"]
    if len(steps) > _MAX_STEPS:
        raise Malformed(f"a plan has at most {_MAX_STEPS} steps")
    last = 0
    for index, step in enumerate(steps):
        try:
            last = _check_step(step, last)
        except Malformed as error:
            raise Malformed(f"step {index}: {error}") from None
    _check_whole(steps)


def _check_step(step: Any, last: int) -> int:
    if type(step) is not dict or type(step.get("op")) is not str:
        raise Malformed("a step is a table with an `op`")
    known = OPERATIONS.get(step["op"])
    if known is None:
        raise Malformed(f"there is no operation {step['op']!r}")
    phase, fields = known
    if set(step) != _COMMON | set(fields):
        wrong = sorted(map(repr, set(step) ^ (_COMMON | set(fields))))
        raise Malformed(f"{step['op']}: unknown or missing fields {', '.join(wrong)}")
    for name in ("plugin", "origin"):
        if not _text(step[name]):
            raise Malformed(f"{step['op']}.{name} is not a text")
    for name, test in fields.items():
        if not test(step[name]):
            raise Malformed(f"{step['op']}.{name} has an impossible value")
    order = PHASES.index(phase)
    if order < last:
        raise Malformed(f"{step['op']} comes after a step of a later phase")
    return order


def _check_whole(steps: list[dict[str, Any]]) -> None:
    operations = [step["op"] for step in steps]
    mounts = [step for step in steps if OPERATIONS[step["op"]][0] == "mounts"]
    spaces = {name for step in steps if step["op"] == "unshare" for name in step["namespaces"]}
    if mounts and "mount" not in spaces:
        raise Malformed("mounts need a mount namespace")
    if mounts and (mounts[-1]["op"] != "enter_view" or operations.count("enter_view") != 1):
        raise Malformed("the mounts must end with one enter_view")
    if "proc" in operations and "pid" not in spaces:
        raise Malformed("proc needs a PID namespace")
    for step in steps:
        if OPERATIONS[step["op"]][0] == "network" and "network" not in spaces:
            raise Malformed(f"{step['op']} needs a network namespace")
        if step["op"] == "netlink" and len(step["texts"]) != len(step["messages"]):
            raise Malformed("netlink: every message needs its text")
    names = [step["name"] for step in steps if step["op"] == "listen"]
    if len(set(names)) != len(names):
        raise Malformed("listen: two sockets have the same name")
    if "hostname" in operations and "uts" not in spaces:
        raise Malformed("hostname needs a UTS namespace")
    for once in ("set_user", "proc", "devices", "no_new_privileges"):
        if operations.count(once) > 1:
            raise Malformed(f"{once} stands twice")
    sealed = "landlock_ruleset" in operations or "seccomp_filter" in operations
    sealed = sealed or "drop_capabilities" in operations
    if sealed and "no_new_privileges" not in operations:
        raise Malformed("Landlock, seccomp and drop_capabilities need no_new_privileges")
