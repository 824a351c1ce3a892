"""Events of the gate: each connection, and each request inside an inspected one, that was judged.

OCSF 1.8 classes 4001 Network Activity and 4002 HTTP Activity. No header, no query and no body is in
them: those may hold secrets.
"""

from __future__ import annotations

import _socket

from .ocsf import INFORMATIONAL, MEDIUM
from .record import event
from .text import bounded, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from nemoclaw_hookspecs import Caller, EgressRequest, EgressVerdict

    from ..egress.questions import Answer, Operator, Question
    from .record import Context, Record

_METHODS = {
    "CONNECT": 1, "DELETE": 2, "GET": 3, "HEAD": 4, "OPTIONS": 5, "POST": 6, "PUT": 7, "TRACE": 8,
    "PATCH": 9,
}  # fmt: skip
_OTHER = 99
_LOW = 2


def egress_judged(
    context: Context,
    request: EgressRequest,
    verdict: EgressVerdict,
    answer: Answer | None = None,
    *,
    time: int | None = None,
) -> Record:
    """A connection or a request was allowed or denied, and the rule that says so.

    :param answer: of the operator who has decided.
    """
    allowed = verdict.action == "allow"
    verb = "allowed" if allowed else "denied"
    activity = (1, "Open") if allowed else (5, "Refuse")
    because = f"rule {verdict.rule}" if allowed else f"{verdict.rule}: {verdict.reason}"
    if answer is not None:
        because = f"{because}, as {answer.by} has said"
    severity = INFORMATIONAL if allowed else MEDIUM
    record = _judged(context, request, verdict, verb, activity, because, severity, time)
    disposition = 1 if allowed else 2  # Allowed, Blocked
    if answer is not None:
        disposition = 8 if allowed else 25  # Approved, Rejected
        record["unmapped"]["answer"] = {
            "uid": answer.by.uid,
            "pid": answer.by.pid,
            "command": bounded(answer.by.command),
            "scope": answer.scope,
        }
    record["action_id"] = record["status_id"] = 1 if allowed else 2
    record["disposition_id"] = disposition
    if verdict.reason:
        record["status_detail"] = bounded(verdict.reason)
    if not allowed:
        record["unmapped"]["remedy"] = bounded(verdict.remedy)
    return record


def egress_held(
    context: Context,
    request: EgressRequest,
    verdict: EgressVerdict,
    question: Question,
    *,
    time: int | None = None,
) -> Record:
    """An operator is asked whether a connection or a request may leave. The answer is an event of
    its own, one for each that waited for it."""
    because = f"{verdict.rule}: {verdict.reason}, question {question.id}"
    activity = (_OTHER, "Other")
    record = _judged(context, request, verdict, "held", activity, because, _LOW, time)
    record["unmapped"]["question"] = question.id
    record["unmapped"]["seconds"] = question.remaining
    # Observed; Delayed; there is no status yet.
    return record | {"action_id": 3, "disposition_id": 14, "status_id": 0}


def _judged(
    context: Context,
    request: EgressRequest,
    verdict: EgressVerdict,
    verb: str,
    activity: tuple[int, str],
    because: str,
    severity: int,
    time: int | None,
) -> Record:
    """What is told of a decision, whatever it is."""
    where = f"{request.host}:{request.port}"
    if request.http is None:
        kind = (4001, *activity)
        what = where
    else:
        number = _METHODS.get(request.http.method, _OTHER)
        kind = (4002, number, request.http.method.title() if number != _OTHER else "Other")
        what = f"{request.http.method} {where}{request.http.path}"
    record = event(
        context,
        kind,
        code=("egress-" if request.http is None else "request-") + verb,
        severity=severity,
        message=f"{verb} {what} ({because})",
        time=time,
    )
    record |= {
        "status_code": bounded(verdict.rule),
        "dst_endpoint": _endpoint(request),
        "unmapped": {
            "rule": bounded(verdict.rule),
            "origin": bounded(verdict.origin),
            "protocol": request.protocol,
            "generation": verdict.generation,
        },
    }
    if request.http is not None:
        record["http_request"] = {
            "http_method": bounded(request.http.method),
            "url": {
                "hostname": bounded(request.host),
                "path": bounded(request.http.path),
                "port": request.port,
            },
        }
    if request.caller is not None:
        record["actor"] = {"process": _process(context, request.caller)}
    return record


def policy_reloaded(
    context: Context,
    *,
    policy: tuple[str, str, int],
    changes: dict[str, Any],
    told: str,
    by: Operator,
    cause: str,
    time: int | None = None,
) -> Record:
    """Another network policy comes into force.

    :param policy: ``FILE:NAME``, its digest and the number of its generation.
    :param changes: the rules that it adds, removes and changes, bounded.
    :param told: the same in a line.
    :param by: who wanted it.
    :param cause: ``command``, ``watch`` or ``signal``.
    """
    name, digest, generation = policy
    message = f"the network policy {name} comes into force, as generation {generation}: {told}"
    record = _reload(context, "policy-reloaded", message, told, by, cause, time)
    before, before_digest, _ = context.in_force
    record["policy"] = {"name": bounded(name), "version": str(generation), "uid": digest}
    record["unmapped"] |= {
        "reloaded": bounded(name),
        "generation": generation,
        "replaces": {"name": before, "uid": before_digest},
        **changes,
    }
    return record


def reload_refused(
    context: Context,
    *,
    policy: str,
    reason: str,
    by: Operator,
    cause: str,
    keys: Sequence[str] = (),
    time: int | None = None,
) -> Record:
    """A policy was refused whole.

    :param reason: why.
    :param keys: the locked ones in which it differs from what was started.
    """
    message = f"the policy {policy} was refused: {reason}"
    record = _reload(context, "reload-refused", message, reason, by, cause, time)
    record["unmapped"]["refused"] = bounded(policy)
    if keys:
        record["unmapped"]["keys"] = [bounded(key, 64) for key in keys[:16]]
    return record


def _reload(
    context: Context,
    code: str,
    message: str,
    told: str,
    by: Operator,
    cause: str,
    time: int | None,
) -> Record:
    done = code == "policy-reloaded"
    record = event(
        context,
        (5019, 1, "Log"),
        code=code,
        severity=INFORMATIONAL if done else MEDIUM,
        message=message,
        time=time,
    )
    process: dict[str, Any] = {"name": bounded(by.command) or "nemoclaw", "pid": by.pid}
    return record | {
        "state_id": 2,
        "security_level_id": 1,
        "status_id": 1 if done else 2,
        "status_detail": bounded(printable(told)),
        "actor": {"process": process, "user": {"uid": str(by.uid)}},
        "unmapped": {"cause": cause},
    }


def _endpoint(request: EgressRequest) -> dict[str, Any]:
    name = "ip" if _is_address(request.host) else "hostname"
    return {name: bounded(request.host), "port": request.port}


def _is_address(host: str) -> bool:
    for family in (_socket.AF_INET, _socket.AF_INET6):
        try:
            _socket.inet_pton(family, host)
            return True
        except (OSError, ValueError):
            continue
    return False


def _process(context: Context, caller: Caller) -> dict[str, Any]:
    path = caller.executable
    file: dict[str, Any] = {
        "name": bounded(path.rpartition("/")[2]), "path": bounded(path), "type_id": 1,
    }  # fmt: skip
    if caller.sha256:
        file["hashes"] = [{"algorithm_id": 3, "value": caller.sha256}]
    return {
        "name": file["name"],
        "pid": caller.pid,
        "uid": f"{context.run}:{caller.pid}",
        "file": file,
        "sandbox": context.sandbox,
    }
