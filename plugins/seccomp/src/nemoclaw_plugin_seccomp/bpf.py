"""Classic BPF by hand: the gate in front of a filter, and the joining of two programs.

Instructions are (code, jt, jf, k), 8 bytes in the machine's order (linux/filter.h); the argument
is ``struct seccomp_data`` (linux/seccomp.h): nr at 0, arch at 4.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

LOAD, JUMP, EQUAL, GREATER, AT_LEAST, RETURN = 0x20, 0x05, 0x15, 0x25, 0x35, 0x06
NUMBER, ARCHITECTURE = 0, 4
KILL_PROCESS, ERRNO, ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
MAX_INSTRUCTIONS = 4096
"""BPF_MAXINSNS."""

X32 = 0x40000000
"""Bit of system call numbers of the x32 ABI, which shares AUDIT_ARCH_X86_64."""

_INSTRUCTION = struct.Struct("=HBBI")


def instruction(code: int, k: int, jt: int = 0, jf: int = 0) -> bytes:
    """One encoded instruction."""
    return _INSTRUCTION.pack(code, jt, jf, k)


def gate(
    audit_arch: int, known: Collection[int], answers: Mapping[int, int], *, unknown: int, x32: bool
) -> bytes:
    """The start of a filter: it ends in the calls that ``known`` names and answers all others.

    Another architecture (32-bit entry points) and x32 numbers end the process. libseccomp has one
    default answer for "this argument" and "this call", so unknown calls are told apart here.

    :param audit_arch: AUDIT_ARCH_* of the only architecture that is served.
    :param known: numbers that the program behind the gate judges.
    :param answers: SECCOMP_RET_* of single numbers that it does not.
    :param unknown: SECCOMP_RET_* of every other number.
    :param x32: whether the architecture has x32 numbers.
    """
    code = [
        instruction(LOAD, ARCHITECTURE),
        instruction(EQUAL, audit_arch, jt=1),
        instruction(RETURN, KILL_PROCESS),
        instruction(LOAD, NUMBER),
    ]
    if x32:
        # -1 is no x32 call: it is what a tracer leaves behind that skips a call.
        code += [
            instruction(AT_LEAST, X32, jf=3),
            instruction(EQUAL, 0xFFFFFFFF, jt=1),
            instruction(RETURN, KILL_PROCESS),
            instruction(RETURN, unknown),
        ]
    for number, value in sorted(answers.items()):
        code += [instruction(EQUAL, number, jf=1), instruction(RETURN, value)]
    for first, last in _gaps(known):
        code += [
            instruction(AT_LEAST, first, jf=2),
            instruction(GREATER, last, jt=1),
            instruction(RETURN, unknown),
        ]
    return b"".join(code)


def _gaps(numbers: Collection[int]) -> list[tuple[int, int]]:
    """Ranges, both ends included, of 32-bit numbers that are not in ``numbers``."""
    gaps = []
    start = 0
    for number in sorted(numbers):
        if number > start:
            gaps.append((start, number - 1))
        start = number + 1
    return [*gaps, (start, 0xFFFFFFFF)]


def join(first: bytes, second: bytes) -> bytes:
    """A program in which what ``first`` would allow is judged by ``second``.

    :raises ValueError: it would be longer than the kernel takes.
    """
    size = _INSTRUCTION.size
    total = (len(first) + len(second)) // size
    if total > MAX_INSTRUCTIONS:
        raise ValueError(f"{total} BPF instructions, the kernel takes {MAX_INSTRUCTIONS}")
    allow = instruction(RETURN, ALLOW)
    parts = [first[offset : offset + size] for offset in range(0, len(first), size)]
    for index, part in enumerate(parts):
        if part == allow:
            parts[index] = instruction(JUMP, len(parts) - index - 1)
    return b"".join(parts) + second
