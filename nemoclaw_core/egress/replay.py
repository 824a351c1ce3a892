"""Recorded decisions, judged anew by another policy: what would it have decided otherwise?

An event holds host, port, method, path, and the program where it was known. It holds no query, no
header and no body, so what depends on those cannot be told, and is said to be unsure.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable
from typing import Any, Literal

import attrs
from nemoclaw_hookspecs import Caller, EgressRequest, EgressVerdict, HttpRequest

from .reasons import REASONS
from .rules import Ruleset

Outcome = Literal["same", "denied", "allowed", "asked", "unsure"]

_CODES = {
    "egress-allowed": "allow",
    "egress-denied": "deny",
    "request-allowed": "allow",
    "request-denied": "deny",
}
_UNRECORDED = frozenset(
    {"query", "body", "rpc", "graphql", "malformed-query", "malformed-body", "websocket"}
)
"""Denials for what an event does not hold."""
_OPERATORS = frozenset({"operator", "no-answer", "too-many-held", "withdrawn"})
_LISTED = 1000
"""Lines that are named as unreadable; the others are counted."""
_DNS = 53


@attrs.frozen(slots=True, kw_only=True)
class Decision:
    """One that was recorded."""

    request: EgressRequest
    action: Literal["allow", "deny"]
    rule: str


@attrs.frozen(slots=True)
class Case:
    """Decisions that are the same in everything that counts, and what becomes of them."""

    outcome: Outcome
    decision: Decision
    verdict: EgressVerdict
    note: str = ""


@attrs.define(slots=True, kw_only=True)
class Replay:
    """What a policy makes of a log. ``cases`` are those that are not the same, with their number
    and the line of the first."""

    records: int = 0
    decisions: int = 0
    same: int = 0
    cases: dict[tuple[Any, ...], tuple[Case, int, int]] = attrs.field(factory=dict)
    bad: list[tuple[int, str]] = attrs.field(factory=list)
    bad_count: int = 0

    def count(self, outcome: Outcome) -> int:
        """Decisions with that outcome."""
        return sum(number for case, number, _ in self.cases.values() if case.outcome == outcome)


def replay(lines: Iterable[bytes], rules: Ruleset) -> Replay:
    """Judge every decision in the lines of a log."""
    found = Replay()
    judged: dict[tuple[Any, ...], Case] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        found.records += 1
        try:
            decision = read(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            found.bad_count += 1
            if len(found.bad) < _LISTED:
                found.bad.append((number, _why(error)))
            continue
        if decision is None:
            continue
        found.decisions += 1
        key = _key(decision)
        case = judged.get(key)
        if case is None:
            case = judged[key] = compare(decision, rules)
        if case.outcome == "same":
            found.same += 1
            continue
        _, count, first = found.cases.get(key, (case, 0, number))
        found.cases[key] = (case, count + 1, first)
    return found


def _why(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError | RecursionError):
        return "it is no JSON"
    if isinstance(error, KeyError):
        return f"it lacks {error.args[0]!r}"
    return "it is no event as nemoclaw writes it"


def read(record: Any) -> Decision | None:
    """The decision that a record tells of; None if it tells of something else.

    :raises ValueError, KeyError, TypeError, AttributeError: it is no record of nemoclaw's.
    """
    action = _CODES.get(record["metadata"]["event_code"])
    if action is None:
        return None
    said, endpoint = record["unmapped"], record["dst_endpoint"]
    host = _text(endpoint["ip"] if "ip" in endpoint else endpoint["hostname"])
    port, protocol = endpoint["port"], said["protocol"]
    if type(port) is not int or not 0 <= port < 65536 or protocol not in ("tcp", "tls", "http"):
        raise ValueError("no such endpoint")
    http = None
    if "http_request" in record:
        asked = record["http_request"]
        http = HttpRequest(method=_text(asked["http_method"]), path=_text(asked["url"]["path"]))
    process = record.get("actor", {}).get("process")
    caller = None
    if process is not None and "path" in process.get("file", {}):
        file = process["file"]
        hashes = file.get("hashes", ())
        digest = _text(hashes[0]["value"]) if hashes else ""
        caller = Caller(pid=0, executable=_text(file["path"]), sha256=digest)
    request = EgressRequest(
        sandbox="", host=host, port=port, protocol=protocol, caller=caller, http=http
    )
    return Decision(
        request=request,
        action="allow" if action == "allow" else "deny",
        rule=_text(said["rule"]),
    )


def _text(value: object) -> str:
    if type(value) is not str:
        raise ValueError("no text")
    return value


def compare(decision: Decision, rules: Ruleset) -> Case:
    """What becomes of one decision."""
    request = decision.request
    verdict = rules.judge(request)
    if decision.action == "allow":
        if verdict.action == "allow":
            return Case("same", decision, verdict)
        if verdict.action == "hold":
            same = decision.rule == "operator"
            return Case("same" if same else "asked", decision, verdict)
        if verdict.needs_body or verdict.rule in _UNRECORDED:
            return Case("unsure", decision, verdict, "the log holds no query and no body")
        if verdict.rule == "caller-unknown":
            return Case("unsure", decision, verdict, "the log does not say which program it was")
        return Case("denied", decision, verdict)
    if decision.rule not in REASONS or decision.rule in _OPERATORS:
        # Refused by the service, by a plugin or by a person, whatever the policy says.
        return Case("same", decision, verdict)
    if request.port == _DNS and request.protocol == "tcp" and verdict.action == "deny":
        # A name that was not resolved: whatever port it was wanted for.
        if not rules.resolvable(request.host):
            return Case("same", decision, verdict)
        return Case("unsure", decision, verdict, "the name resolves; where to, the log cannot say")
    if verdict.action == "deny":
        return Case("same", decision, verdict)
    if verdict.action == "hold":
        return Case("asked", decision, verdict)
    if decision.rule == "address" and not _is_address(request.host):
        return Case("unsure", decision, verdict, "it hangs on the address that the name leads to")
    if decision.rule in _UNRECORDED:
        return Case("unsure", decision, verdict, "the log holds no query and no body")
    return Case("allowed", decision, verdict)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _key(decision: Decision) -> tuple[Any, ...]:
    request, http, caller = decision.request, decision.request.http, decision.request.caller
    return (
        decision.action,
        decision.rule,
        request.host,
        request.port,
        request.protocol,
        None if http is None else (http.method, http.path),
        None if caller is None else (caller.executable, caller.sha256),
    )
