"""What a filter can say about a system call: an answer, and conditions on its arguments."""

from __future__ import annotations

from typing import Literal

import attrs

Answer = Literal["allow", "log", "refuse", "ENOSYS", "EAFNOSUPPORT", "EPROTONOSUPPORT"]
"""``refuse`` is what the policy's ``action`` says: EPERM, or the end of the process.

``ENOSYS`` tells the caller that this kernel has no such call, so that it falls back on an older
one; it never kills. ``log`` lets the call through and leaves a line in the kernel's log.
"""

INT = 0xFFFF_FFFF
"""Mask of an argument that the kernel declares as a 32-bit type.

The register has 64 bits, of which the kernel reads 32. A comparison of all 64 would be passed by
setting any higher bit: TIOCSTI | 1 << 32 still is TIOCSTI to the kernel, and no longer to the
filter. So every comparison here is masked to what the kernel reads.
"""

LONG = 0xFFFF_FFFF_FFFF_FFFF
"""Mask of an argument that the kernel declares as ``unsigned long``."""


@attrs.frozen(slots=True)
class Match:
    """``arguments[argument] & mask == value``."""

    argument: int
    mask: int
    value: int


Pattern = tuple[Match, ...]
"""Matches of which all must hold. Each argument may occur once (seccomp_rule_add(3))."""


@attrs.frozen(slots=True)
class Refusal:
    """An argument pattern that is refused."""

    when: Pattern
    answer: Answer = "refuse"


@attrs.frozen(slots=True, kw_only=True)
class ArgumentRule:
    """Conditions on the arguments of a call that is otherwise allowed.

    A call passes if no ``never`` pattern matches and, where ``only`` is not empty, one of its
    patterns does. Patterns of different answers never overlap, because libseccomp promises no
    order among them.
    """

    why: str
    only: tuple[Pattern, ...] = ()
    never: tuple[Refusal, ...] = ()


def equals(argument: int, *values: int) -> tuple[Pattern, ...]:
    """The 32-bit argument is one of ``values``."""
    return tuple((Match(argument, INT, value),) for value in values)


def without(argument: int, bits: int, mask: int = INT) -> tuple[Pattern, ...]:
    """None of ``bits`` is set."""
    return ((Match(argument, bits & mask, 0),),)


def other_than(argument: int, values: tuple[int, ...], bits: int) -> tuple[Pattern, ...]:
    """The 32-bit argument is below ``2**bits`` and none of ``values``.

    libseccomp takes one comparison an argument, so the complement of a set is written as the
    largest aligned blocks that hold none of its members.
    """

    def blocks(start: int, width: int) -> tuple[Pattern, ...]:
        inside = [value for value in values if start <= value < start + (1 << width)]
        if not inside:
            return ((Match(argument, INT & ~((1 << width) - 1), start),),)
        if width == 0:
            return ()
        half = 1 << (width - 1)
        return blocks(start, width - 1) + blocks(start + half, width - 1)

    return blocks(0, bits)


def any_of(argument: int, bits: int) -> tuple[Pattern, ...]:
    """At least one of ``bits`` is set."""
    single = (1 << place for place in range(64) if bits >> place & 1)
    return tuple((Match(argument, bit, bit),) for bit in single)


def both(*choices: tuple[Pattern, ...]) -> tuple[Pattern, ...]:
    """One pattern of every choice holds: the product of alternatives on different arguments."""
    product: tuple[Pattern, ...] = ((),)
    for patterns in choices:
        product = tuple(left + right for left in product for right in patterns)
    return product


def refusals(patterns: tuple[Pattern, ...], answer: Answer = "refuse") -> tuple[Refusal, ...]:
    """Each of ``patterns`` is refused with ``answer``."""
    return tuple(Refusal(pattern, answer) for pattern in patterns)
