"""``nemoclaw history``: the policies that a sandbox was under, who changed them, when and how."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator

import attrs
from nemoclaw_hookspecs.errors import UsageError

from ..egress.changes import MARKS
from ..egress.history import Entry, history
from ..events.folder import LOG, open_file, open_folder
from ..events.text import printable
from ..names import check_name
from .arguments import Parser


def main(argv: list[str]) -> int:
    """Print one entry a generation, and one for each that was refused."""
    parser = Parser(
        "nemoclaw history",
        description="List the policies that a sandbox was started under and that were put in force "
        "while it ran: generation, time, who, why, and which network rules changed.",
    )
    parser.add_argument("sandbox")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    given = parser.parse_args(argv)
    entries = list(history(_lines(check_name(given.sandbox))))
    if given.json:
        for entry in entries:
            print(json.dumps(attrs.asdict(entry)))
        return 0
    run = ""
    for entry in entries:
        if run and entry.run != run:
            print()
        run = entry.run
        print("\n".join(map(printable, _told(entry))))
    return 0


def _lines(name: str) -> Iterator[bytes]:
    try:
        folder, path = open_folder(name)
    except FileNotFoundError:
        raise _unknown(name) from None
    try:
        log = open_file(folder, LOG, os.O_RDONLY, f"{path}/{LOG}")
    except FileNotFoundError:
        raise _unknown(name) from None
    finally:
        os.close(folder)
    with open(log, "rb") as file:
        yield from file


def _unknown(name: str) -> UsageError:
    return UsageError(
        f"there is no log of a sandbox {name!r}", remedy="`nemoclaw logs` lists those that have one"
    )


def _told(entry: Entry) -> list[str]:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.time))
    who = f"user {entry.uid}, process {entry.pid} ({entry.command}), by {entry.cause}"
    if entry.kind == "refused":
        return [f"refused  {when}  {entry.policy}", f"         {who}", f"         {entry.reason}"]
    lines = [f"{entry.generation:>7}  {when}  {entry.policy}", f"         {who}"]
    lines.append(f"         digest {entry.digest or 'not recorded'}")
    for change in entry.changes:
        host = change.get("host", "")
        named = change["rule"] if host in ("", change["rule"]) else f"{change['rule']} ({host})"
        keys = f": {', '.join(change['keys'])}" if change.get("keys") else ""
        lines.append(f"         {MARKS[change['change']]} {named}{keys}")
    left = entry.added + entry.removed + entry.changed - len(entry.changes)
    if left > 0:
        lines.append(f"         and {left} more")
    return lines
