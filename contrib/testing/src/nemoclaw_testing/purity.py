"""What a function does besides computing: seen through the interpreter's audit events (PEP 578)."""

from __future__ import annotations

import os
import pathlib
import sys
from collections.abc import Callable

_PREFIXES = (
    "open",
    "os.",
    "glob.",
    "shutil.",
    "tempfile.",
    "socket.",
    "subprocess.",
    "pty.",
    "signal.",
    "urllib.",
    "http.",
    "ftplib.",
    "sqlite3.",
)
_UNAUDITED = ("stat", "lstat", "access", "readlink", "getcwd", "getenv", "getuid", "uname")
"""Functions of :mod:`os` that ask the machine something and raise no audit event."""


def side_effects(function: Callable[[], object]) -> tuple[str, ...]:
    """What ``function`` touched: files, sockets, processes, facts about the machine.

    Imports are allowed, with whatever they read. Each thing found is also refused, so it does not
    happen. An audit hook stays for good: call this in a forked child.
    """
    found: list[str] = []
    armed = True

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if not armed or not event.startswith(_PREFIXES) or _importing():
            return
        if event == "open" and isinstance(arguments[0], int):
            return  # a stream over a descriptor that it made itself
        found.append(f"{event} {arguments[0]!r}" if arguments else event)
        raise PermissionError(f"a layer is a pure function: {event}")

    # Python 3.10's pathlib keeps functions of os under names of its own.
    kept = getattr(pathlib, "_NormalAccessor", None)
    for name in _UNAUDITED:
        watched = _watched(name, getattr(os, name), found)
        setattr(os, name, watched)
        if hasattr(kept, name):
            setattr(kept, name, staticmethod(watched))
    sys.addaudithook(hook)
    try:
        function()
    except Exception as error:
        if not found:
            raise
        found.append(f"and then raised {error!r}")
    armed = False
    return tuple(found)


def _watched(name: str, original: Callable[..., object], found: list[str]) -> Callable[..., object]:
    def watched(*args: object, **kwargs: object) -> object:
        if _importing():
            return original(*args, **kwargs)
        found.append(f"os.{name} {args[0]!r}" if args else f"os.{name}")
        raise PermissionError(f"a layer is a pure function: os.{name}")

    return watched


def _importing() -> bool:
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        if frame.f_back is None:
            return False
        frame = frame.f_back
    return False
