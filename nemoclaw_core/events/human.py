"""One record as one line for a person."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import IO, Any

from .text import printable

_SEVERITY = {
    0: "unknown",
    1: "info",
    2: "low",
    3: "medium",
    4: "high",
    5: "critical",
    6: "fatal",
    99: "other",
}
_COLOUR = {3: "33", 4: "31", 5: "1;31", 6: "1;31"}
_WIDTH = max(map(len, _SEVERITY.values()))
_NO_TIME = "?" + " " * 22


def wants_colour(stream: IO[Any]) -> bool:
    """True when ``stream`` is a terminal that shows colour and nobody asked for none.

    Follows https://no-color.org: ``NO_COLOR``, set and not empty, turns colour off.
    """
    return (
        not os.environ.get("NO_COLOR")
        and os.environ.get("TERM", "dumb") != "dumb"
        and stream.isatty()
    )


def one_line(record: object, *, colour: bool = False) -> str:
    """A record in one line: local time, severity, what happened.

    Nothing in it can steer a terminal, whoever wrote the record. What is no record is shown as it
    is, made safe.
    """
    if not isinstance(record, Mapping):
        return printable(str(record))
    metadata = record.get("metadata")
    code = metadata.get("event_code") if isinstance(metadata, Mapping) else None
    severity = record.get("severity_id")
    name = _SEVERITY.get(severity, "unknown") if isinstance(severity, int) else "unknown"
    shown = f"{name:<{_WIDTH}}"
    if colour and severity in _COLOUR:
        shown = f"\x1b[{_COLOUR[severity]}m{shown}\x1b[0m"
    message = printable(str(record.get("message") or code or "an event without a message"))
    return f"{_when(record.get('time'))}  {shown}  {message}{_remedy(record)}"


def _remedy(record: Mapping[str, Any]) -> str:
    for place, key in (("unmapped", "remedy"), ("remediation", "desc")):
        found = record.get(place)
        if isinstance(found, Mapping) and found.get(key):
            # Lines of a policy, for instance: here they stand in one.
            lines = map(printable, str(found[key]).split("\n"))
            return f" (remedy: {'; '.join(lines)})"
    return ""


def _when(milliseconds: object) -> str:
    if not isinstance(milliseconds, int):
        return _NO_TIME
    try:
        moment = time.localtime(milliseconds / 1000)
    except (ValueError, OverflowError, OSError):
        return _NO_TIME
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', moment)}.{milliseconds % 1000:03d}"
