"""Processes: outliving the sandbox, and the caller's terminal."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import time

from .registry import Stopped, attempt
from .stage import Stage, append

_ALIVE = "changed {work}/{name}"
_TYPING = "dev/tty/legacy_tiocsti>=1"
_DELAY = 0.7
"""Seconds after which a survivor proves that it lives; the sandbox ends at once."""


def _survive(stage: Stage) -> None:
    time.sleep(_DELAY)
    append(f"{stage.work}/{stage.name}")
    os._exit(0)


def _close_output() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)


@attempt("processes", effect=_ALIVE, alone=True, settle=1.0)
def outlive_as_child(stage: Stage) -> str:
    """Leave a child behind that goes on after the sandbox ended."""
    if not os.fork():
        _close_output()
        _survive(stage)
    return "left one"


@attempt("processes", effect=_ALIVE, alone=True, settle=1.0)
def outlive_as_daemon(stage: Stage) -> str:
    """Leave a daemon behind: a new session, a second fork, every signal ignored."""
    if not os.fork():
        os.setsid()
        if not os.fork():
            for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP, signal.SIGALRM}:
                signal.signal(number, signal.SIG_IGN)
            _close_output()
            _survive(stage)
        os._exit(0)
    os.wait()
    return "left one"


@attempt("processes", effect=_ALIVE, alone=True, settle=1.2)
def outlive_by_forking(stage: Stage) -> str:
    """Leave a process behind that forks and exits for ever, so that none is there to be killed."""
    if not os.fork():
        os.setsid()
        _close_output()
        end = time.monotonic() + _DELAY
        while time.monotonic() < end:
            if os.fork():
                os._exit(0)
        append(f"{stage.work}/{stage.name}")
        os._exit(0)
    return "left one"


@attempt("processes", effect="changed {base}/typed", stdin="terminal", host=_TYPING)
def type_into_terminal(stage: Stage) -> str:
    """Type a command into the caller's terminal with TIOCSTI."""
    for character in b"Z\n":
        fcntl.ioctl(0, 0x5412, bytes([character]))
    return "typed it"


@attempt("processes", effect="changed {base}/typed", stdin="terminal", host=_TYPING)
def type_by_high_bits(stage: Stage) -> str:
    """Type with a request number whose upper half is set, to slip past a filter (CVE-2019-7303)."""
    from .system import call

    for character in b"Z\n":
        call("ioctl", 0, 0x5412 | 1 << 32, bytes([character]))
    return "typed it"


@attempt("processes", effect="changed {base}/terminal")
def write_to_other_terminal(stage: Stage) -> str:
    """Write to another terminal of the same user, by its name in /dev/pts."""
    descriptor = os.open(stage.fact("terminal"), os.O_WRONLY | os.O_NOCTTY)
    os.write(descriptor, b"planted\n")
    return "wrote"


@attempt("processes")
def dump_core(stage: Stage) -> str:
    """Dump core, which hands memory to the host's handler."""
    arena = f"{stage.work}/{stage.name}"
    os.makedirs(arena)
    child = os.fork()
    if not child:
        os.chdir(arena)
        hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
        resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
        os.abort()
    _, status = os.waitpid(child, 0)
    if not os.WCOREDUMP(status):
        raise Stopped(f"no core dump, status {status:#x}")
    return "dumped core"
