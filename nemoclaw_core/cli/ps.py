"""``nemoclaw ps``: the sandboxes that are running."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from nemoclaw_hookspecs.errors import UsageError

from ..state import runtime_dir
from ..supervisor import client
from .arguments import Parser


def running() -> list[dict[str, Any]]:
    """What each running sandbox of this user says about itself, oldest first."""
    found = []
    try:
        files = os.listdir(runtime_dir())
    except FileNotFoundError:
        return []
    for file in files:
        name, dot, suffix = file.rpartition(".")
        if not dot or suffix != "sock":
            continue
        try:
            sock = client.connect(name)
        except UsageError:
            client.forget_stale(name)
            continue
        try:
            sock.settimeout(5)
            client.ask(sock, {"request": "status"})
            answer, _ = client.receive_json(sock)
        except (OSError, EOFError):
            continue
        finally:
            sock.close()
        if "error" not in answer:
            found.append(answer)
    return sorted(found, key=lambda each: float(each["began"]))


def main(argv: list[str]) -> int:
    """Print one line, or one JSON object, a sandbox."""
    parser = Parser("nemoclaw ps", description="List running sandboxes.")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    given = parser.parse_args(argv)
    sandboxes = running()
    if given.json:
        for each in sandboxes:
            print(json.dumps(each))
        return 0
    rows = [("NAME", "INIT", "AGE", "COMMAND", "POLICY")]
    for each in sandboxes:
        age = f"{max(0, time.time() - each['began']):.0f}s"
        policy = each["policy"]
        if each["generation"] > 1:
            policy += f" (generation {each['generation']})"
        rows.append((each["name"], str(each["init"]), age, each["command"], policy))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print(
            "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        )
    return 0
