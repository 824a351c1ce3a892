"""Runs attempts and says what became of each, one JSON object a line.

``NAME stage.json`` runs one in this process: exit status 0 when it worked, 10 when it was stopped,
20 when this host cannot tell, 30 when the attempt itself is broken. ``--batch stage.json NAME...``
runs each in a child of its own. ``--list`` prints what there is as JSON, ``--table`` for people.
"""

from __future__ import annotations

import errno
import importlib
import json
import os
import signal
import sys
from typing import Any

from .registry import ATTEMPTS, CLASSES, CannotJudge, Stopped
from .stage import Stage

MODULES = (
    "reading",
    "writing",
    "readonly",
    "denied",
    "workdir",
    "setid",
    "devices",
    "signals",
    "neighbours",
    "lifetime",
    "limits",
    "privileges",
    "mounts",
    "calls",
    "administration",
    "ipc",
    "inet",
    "families",
    "unix",
    "control",
)
WORKED, STOPPED, CANNOT_JUDGE, BROKEN = 0, 10, 20, 30
PATIENCE = 15
"""Seconds that one attempt may take."""

_ABSENT = {errno.ENOSYS, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT}
"""Outside of any sandbox these say that the kernel was built without the feature."""


def outcome(stage: Stage) -> tuple[int, str]:
    """Run one attempt; returns its exit status and what it got or what stopped it."""
    try:
        return WORKED, ATTEMPTS[stage.name][1](stage)
    except Stopped as stopped:
        return STOPPED, str(stopped)
    except CannotJudge as reason:
        return CANNOT_JUDGE, str(reason)
    except MemoryError:
        return STOPPED, "MemoryError"
    except OSError as error:
        code = errno.errorcode.get(error.errno or 0, "no errno")
        detail = f"{code}: {error.strerror or error} ({error.filename or 'call'})"
        if stage.outside and error.errno in _ABSENT:
            return CANNOT_JUDGE, f"this kernel does not have it: {detail}"
        return STOPPED, detail
    except Exception as error:  # any other exception means that the attempt itself is wrong
        return BROKEN, f"{type(error).__name__}: {error}"


def line(name: str, status: int, detail: str) -> bytes:
    """The line that reports one outcome."""
    fields = {"name": name, "worked": status == WORKED, "status": status, "detail": detail}
    return (json.dumps(fields) + "\n").encode()


def _in_a_child(stage: Stage) -> None:
    child = os.fork()
    if not child:
        signal.alarm(PATIENCE)
        status, detail = outcome(stage)
        os.write(1, line(stage.name, status, detail))
        os._exit(status)
    _, ended = os.waitpid(child, 0)
    if os.WIFSIGNALED(ended):
        number = os.WTERMSIG(ended)
        # A sandbox may kill whoever makes a forbidden call; only our own alarm is a fault of ours.
        status = BROKEN if number == signal.SIGALRM else STOPPED
        os.write(1, line(stage.name, status, f"killed by {signal.Signals(number).name}"))


def table() -> str:
    """Every attempt as a page of Markdown: what stands in ``ATTEMPTS.md``."""
    lines = ["# Attempts", "", "Written by `python3 attempts.py --table`; a test compares.", ""]
    for kind in CLASSES:
        ours = [found for found, _ in ATTEMPTS.values() if found.kind == kind]
        lines += [
            f"## {kind} ({len(ours)})",
            "",
            "| name | needs | what it tries |",
            "|---|---|---|",
        ]
        lines += [f"| `{found.name}` | {found.needs} | {found.claim} |" for found in ours]
        lines.append("")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Run what the arguments say; see the module's docstring."""
    for module in MODULES:
        importlib.import_module(f".{module}", __package__)
    if arguments == ["--list"]:
        print(json.dumps([described.facts() for described, _ in ATTEMPTS.values()]))
        return 0
    if arguments == ["--table"]:
        print(table(), end="")
        return 0
    batch = arguments[0] == "--batch"
    names, path = (arguments[2:], arguments[1]) if batch else (arguments[:1], arguments[1])
    with open(path, encoding="utf-8") as file:
        facts: dict[str, Any] = json.load(file)
    inherited = [int(name) for name in os.listdir("/proc/self/fd") if int(name) > 2]
    facts["inherited"] = [fd for fd in inherited if os.path.lexists(f"/proc/self/fd/{fd}")]
    facts["parent"], facts["runner"] = os.getppid(), os.getpid()
    for name in names:
        stage = Stage(facts, name)
        if batch:
            _in_a_child(stage)
            continue
        if ATTEMPTS[name][0].stdin != "terminal":
            signal.alarm(PATIENCE)
        status, detail = outcome(stage)
        sys.stdout.buffer.write(line(name, status, detail))
        sys.stdout.flush()
        return status
    return 0
