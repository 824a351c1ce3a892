"""Amounts that people write: ``"4GiB"``, ``"30s"``."""

from __future__ import annotations

import re

from .problems import Misfit, quoted, shown_kind

_SIZE = re.compile(r"([0-9]+) ?([A-Za-z]*)", re.ASCII)
_UNITS = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(ms|s|m|h|d)", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

LARGEST_SIZE = (1 << 63) - 1
"""The kernel's limits are signed 64-bit byte counts."""
LONGEST = 10 * 365 * 86400.0
"""Ten years, in seconds: beyond it a duration is a slip, and timers overflow."""


def size(value: object) -> int:
    """Bytes, from an integer or a string with a binary unit.

    :raises Misfit: negative, malformed, or too large for the kernel.
    """
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise Misfit(f"is {shown_kind(value)}, not a size", 'write it as "4GiB" or in bytes')
    if isinstance(value, int):
        amount = value
    else:
        found = _SIZE.fullmatch(value)
        if found is None or found[2] not in _UNITS or len(found[1]) > 20:
            raise Misfit(
                f"{quoted(value)} is not a size",
                'write a whole number and B, KiB, MiB, GiB or TiB, for instance "4GiB"',
            )
        amount = int(found[1]) * _UNITS[found[2]]
    if amount < 0:
        raise Misfit("a size cannot be negative", "0 means no limit")
    if amount > LARGEST_SIZE:
        raise Misfit("a size this large does not exist", "0 means no limit")
    return amount


def duration(value: object) -> float:
    """Seconds, from a string with a unit.

    :raises Misfit: not a string, negative, malformed, or longer than ten years.
    """
    example = 'write a number and ms, s, m, h or d, for instance "30s"'
    if isinstance(value, bool) or not isinstance(value, str):
        raise Misfit(f"is {shown_kind(value)}, not a duration", example)
    found = _DURATION.fullmatch(value)
    if found is None or len(value) > 40:
        raise Misfit(f"{quoted(value)} is not a duration", example)
    seconds = float(found[1]) * _SECONDS[found[2]]
    if seconds > LONGEST:
        raise Misfit(f"{quoted(value)} is more than ten years", '"0s" means none')
    return seconds


def show_size(amount: int) -> str:
    """The shortest exact way to write a number of bytes."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if amount and amount % _UNITS[unit] == 0:
            return f"{amount // _UNITS[unit]}{unit}"
    return f"{amount}B"


def show_duration(seconds: float) -> str:
    """A duration as a policy writes it."""
    for unit in ("d", "h", "m"):
        if seconds and seconds % _SECONDS[unit] == 0:
            return f"{int(seconds // _SECONDS[unit])}{unit}"
    return f"{int(seconds)}s" if seconds == int(seconds) else f"{seconds!r}s"
