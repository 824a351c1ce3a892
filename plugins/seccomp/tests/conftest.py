"""Policies and hosts to compile for, an interpreter of BPF, and runs under a real filter."""

from __future__ import annotations

import errno
import os
import signal
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyseccomp  # type: ignore[import-untyped]
import pytest
from nemoclaw_hookspecs import Host, Policy, SeccompFilter
from nemoclaw_plugin_seccomp import apply_syscall
from nemoclaw_testing import install_filter, make_host, make_policy

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7, "i386": 0x40000003, "arm": 0x40000028}


@pytest.fixture(scope="session")
def host() -> Callable[..., Host]:
    """``host(**changes)``: a host with everything, less the changes."""
    return make_host


@pytest.fixture(scope="session")
def policy() -> Callable[..., Policy]:
    """``policy(**syscalls)``; ``gpu`` and ``network`` (a mode) set the other tables."""

    def make(gpu: bool = False, network: str = "none", **syscalls: Any) -> Policy:
        return make_policy(
            name="default",
            process={"gpu": gpu},
            network={"mode": network},
            syscalls=syscalls,
            plugins={"enable": ("mounts", "netns", "seccomp")},
        )

    return make


@pytest.fixture(scope="session")
def here() -> Host:
    """This machine, as far as the filter depends on it."""
    return make_host(machine=os.uname().machine)


def program(policy: Policy, host: Host) -> bytes:
    """The BPF of the one filter in the layer."""
    (operation,) = apply_syscall(policy, host).operations
    assert isinstance(operation, SeccompFilter)
    assert operation.architecture == host.machine
    return operation.bpf


@pytest.fixture(scope="session")
def compiled() -> Callable[[Policy, Host], bytes]:
    return program


def interpret(bpf: bytes, arch: int, number: int, arguments: tuple[int, ...] = ()) -> int:
    """What the kernel would return for a call: the classic BPF machine, as seccomp(2) uses it."""
    words = [word & 2**64 - 1 for word in (*arguments, *(0,) * 6)[:6]]
    data = struct.pack("=IIQ6Q", number & 2**32 - 1, arch, 0, *words)
    code: list[tuple[int, int, int, int]] = [*struct.iter_unpack("=HBBI", bpf)]
    scratch = [0] * 16
    at = accumulator = index = 0
    while True:
        op, jt, jf, k = code[at]
        at += 1
        if op == 0x20:  # LD W ABS
            (accumulator,) = struct.unpack_from("=I", data, k)
        elif op == 0x06:  # RET K
            return k
        elif op == 0x05:  # JA
            at += k
        elif op == 0x15:  # JEQ K
            at += jt if accumulator == k else jf
        elif op == 0x25:  # JGT K
            at += jt if accumulator > k else jf
        elif op == 0x35:  # JGE K
            at += jt if accumulator >= k else jf
        elif op == 0x45:  # JSET K
            at += jt if accumulator & k else jf
        elif op == 0x54:  # AND K
            accumulator &= k
        elif op == 0x02:  # ST
            scratch[k] = accumulator
        elif op == 0x60:  # LD MEM
            accumulator = scratch[k]
        elif op == 0x07:  # TAX
            index = accumulator
        elif op == 0x87:  # TXA
            accumulator = index
        else:
            raise AssertionError(f"no seccomp instruction: {op:#x}")


def spell(value: int) -> str:
    """A SECCOMP_RET_* value in words: allow, log, kill, or the errno's name."""
    if value & 0xFFFF0000 == 0x00050000:
        return errno.errorcode[value & 0xFFFF]
    return {0x7FFF0000: "allow", 0x7FFC0000: "log", 0x80000000: "kill"}[value]


@pytest.fixture(scope="session")
def answer() -> Callable[..., str]:
    """``answer(bpf, machine, call, *arguments)``: the filter's answer, in words.

    ``call`` is a name, or a number. ``machine`` may be a foreign entry point such as ``i386``.
    """

    def ask(bpf: bytes, machine: str, call: str | int, *arguments: int) -> str:
        if isinstance(call, str):
            table = {"x86_64": pyseccomp.Arch.X86_64, "aarch64": pyseccomp.Arch.AARCH64}
            number = pyseccomp.resolve_syscall(table[machine], call)
            assert number >= 0, f"{call} does not exist on {machine}"
        else:
            number = call
        return spell(interpret(bpf, ARCHITECTURES[machine], number, arguments))

    return ask


@pytest.fixture(scope="session")
def attempt() -> Callable[..., str]:
    """``attempt(bpf | None, action)``: run ``action`` in a child, under the filter if one is given.

    ``action()`` returns a word; an OSError gives its errno's name, a signal the signal's name.
    """

    def run(bpf: bytes | None, action: Callable[[], object]) -> str:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                if bpf is not None:
                    install_filter(bpf)
                try:
                    result = str(action())
                except OSError as error:
                    result = errno.errorcode.get(error.errno or 0, str(error))
                os.write(writer, result.encode())
                os._exit(0)
            except BaseException as error:
                os.write(writer, f"broken: {error!r}".encode())
                os._exit(1)
        os.close(writer)
        with open(reader, "rb") as pipe:
            result = pipe.read().decode()
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status):
            return signal.Signals(os.WTERMSIG(status)).name
        assert not result.startswith("broken"), result
        return result

    return run


@pytest.fixture(scope="session")
def sealed() -> Callable[..., str]:
    """``sealed(bpf, directory, *argv)``: what a program that must succeed prints inside."""

    def run(bpf: bytes, directory: Path, *argv: str) -> str:
        done = subprocess.run(
            argv,
            cwd=directory,
            env={**os.environ, "HOME": str(directory), "LC_ALL": "C"},
            preexec_fn=lambda: install_filter(bpf),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, f"{argv}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return run
