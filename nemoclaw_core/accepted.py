"""What the Python interface accepts as arguments, and what it says to the rest."""

from __future__ import annotations

import math
import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import IO, Any

from nemoclaw_hookspecs.errors import UsageError

_LONGEST = 1e9
"""Seconds. Beyond it, sockets refuse a timeout."""
_FOR_SUBPROCESS = {
    subprocess.PIPE: "run(..., capture_output=True), or give a descriptor of os.pipe()",
    subprocess.STDOUT: "give the descriptor that stdout is given",
    subprocess.DEVNULL: "give a file: open(os.devnull, 'r+b')",
}


def check_policy(policy: object) -> None:
    """:raises UsageError: it cannot name a policy."""
    if policy is not None and not isinstance(policy, str):
        raise UsageError(
            f"a policy is named by a string, and not by {_kind(policy)}",
            remedy="give a NAME, a FILE or FILE:NAME; str(path) of a path",
        )


def path_text(path: object, what: str) -> str | None:
    """A path that may be left out, as text.

    :param what: which path it is, for the message.
    :raises UsageError: it is none.
    """
    if path is None:
        return None
    text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
    if not isinstance(text, str) or not text or "\0" in text:
        shown = _kind(path) if not isinstance(text, str) else "empty" if not text else repr(text)
        raise UsageError(
            f"{what} is a path, and not {shown}", remedy="give a string or a pathlib.Path"
        )
    return text


def check_spare(spare: object) -> None:
    """:raises UsageError: it is no number of sandboxes."""
    if not isinstance(spare, int) or isinstance(spare, bool) or spare < 0:
        raise UsageError(
            f"spare is a number of sandboxes, 0 or more, and not {spare!r}",
            remedy="give a whole number",
        )


def check_timeout(timeout: object, otherwise: str) -> None:
    """:param otherwise: what None means to the call, for the remedy.
    :raises UsageError: it is no time to wait: negative, or no number.
    """
    if timeout is None or timeout == math.inf:
        return
    number = isinstance(timeout, (int, float)) and not isinstance(timeout, bool)
    if not number or not 0 <= timeout < _LONGEST:  # type: ignore[operator]
        raise UsageError(
            f"a timeout is a number of seconds, 0 or more, and not {timeout!r}",
            remedy=f"give seconds, math.inf for no limit, or None for {otherwise}",
        )


def check_command(argv: Sequence[str]) -> None:
    """:raises UsageError: it cannot be the argument list of a program."""
    listed = isinstance(argv, Sequence) and not isinstance(argv, (str, bytes))
    if not listed or not all(isinstance(word, str) for word in argv):
        raise UsageError(
            "a command is a list of strings", remedy='["echo", "hi"], or ["sh", "-c", TEXT]'
        )
    if not argv or not argv[0]:
        raise UsageError("there is no command to run", remedy='name a program: ["echo", "hi"]')
    if any("\0" in word for word in argv):
        raise UsageError("a command cannot hold a NUL byte", remedy="take it out")


def check_environment(env: Mapping[str, str]) -> None:
    """:raises UsageError: it is no mapping, or holds what cannot be a variable."""
    if not isinstance(env, Mapping):
        raise UsageError(
            f"env maps names to values, and is {_kind(env)}", remedy='env={"NAME": "value"}'
        )
    for name, value in env.items():
        texts = isinstance(name, str) and isinstance(value, str)
        if not texts or not name or "=" in name or "\0" in name + value:
            # The value is not shown: it may be a secret.
            raise UsageError(
                f"the variable {name!r} cannot be set",
                remedy="names and values are strings without a NUL byte, a name has no =",
            )


def descriptor(stream: int | IO[Any] | None, default: int) -> int:
    """The descriptor of a stream that a command shall get.

    :param default: what None means.
    :raises UsageError: it is no open descriptor, and no open file that has one.
    """
    if stream is None:
        return default
    if isinstance(stream, int) and stream in _FOR_SUBPROCESS:
        raise UsageError(
            "the constants of subprocess for streams are not known here",
            remedy=_FOR_SUBPROCESS[stream],
        )
    number: Any = stream
    try:
        if not isinstance(stream, int):
            number = stream.fileno()
        os.fstat(number)
    except (AttributeError, TypeError, ValueError, OverflowError, OSError):
        raise UsageError(
            f"{stream!r} cannot be a command's stream: it is no open descriptor, and no open file "
            "that has one",
            remedy="give a descriptor, or a file of open(); run(..., input=..., "
            "capture_output=True) works with bytes",
        ) from None
    return int(number)


def _kind(value: object) -> str:
    return f"of type {type(value).__name__}"
