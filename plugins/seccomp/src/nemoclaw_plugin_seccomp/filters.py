"""From judgements to a program, with libseccomp.

libseccomp knows one default answer and makes no promise about the order of rules. So the filter is
made of two libseccomp programs behind a gate (``bpf.py``): the first refuses argument patterns and
passes everything else on, the second allows calls and refuses everything else.
"""

from __future__ import annotations

import errno
import os
from fcntl import F_GETPIPE_SZ, F_SETPIPE_SZ, fcntl
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import bpf
from .refused import NUMBERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .judge import Judgement
    from .rules import Answer, Pattern

ARCHITECTURES = {"x86_64": "X86_64", "aarch64": "AARCH64"}
"""``os.uname().machine`` and pyseccomp's name of it."""

LIBRARY_MINIMUM = "libseccomp 2.5"
"""The first with CTL_OPTIMIZE, which orders calls as a binary tree instead of a list of hundreds
(measured: 0.19 against 0.31 ms to install)."""
_BINARY_TREE = 2
_LONGEST = bpf.MAX_INSTRUCTIONS * 8


class LibraryMissing(Exception):
    """libseccomp.so.2 cannot be loaded or is too old. The message says which."""


def library() -> Any:
    """pyseccomp.

    :raises LibraryMissing: it finds no libseccomp.
    """
    try:
        # By name, because the package has no types, and because it loads the C library on import.
        return import_module("pyseccomp")
    except (RuntimeError, OSError) as error:
        raise LibraryMissing(str(error)) from error


def compile_filter(judgements: Mapping[str, Judgement], machine: str, action: str) -> bytes:
    """The BPF program that gives these answers on ``machine``.

    Calls that only exist under another architecture are left out. Calls that neither libseccomp nor
    :data:`NUMBERS` knows, and numbers that nobody knows, are answered with ENOSYS.

    :param machine: a key of :data:`ARCHITECTURES`; need not be the machine that this runs on.
    :param action: the policy's ``action``, what becomes of refused calls.
    :raises LibraryMissing: there is no libseccomp.
    """
    return _compiled(library(), tuple(judgements.values()), machine, action)


@lru_cache(maxsize=16)
def _compiled(lib: Any, judgements: tuple[Judgement, ...], machine: str, action: str) -> bytes:
    """The same, once for the policies of a file that say the same of system calls."""
    values = _values(lib, action)
    arch = getattr(lib.Arch, ARCHITECTURES[machine])
    known: dict[int, Judgement] = {}
    answers: dict[int, int] = {}
    for judgement in judgements:
        call = judgement.call
        number = lib.resolve_syscall(arch, call)
        if number >= 0:
            known[number] = judgement
        elif call in NUMBERS and number == -1 and judgement.answer != "ENOSYS":
            # Too young for this libseccomp. Argument rules cannot be checked here.
            answers[NUMBERS[call]] = values["ENOSYS" if judgement.rule else judgement.answer]
    gate = bpf.gate(arch, known, answers, unknown=values["ENOSYS"], x32=machine == "x86_64")
    exceptions = _program(lib, arch, values["allow"], _exceptions(known.values(), values))
    listed = _program(lib, arch, values["refuse"], _listed(known.values(), values))
    return gate + bpf.join(exceptions, listed)


def _values(lib: Any, action: str) -> dict[Answer, int]:
    """SECCOMP_RET_* of each answer under the policy's ``action``."""
    kill = action == "kill"
    return {
        "allow": lib.ALLOW,
        "log": lib.LOG,
        "refuse": lib.KILL_PROCESS if kill else lib.ERRNO(errno.EPERM),
        "EAFNOSUPPORT": lib.KILL_PROCESS if kill else lib.ERRNO(errno.EAFNOSUPPORT),
        "EPROTONOSUPPORT": lib.KILL_PROCESS if kill else lib.ERRNO(errno.EPROTONOSUPPORT),
        "ENOSYS": lib.ERRNO(errno.ENOSYS),
    }


def _exceptions(
    judgements: Iterable[Judgement], values: Mapping[Answer, int]
) -> Iterable[tuple[int, str, Pattern]]:
    for judgement in judgements:
        if judgement.rule:
            for refusal in judgement.rule.never:
                yield values[refusal.answer], judgement.call, refusal.when


def _listed(
    judgements: Iterable[Judgement], values: Mapping[Answer, int]
) -> Iterable[tuple[int, str, Pattern]]:
    for judgement in judgements:
        if judgement.answer == "refuse":
            continue  # The program's default.
        patterns = judgement.rule.only if judgement.rule else ()
        for pattern in patterns or ((),):
            yield values[judgement.answer], judgement.call, pattern


def _program(lib: Any, arch: int, default: int, rules: Iterable[tuple[int, str, Pattern]]) -> bytes:
    """One libseccomp filter for one architecture, exported."""
    program = lib.SyscallFilter(default)
    if arch != lib.system_arch():
        program.add_arch(arch)
        program.remove_arch(lib.Arch.NATIVE)
    program.set_attr(lib.Attr.ACT_BADARCH, lib.KILL_PROCESS)
    try:
        program.set_attr(lib.Attr.CTL_OPTIMIZE, _BINARY_TREE)
    except OSError as error:
        raise LibraryMissing(f"the one here is older: {error}") from error
    for value, call, pattern in rules:
        comparisons = [
            lib.Arg(match.argument, lib.MASKED_EQ, match.mask, match.value) for match in pattern
        ]
        program.add_rule(value, call, *comparisons)
    return _export(program)


def _export(program: Any) -> bytes:
    """The program's bytes, by way of a pipe: it touches no file, and needs no memfd.

    Nobody reads while libseccomp writes, so the pipe must hold all of it.
    """
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as source:
        with os.fdopen(writer, "wb") as sink:
            if fcntl(writer, F_GETPIPE_SZ) < _LONGEST:
                fcntl(writer, F_SETPIPE_SZ, _LONGEST)
            program.export_bpf(sink)
        return source.read()
