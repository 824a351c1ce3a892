"""``nemoclaw policy try POLICY --replay LOG``: what would another policy have decided?"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from nemoclaw_hookspecs import UsageError

from ..egress.replay import Case, Replay, replay
from ..egress.rules import Ruleset
from ..events.folder import HEAD, LOG
from ..events.text import printable
from ..events.verify import VerifyResult, examine

_SHOWN = 20
_WORDS = {
    "denied": "would be denied",
    "allowed": "would be allowed",
    "asked": "would be asked about",
    "unsure": "cannot be told",
}


def run(source: str, rules: Ruleset, policy: str, *, as_json: bool) -> int:
    """Judge a log anew.

    :param source: a file, ``-`` for standard input, or the name of a sandbox.
    :returns: 0 when nothing would be decided otherwise, and the log is whole; else 1.
    """
    path, data, head = _read(source)
    checked = examine(path, data, head)
    # A copy of a log need not have the note of its last record beside it.
    problems = [each for each in checked.problems if head or each.kind != "headless"]
    found = replay(data.split(b"\n"), rules)
    if as_json:
        print(json.dumps(_as_data(found, policy, path, checked, problems), indent=2))
    else:
        _show(found, policy, path)
        _warn(found, path, [str(each) for each in problems])
    changes = sum(found.count(each) for each in ("denied", "allowed", "asked"))
    return 1 if changes or problems or found.bad_count else 0


def _read(source: str) -> tuple[str, bytes, bytes]:
    """Path, content, and the note of the last record (empty: there is none beside it)."""
    if source == "-":
        return "standard input", sys.stdin.buffer.read(), b""
    path = source
    if "/" not in source and not source.endswith((".jsonl", ".json", ".log")):
        from ..names import check_name
        from ..state import state_dir

        path = os.path.join(state_dir(), check_name(source), LOG)
    try:
        with open(path, "rb") as file:
            data = file.read()
        head = b""
        if os.path.basename(path) == LOG:
            try:
                with open(os.path.join(os.path.dirname(path), HEAD), "rb") as file:
                    head = file.read(4096)
            except FileNotFoundError:
                pass
    except OSError as error:
        raise UsageError(
            f"{printable(path)} cannot be read: {error.strerror}",
            remedy="name a file of events (with a slash, or ending in .jsonl), or a sandbox that "
            "`nemoclaw logs` lists",
        ) from None
    # Of one that is being written, the note may be of a record that was not there yet.
    if head and _is_ahead(head, data):
        with open(path, "rb") as file:
            data = file.read()
    return path, data, head


def _is_ahead(head: bytes, data: bytes) -> bool:
    from ..events import chain

    noted = chain.parse_head(head)
    last = chain.place(data[data[:-1].rfind(b"\n") + 1 :]) if data else None
    return noted is not None and (last is None or noted[0] > last[0])


def _sorted(found: Replay) -> list[tuple[Case, int, int]]:
    order = list(_WORDS)
    return sorted(found.cases.values(), key=lambda each: (order.index(each[0].outcome), -each[1]))


def _show(found: Replay, policy: str, path: str) -> None:
    for case, count, line in _sorted(found):
        verdict, was = case.verdict, case.decision
        request = was.request
        what = f"{request.host}:{request.port}"
        if request.http is not None:
            what = f"{request.http.method} {what}{request.http.path}"
        if request.caller is not None:
            what += f" by {request.caller.executable}"
        print(f"{case.outcome:<8} {count:>5} x {printable(what)}")
        before = "allowed by rule" if was.action == "allow" else "denied:"
        print(f"         was {before} {printable(was.rule)} (first in line {line})")
        if case.note:
            print(f"         {case.note}")
        if verdict.action == "allow":
            print(f'         rule "{printable(verdict.rule)}" would allow it')
        else:
            print(f"         {printable(verdict.rule)}: {printable(verdict.reason)}")
        if verdict.origin:
            print(f"         {printable(verdict.origin)}")
    counts = ", ".join(
        f"{found.count(outcome)} {word}"  # type: ignore[arg-type]
        for outcome, word in _WORDS.items()
        if outcome in ("denied", "allowed") or found.count(outcome)  # type: ignore[arg-type]
    )
    total = f"{found.decisions} decision{'' if found.decisions == 1 else 's'}"
    print(f"{total} in {printable(path)}, under {policy}: {found.same} the same, {counts}")
    sys.stdout.flush()


def _warn(found: Replay, path: str, problems: list[str]) -> None:
    told = [f"line {line}: {what}, and was left out" for line, what in found.bad[:_SHOWN]]
    if found.bad_count > _SHOWN:
        told.append(f"{found.bad_count - _SHOWN} more lines were left out")
    told += [f"not as it was written: {each}" for each in problems[:_SHOWN]]
    if len(problems) > _SHOWN:
        told.append(f"{len(problems) - _SHOWN} more places are not as they were written")
    for each in told:
        sys.stderr.write(f"nemoclaw: {printable(path)}: {printable(each)}\n")


def _as_data(
    found: Replay, policy: str, path: str, checked: VerifyResult, problems: list[Any]
) -> dict[str, Any]:
    return {
        "policy": policy,
        "log": path,
        "records": found.records,
        "decisions": found.decisions,
        "same": found.same,
        **{outcome: found.count(outcome) for outcome in _WORDS},  # type: ignore[arg-type]
        "cases": [_case(*each) for each in _sorted(found)],
        "whole": not problems and not found.bad_count,
        "problems": [
            {"line": each.line, "kind": each.kind, "what": each.what} for each in problems
        ],
        "notes": list(checked.notes),
        "unreadable": [{"line": line, "what": what} for line, what in found.bad],
        "unreadable_lines": found.bad_count,
    }


def _case(case: Case, count: int, line: int) -> dict[str, Any]:
    request, verdict = case.decision.request, case.verdict
    return {
        "outcome": case.outcome,
        "count": count,
        "first_line": line,
        "host": request.host,
        "port": request.port,
        "protocol": request.protocol,
        "method": None if request.http is None else request.http.method,
        "path": None if request.http is None else request.http.path,
        "binary": None if request.caller is None else request.caller.executable,
        "was": {"action": case.decision.action, "rule": case.decision.rule},
        "now": {
            "action": verdict.action,
            "rule": verdict.rule,
            "reason": verdict.reason,
            "origin": verdict.origin,
            "remedy": verdict.remedy,
        },
        "note": case.note,
    }
