"""Claims about runs in a forked child."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

import pytest
from nemoclaw_hookspecs import PluginError
from nemoclaw_testing import ForkedError, run_forked
from nemoclaw_testing.forked import run_forked_within

PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS = 38, 39


def no_new_privs() -> int:
    return int(ctypes.CDLL(None).prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0))


def test_what_cannot_be_undone_stays_in_the_child(forked: Callable[..., Any]) -> None:
    def restrict() -> int:
        ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        return no_new_privs()

    before = no_new_privs()
    assert forked(restrict) == 1
    assert no_new_privs() == before


def test_arguments_and_results_travel() -> None:
    big = {"data": b"x" * 3_000_000}

    def swap(value: object, *, key: int) -> tuple[int, object]:
        return key, value

    assert run_forked(swap, big, key=1) == (1, big)


def test_an_exception_is_raised_here_with_the_childs_traceback() -> None:
    def explode() -> NoReturn:
        raise LookupError("lost")

    with pytest.raises(LookupError, match="lost") as caught:
        run_forked(explode)
    assert isinstance(caught.value.__cause__, ForkedError)
    assert "explode" in str(caught.value.__cause__)


def test_assertions_and_skips_work() -> None:
    def fail() -> None:
        assert os.getpid() == 0

    with pytest.raises(AssertionError):
        run_forked(fail)
    with pytest.raises(pytest.skip.Exception):
        run_forked(pytest.skip, "not here")
    with pytest.raises(pytest.fail.Exception, match="broken"):
        run_forked(pytest.fail, "broken")


def test_an_exception_that_cannot_travel_is_told() -> None:
    def explode() -> NoReturn:
        raise PluginError("broken", plugin="toy")  # needs a keyword, so it cannot be unpickled

    with pytest.raises(ForkedError, match="PluginError: broken"):
        run_forked(explode)
    with pytest.raises(ForkedError, match="lambda"):
        run_forked(lambda: lambda: None)


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda: os._exit(7), "exit status 7"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "SIGKILL"),
    ],
)
def test_a_child_that_dies_is_an_error(function: Callable[[], None], told: str) -> None:
    with pytest.raises(ForkedError, match=told):
        run_forked(function)


def test_the_end_of_the_child_does_not_end_the_session() -> None:
    with pytest.raises(SystemExit):
        run_forked(sys.exit, 0)


def test_a_child_that_hangs_is_killed() -> None:
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=r"0\.2 s"):
        run_forked_within(0.2, time.sleep, 60)
    assert time.monotonic() - began < 5


def test_nothing_of_the_child_is_left_behind() -> None:
    def leave_something() -> int:
        return subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL).pid

    left = run_forked(leave_something)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and _alive(left):
        time.sleep(0.01)
    assert not _alive(left)


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_the_child_has_one_thread() -> None:
    release = threading.Event()
    thread = threading.Thread(target=release.wait)
    thread.start()
    try:
        assert run_forked(lambda: len(os.listdir("/proc/self/task"))) == 1
    finally:
        release.set()
        thread.join()


def test_output_is_written_once(capfd: pytest.CaptureFixture[str]) -> None:
    print("parent ", end="")
    run_forked(print, "child")
    assert capfd.readouterr().out == "parent child\n"


def test_no_descriptor_is_left_open() -> None:
    before = len(os.listdir("/proc/self/fd"))
    run_forked(int)
    with pytest.raises(ForkedError):
        run_forked(os._exit, 1)
    assert len(os.listdir("/proc/self/fd")) == before
