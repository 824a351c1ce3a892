"""The words of an event's one-line message."""

from __future__ import annotations

import _signal  # what `signal` is made of, 9 ms cheaper

from nemoclaw_hookspecs.errors import NemoclawError, PluginError

from .text import bounded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

SIGSYS: int = _signal.SIGSYS


def command(argv: Sequence[str]) -> str:
    """The first word of a command and how many follow. The others may be secrets."""
    program = bounded(argv[0], 256) if argv else ""
    return f"{program or 'nothing'} ({count(max(0, len(argv) - 1), 'argument')})"


def count(number: int, noun: str) -> str:
    """``1 operation``, ``2 operations``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def refusal(error: NemoclawError) -> str:
    """Why a start was refused, without the text of an exception that is a plugin's own."""
    if not isinstance(error, PluginError):
        return error.what
    cause = error.__cause__
    if isinstance(cause, NemoclawError):
        return f"plugin {error.plugin!r}: {cause.what}"
    raised = f" ({type(cause).__name__})" if cause is not None else ""
    return f"plugin {error.plugin!r} cannot be used, or failed{raised}"


def signal_name(number: int) -> str:
    """``SIGKILL`` for 9 and so on; ``signal 40`` for one without a name."""
    for name in dir(_signal):
        if name.startswith("SIG") and "_" not in name and getattr(_signal, name) == number:
            return name
    return f"signal {number}"
