"""Run a function in a forked child: for what cannot be taken back, such as a seccomp filter."""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import NoReturn, ParamSpec, TypeVar

import pytest

P = ParamSpec("P")
R = TypeVar("R")

TIMEOUT = 30.0
"""Seconds that a child may take unless the caller says otherwise."""


class ForkedError(Exception):
    """The child raised something that cannot travel, or died. The text says what."""


def run_forked(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call ``function`` in a forked child and return what it returned.

    What it raised is raised here, with the child's traceback as its cause; so ``assert``,
    ``pytest.skip`` and ``pytest.fail`` work. The child has one thread, a process group of its own
    that is killed when it ends, and :data:`TIMEOUT` seconds.

    :raises ForkedError: the child died by a signal, or its result cannot be pickled.
    :raises TimeoutError: it took too long.
    """
    return run_forked_within(TIMEOUT, function, *args, **kwargs)


def run_forked_within(
    timeout: float, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs
) -> R:
    """As :func:`run_forked`, with a time limit in seconds."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()  # or the child would write it a second time
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _child(writing, lambda: function(*args, **kwargs))
    os.close(writing)
    with contextlib.suppress(OSError):
        os.setpgid(pid, pid)  # both sides, whichever is first
    data: bytes | None = None
    try:
        data = _read(reading, time.monotonic() + timeout)
    finally:
        os.close(reading)
        status = _end(pid, kill=data is None)
    if data is None:
        raise TimeoutError(f"{_name(function)} took more than {timeout:g} s in a forked child")
    if not data:
        how = -status if status < 0 else status
        kind = f"signal {signal.Signals(how).name}" if status < 0 else f"exit status {how}"
        raise ForkedError(f"the child of {_name(function)} ended with {kind} and no result")
    outcome, value, text = pickle.loads(data)
    if outcome == "skipped":
        pytest.skip(text)
    if outcome == "failed":
        pytest.fail(text)
    if outcome == "returned":
        return value  # type: ignore[no-any-return]
    cause = ForkedError(text)
    if value is None:
        raise cause
    raise value from cause


def _name(function: object) -> str:
    return getattr(function, "__qualname__", repr(function))


def _child(writing: int, call: Callable[[], object]) -> NoReturn:
    """Never returns into the caller's test session, whatever happens."""
    status = 1
    try:
        os.setpgid(0, 0)
        view = memoryview(_result(call))
        sys.stdout.flush()
        sys.stderr.flush()
        while view:
            view = view[os.write(writing, view) :]
        status = 0
    finally:
        os._exit(status)


def _result(call: Callable[[], object]) -> bytes:
    try:
        value = call()
    # pytest's own exceptions say that they live in `builtins`, where pickle does not find them.
    except pytest.skip.Exception as skip:
        return _written("skipped", None, str(skip))
    except pytest.fail.Exception as failure:
        return _written("failed", None, str(failure))
    except BaseException as error:
        return _written("raised", error, traceback.format_exc())
    return _written("returned", value, f"the result cannot be pickled: {value!r}")


def _written(outcome: str, value: object, text: str) -> bytes:
    try:
        data = pickle.dumps((outcome, value, text))
        pickle.loads(data)  # many exceptions can be written and not be read
    except Exception:
        return pickle.dumps(("raised", None, text))
    return data


def _read(descriptor: int, deadline: float) -> bytes | None:
    """Everything up to the end of file; None when the deadline passes first."""
    chunks: list[bytes] = []
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([descriptor], [], [], left)[0]:
            return None
        chunk = os.read(descriptor, 1 << 16)
        if not chunk:
            return b"".join(chunks)
        chunks.append(chunk)


def _end(pid: int, *, kill: bool) -> int:
    """Wait for the child, and end whatever else is in its process group."""
    if kill:
        os.kill(pid, signal.SIGKILL)
    # Left unreaped until its group is gone, so that the number cannot be somebody else's.
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
