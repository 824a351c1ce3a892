"""What each event says: one function an event, giving an OCSF 1.8.0 record as plain values.

Classes and fields follow https://schema.ocsf.io/1.8.0/ with the profiles ``container``, ``host``
and ``security_control``. Severity: 1 what went as planned, 3 what was refused or cut short, 4 what
somebody should look at. No function takes text that may hold a secret: of a command line only the
first word and the number of the others are recorded, of a plugin's exception only its class.
"""

from __future__ import annotations

from nemoclaw_core import __version__

from .record import (
    Context,
    actor_object,
    event,
    finding_object,
    process_object,
    product_object,
)
from .text import bounded
from .wording import SIGSYS, command, count, refusal, signal_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    from nemoclaw_hookspecs.errors import NemoclawError

    from .record import Record

    Role = Literal["agent", "exec"]

__all__ = [
    "ENDINGS",
    "Context",
    "gap_left",
    "layer_applied",
    "log_damaged",
    "nemoclaw_started",
    "nemoclaw_stopped",
    "plugin_failed",
    "process_ended",
    "process_launched",
    "sandbox_refused",
    "view_uncovered",
]

INFORMATIONAL, MEDIUM, HIGH = 1, 3, 4

ENDINGS = frozenset(
    {
        "log-damaged",
        "nemoclaw-stopped",
        "plugin-failed",
        "process-ended",
        "sandbox-refused",
        "view-uncovered",
    }
)
"""Codes of events that tell what has happened already. The log keeps room for these alone when the
disk is full; what an event of any other code tells of is then not done."""


def process_launched(
    context: Context,
    *,
    argv: Sequence[str],
    pid: int,
    uid: int,
    workdir: str = "",
    role: Role = "agent",
    time: int | None = None,
) -> Record:
    """The agent (or, with role ``exec``, another command inside its walls) is about to run.

    Whether it could be executed is known only later: a ``sandbox_refused`` tells when it could not.

    :param argv: the command; only ``argv[0]`` and the number of arguments are recorded.
    :param pid: its process id in the caller's PID namespace.
    :param uid: the host's user id that it runs as.
    :param time: milliseconds since the epoch; now if None.
    """
    process = process_object(context, argv, pid=pid, uid=uid)
    if workdir:
        process["working_directory"] = bounded(workdir)
    record = event(
        context,
        (1007, 1, "Launch"),
        code="process-launched",
        severity=INFORMATIONAL,
        message=f"starting {command(argv)}{_under(context, role)}",
        time=time,
    )
    return record | {
        "action_id": 1,
        "disposition_id": 1,
        "status_id": 0,
        "actor": actor_object(),
        "process": process,
        "unmapped": {"role": role, "arguments": max(0, len(argv) - 1)},
    }


def process_ended(
    context: Context,
    *,
    argv: Sequence[str],
    pid: int,
    code: int | None,
    signal: int | None,
    reason: str,
    duration: float,
    memory_kills: int = 0,
    role: Role = "agent",
    time: int | None = None,
) -> Record:
    """The agent (or a command beside it) is gone.

    :param code: exit status, or None when a signal ended it.
    :param signal: number of the signal that ended it, or None.
    :param reason: as in :class:`nemoclaw_hookspecs.ExitStatus`: exited, signaled, timeout, stopped
        or failed.
    :param duration: seconds since it was launched.
    :param memory_kills: processes of the sandbox that the kernel ended for its memory limit.
    """
    how = signal_name(signal) if signal is not None else f"status {code}"
    verb = {"timeout": "ran out of time", "stopped": "was stopped", "failed": "failed"}.get(
        reason, "ended"
    )
    severity = MEDIUM if reason in ("timeout", "failed") or memory_kills else INFORMATIONAL
    limit = "; the sandbox reached its memory limit" if memory_kills else ""
    if signal == SIGSYS:
        severity = HIGH  # the system call filter killed it
    record = event(
        context,
        (1007, 2, "Terminate"),
        code="process-ended",
        severity=severity,
        message=f"{command(argv)} {verb} with {how} after {duration:.1f} s{limit}",
        time=time,
    )
    record |= {
        "actor": actor_object(),
        "duration": max(0, round(duration * 1000)),
        "process": process_object(context, argv, pid=pid),
        "status_id": 1 if code == 0 and reason == "exited" else 2,
        "status_code": signal_name(signal) if signal is not None else str(code),
        "status_detail": f"{reason}{limit}",
        "unmapped": {"role": role},
    }
    if memory_kills:
        record["unmapped"]["memory_kills"] = memory_kills
    if code is not None:
        record["exit_code"] = code
    if signal is not None:
        record["unmapped"]["signal"] = signal
    return record


def sandbox_refused(
    context: Context,
    *,
    argv: Sequence[str],
    error: NemoclawError,
    role: Role = "agent",
    time: int | None = None,
) -> Record:
    """nemoclaw did not start the command, and why.

    The errors of the contract hold no secret. What a plugin raised beside them may hold one, and
    is recorded by its class alone.
    """
    what = refusal(error)
    headline = what.partition("\n")[0]
    record = event(
        context,
        (1007, 1, "Launch"),
        code="sandbox-refused",
        severity=MEDIUM,
        message=f"refused to start {command(argv)}: {headline}",
        time=time,
    )
    record |= {
        "action_id": 2,
        "disposition_id": 2,
        "status_id": 2,
        "status_code": error.code,
        "status_detail": bounded(f"{error.where}: {what}" if error.where else what),
        "actor": actor_object(),
        "process": process_object(context, argv),
        "unmapped": {"role": role, "arguments": max(0, len(argv) - 1)},
    }
    if error.remedy:
        record["unmapped"]["remedy"] = bounded(error.remedy)
    return record


def layer_applied(
    context: Context,
    *,
    plugin: str,
    phase: str,
    operations: int,
    status: Literal["full", "partial", "none"],
    time: int | None = None,
) -> Record:
    """A receipt: the launcher's word that a plugin's operations of one phase were carried out."""
    record = event(
        context,
        (5019, 1, "Log"),
        code="layer-applied",
        severity=INFORMATIONAL,
        message=f"{plugin}: {count(operations, 'operation')} in phase {phase} ({status})",
        time=time,
    )
    return record | {
        "state_id": 1 if status == "none" else 2,
        "security_level_id": 1 if status == "full" else 2,
        "status_id": 1,
        "status_detail": status,
        "unmapped": {"plugin": bounded(plugin), "phase": phase, "operations": operations},
    }


def gap_left(
    context: Context,
    *,
    plugin: str,
    what: str,
    consequence: str,
    remedy: str,
    origin: str = "",
    time: int | None = None,
) -> Record:
    """A best-effort policy was started although this host cannot enforce all of it.

    The arguments are those of :class:`nemoclaw_hookspecs.Gap`. The finding's uid is the same each
    time the same gap is left, so that a collector can count instead of repeat.
    """
    record = event(
        context,
        (2004, 1, "Create"),
        code="gap-left",
        severity=HIGH,
        message=f"not enforced by {plugin}: {what}; {consequence}",
        time=time,
    )
    record |= {
        "action_id": 1,
        "disposition_id": 17,
        "status_id": 1,
        "is_alert": True,
        "finding_info": finding_object("gap", (plugin, what, origin), what, consequence),
        "unmapped": {"plugin": bounded(plugin), "origin": bounded(origin)},
    }
    if remedy:
        record["remediation"] = {"desc": bounded(remedy)}
    return record


def nemoclaw_started(context: Context, *, time: int | None = None) -> Record:
    """nemoclaw began to build a sandbox."""
    record = event(
        context,
        (6002, 3, "Start"),
        code="nemoclaw-started",
        severity=INFORMATIONAL,
        message=f"nemoclaw {__version__} builds the sandbox{_under(context, 'agent')}",
        time=time,
    )
    return record | {"app": product_object(), "actor": actor_object(), "status_id": 1}


def nemoclaw_stopped(context: Context, *, time: int | None = None) -> Record:
    """The sandbox is gone and nemoclaw is done with it."""
    record = event(
        context,
        (6002, 4, "Stop"),
        code="nemoclaw-stopped",
        severity=INFORMATIONAL,
        message="the sandbox is gone",
        time=time,
    )
    return record | {"app": product_object(), "actor": actor_object(), "status_id": 1}


def plugin_failed(
    context: Context,
    *,
    plugin: str,
    hook: str,
    error: BaseException,
    version: str = "",
    time: int | None = None,
) -> Record:
    """A plugin raised or broke its contract. Its message may hold anything and is left out."""
    name = type(error).__name__
    record = event(
        context,
        (6002, 99, "Fail"),
        code="plugin-failed",
        severity=HIGH,
        message=f"plugin {plugin} failed in {hook}: {name}",
        time=time,
    )
    return record | {
        "app": {"name": bounded(plugin), **({"version": bounded(version)} if version else {})},
        "status_id": 2,
        "status_code": bounded(name),
        "unmapped": {"plugin": bounded(plugin), "hook": hook},
    }


def view_uncovered(context: Context, *, paths: Sequence[str], time: int | None = None) -> Record:
    """Something on the host took mounts of the sandbox's view away, and the sandbox was ended.

    :param paths: what they were mounted on.
    """
    shown = ", ".join(bounded(path, 256) for path in paths[:8])
    detail = f"{shown} was removed or replaced on the host while the sandbox ran"
    record = event(
        context,
        (2004, 1, "Create"),
        code="view-uncovered",
        severity=HIGH,
        message=f"the sandbox was ended: {detail}",
        time=time,
    )
    return record | {
        "status_id": 1,
        "is_alert": True,
        "finding_info": finding_object(
            "view", (context.sandbox, *paths), "a mount of the view was taken away", detail
        ),
    }


def log_damaged(context: Context, *, damage: str, detail: str, time: int | None = None) -> Record:
    """The log was not as its last writer left it.

    :param damage: ``torn`` (a record that nobody was told is written was removed), ``lost`` or
        ``altered`` (acknowledged records are gone or changed), ``headless`` (``events.head`` is).
    """
    record = event(
        context,
        (2004, 1, "Create"),
        code="log-damaged",
        severity=MEDIUM if damage == "torn" else HIGH,
        message=f"event log: {detail}",
        time=time,
    )
    return record | {
        "status_id": 1,
        "is_alert": damage != "torn",
        "finding_info": finding_object(
            "log", (context.sandbox, damage, detail), f"event log {damage}", detail
        ),
        "unmapped": {"damage": damage},
    }


def _under(context: Context, role: Role) -> str:
    beside = " beside the agent" if role == "exec" else ""
    policy = context.in_force[0]
    return f"{beside} under {policy}" if policy else beside
