"""Events of the gate: each connection, and each request inside an inspected one, that was judged.

OCSF 1.8 classes 4001 Network Activity and 4002 HTTP Activity. No header, no query and no body is in
them: those may hold secrets.
"""

from __future__ import annotations

import _socket

from .ocsf import INFORMATIONAL, MEDIUM
from .record import actor_object, event
from .text import bounded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from nemoclaw_hookspecs import Caller, EgressRequest, EgressVerdict

    from .record import Context, Record

_METHODS = {
    "CONNECT": 1, "DELETE": 2, "GET": 3, "HEAD": 4, "OPTIONS": 5, "POST": 6, "PUT": 7, "TRACE": 8,
    "PATCH": 9,
}  # fmt: skip
_OTHER = 99


def egress_judged(
    context: Context, request: EgressRequest, verdict: EgressVerdict, *, time: int | None = None
) -> Record:
    """A connection or a request was allowed or denied, and the rule that says so."""
    allowed = verdict.action == "allow"
    verb = "allowed" if allowed else "denied"
    where = f"{request.host}:{request.port}"
    if request.http is None:
        kind = (4001, 1, "Open") if allowed else (4001, 5, "Refuse")
        what = where
    else:
        number = _METHODS.get(request.http.method, _OTHER)
        kind = (4002, number, request.http.method.title() if number != _OTHER else "Other")
        what = f"{request.http.method} {where}{request.http.path}"
    because = f"rule {verdict.rule}" if allowed else f"{verdict.rule}: {verdict.reason}"
    record = event(
        context,
        kind,
        code=("egress-" if request.http is None else "request-") + verb,
        severity=INFORMATIONAL if allowed else MEDIUM,
        message=f"{verb} {what} ({because})",
        time=time,
    )
    record |= {
        "action_id": 1 if allowed else 2,
        "disposition_id": 1 if allowed else 2,
        "status_id": 1 if allowed else 2,
        "status_code": bounded(verdict.rule),
        "dst_endpoint": _endpoint(request),
        "unmapped": {
            "rule": bounded(verdict.rule),
            "origin": bounded(verdict.origin),
            "protocol": request.protocol,
            "generation": verdict.generation,
        },
    }
    if not allowed:
        record["status_detail"] = bounded(verdict.reason)
        record["unmapped"]["remedy"] = bounded(verdict.remedy)
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
    context: Context, *, policy: str, changes: Sequence[str], time: int | None = None
) -> Record:
    """Another network policy comes into force.

    :param changes: the rules that it adds and removes.
    """
    told = ", ".join(changes) or "no rule has changed"
    message = f"the network policy {policy} comes into force: {told}"
    return _reload(context, "policy-reloaded", message, policy, told, time)


def reload_refused(
    context: Context, *, policy: str, keys: Sequence[str], time: int | None = None
) -> Record:
    """A policy was refused whole.

    :param keys: the locked ones in which it differs from what was started.
    """
    told = ", ".join(keys)
    message = f"the policy {policy} was refused: it differs in {told}"
    return _reload(context, "reload-refused", message, policy, told, time)


def _reload(
    context: Context, code: str, message: str, policy: str, told: str, time: int | None
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
    return record | {
        "state_id": 2,
        "security_level_id": 1,
        "status_id": 1 if done else 2,
        "status_detail": bounded(told),
        "actor": actor_object(),
        "unmapped": {"reloaded" if done else "refused": bounded(policy)},
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
