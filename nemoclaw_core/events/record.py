"""What all records have in common: where they come from, and the objects that several share."""

from __future__ import annotations

import os
import time as clock
from _blake2 import blake2b

from .. import __version__
from .text import bounded, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    Record = dict[str, Any]

SCHEMA = "1.8.0"
PROFILES = ("container", "host", "security_control")

_NAMES = {
    1007: "Process Activity",
    2004: "Detection Finding",
    4001: "Network Activity",
    4002: "HTTP Activity",
    5019: "Device Config State Change",
    6002: "Application Lifecycle",
}


class Context:
    """What all events of one start have in common. Threads may share it.

    :param sandbox: its name.
    :param policy: ``FILE:NAME`` of the policy in force; empty where none was resolved.
    :param policy_digest: hexadecimal digest of what the policy says.
    :param run: identifies this start among all starts of the same name; random if empty.
    """

    __slots__ = ("_in_force", "host", "run", "sandbox")

    def __init__(
        self, sandbox: str, *, policy: str = "", policy_digest: str = "", run: str = ""
    ) -> None:
        self.sandbox = sandbox
        self._in_force = (bounded(policy), policy_digest, 1)
        self.run = run or os.urandom(8).hex()
        self.host = os.uname().nodename

    @property
    def in_force(self) -> tuple[str, str, int]:
        """The policy, its digest, and which generation of this start's policy it is, from 1."""
        return self._in_force

    def put_in_force(self, policy: str, digest: str, generation: int) -> None:
        """Another policy is in force from now on."""
        self._in_force = (bounded(policy), digest, generation)


def event(
    context: Context,
    kind: tuple[int, int, str],
    *,
    code: str,
    severity: int,
    message: str,
    time: int | None,
) -> Record:
    """The members that every record has.

    :param kind: class uid, activity id and the activity's caption.
    :param code: nemoclaw's own name of the event, for filters and for ``nemoclaw logs``.
    :param message: one line for a person; made safe to print here.
    :param time: milliseconds since the epoch; now if None.
    """
    class_uid, activity, activity_name = kind
    record: Record = {
        "time": clock.time_ns() // 1_000_000 if time is None else time,
        "message": bounded(printable(message)),
        "class_uid": class_uid,
        "class_name": _NAMES[class_uid],
        "category_uid": class_uid // 1000,
        "activity_id": activity,
        "activity_name": activity_name,
        "type_uid": class_uid * 100 + activity,
        "severity_id": severity,
        "device": {
            "type_id": 0,
            "hostname": context.host,
            "container": {"name": context.sandbox, "uid": context.run, "runtime": "nemoclaw"},
        },
        "metadata": {
            "version": SCHEMA,
            "profiles": list(PROFILES),
            "product": product_object(),
            "event_code": code,
        },
    }
    policy, digest, generation = context.in_force
    if policy:
        record["policy"] = {"name": policy, "version": str(generation)}
        if digest:
            record["policy"]["uid"] = digest
    return record


def product_object() -> Record:
    """nemoclaw as a product (OCSF object ``product``)."""
    return {"name": "nemoclaw", "vendor_name": "nemoclaw", "version": __version__}


def actor_object() -> Record:
    """Who acted: this process of nemoclaw, and its user."""
    return {
        "process": {"name": "nemoclaw", "pid": os.getpid()},
        "user": {"uid": str(os.getuid())},
    }


def process_object(
    context: Context, argv: Sequence[str], *, pid: int | None = None, uid: int | None = None
) -> Record:
    """The command as a process. ``pid`` None: it was never started."""
    program = argv[0] if argv else ""
    name = bounded(program.rpartition("/")[2] or program)
    file: Record = {"name": name, "type_id": 1}
    if program.startswith("/"):
        file["path"] = bounded(program)
    process: Record = {"name": name, "file": file, "sandbox": context.sandbox}
    if pid is None:
        process["uid"] = context.run  # it never was: this start's own number stands for it
    else:
        process["pid"] = pid
        process["uid"] = f"{context.run}:{pid}"
    if uid is not None:
        process["user"] = {"uid": str(uid)}
    return process


def finding_object(kind: str, identity: tuple[str, ...], title: str, description: str) -> Record:
    """A finding whose uid is the same for the same ``identity``, on any machine."""
    digest = blake2b("\0".join(identity).encode("utf-8", "backslashreplace"), digest_size=8)
    return {
        "uid": f"nemoclaw-{kind}-{digest.hexdigest()}",
        "title": bounded(title),
        "desc": bounded(description),
    }
