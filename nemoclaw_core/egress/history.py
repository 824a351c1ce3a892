"""Which policies of the network a sandbox was under: read from its event log, running or not."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import attrs

Kind = Literal["started", "reloaded", "refused"]
_CODES: dict[str, Kind] = {
    "nemoclaw-started": "started",
    "policy-reloaded": "reloaded",
    "reload-refused": "refused",
}


@attrs.frozen(slots=True, kw_only=True)
class Entry:
    """A policy that came into force, or was refused."""

    kind: Kind
    run: str
    """Which start of the sandbox."""
    time: float
    """Seconds since the epoch."""
    policy: str
    """``FILE:NAME``."""
    generation: int
    """0: it never came into force."""
    digest: str
    cause: str
    """``start``, ``command``, ``watch`` or ``signal``."""
    uid: int
    pid: int
    command: str
    """Name of the process that asked."""
    reason: str
    """Why it was refused."""
    added: int
    removed: int
    changed: int
    changes: tuple[dict[str, Any], ...]
    """Rules that are new, gone or different; the log names some and counts all."""


def history(lines: Iterable[bytes]) -> Iterator[Entry]:
    """What the records of a log say. A line that is none, or not as it is written here, is passed
    over: whether a log is whole is another question."""
    for line in lines:
        # Most lines are of something else, and need not be parsed.
        if not any(code.encode() in line for code in _CODES):
            continue
        try:
            record = json.loads(line)
            kind = _CODES.get(record["metadata"]["event_code"])
            if kind is not None and "policy" in record:
                yield _entry(kind, record)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue


def _entry(kind: Kind, record: dict[str, Any]) -> Entry:
    said = record.get("unmapped", {})
    policy, actor = record["policy"], record["actor"]
    refused = kind == "refused"
    return Entry(
        kind=kind,
        run=str(record["device"]["container"]["uid"]),
        time=int(record["time"]) / 1000,
        policy=str(said["refused"] if refused else policy["name"]),
        generation=0 if refused else int(policy.get("version", 1)),
        digest="" if refused else str(policy.get("uid", "")),
        cause="start" if kind == "started" else str(said["cause"]),
        uid=int(actor["user"]["uid"]),
        pid=int(actor["process"]["pid"]),
        command=str(actor["process"]["name"]),
        reason=str(record["status_detail"]) if refused else "",
        added=int(said.get("added", 0)),
        removed=int(said.get("removed", 0)),
        changed=int(said.get("changed", 0)),
        changes=tuple(dict(each) for each in said.get("changes", ())),
    )
