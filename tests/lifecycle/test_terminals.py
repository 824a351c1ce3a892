"""Terminals that nobody reads, and terminals that are not one's own."""

from __future__ import annotations

import os
import subprocess
import threading
import time
import tty
from collections.abc import Iterator
from typing import Any

import pytest

FLOOD = "import os\nwhile True: os.write(1, b'B' * 65536)"


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Master and slave."""
    master, slave = os.openpty()
    tty.setraw(slave)
    yield master, slave
    os.close(master)
    os.close(slave)


def test_the_time_limit_holds_when_nobody_reads_the_terminal(
    cli: Any, terminal: tuple[int, int]
) -> None:
    _, slave = terminal
    began = time.monotonic()
    process = cli.start(
        "run", "--timeout", "1", "--", "python3", "-c", FLOOD, stdin=slave, stdout=slave
    )
    assert process.wait(30) == 124
    assert time.monotonic() - began < 15


def test_nor_does_it_keep_a_sandbox_from_being_stopped(cli: Any, terminal: tuple[int, int]) -> None:
    _, slave = terminal
    process = cli.start(
        "run", "--name", "loud", "--", "python3", "-c", FLOOD, stdin=slave, stdout=slave
    )
    time.sleep(1)  # The terminal is full by then.
    assert cli.run("stop", "--grace", "0s", "loud").returncode == 0
    assert process.wait(30) != 0


def test_all_output_is_shown_to_a_slow_reader(cli: Any, terminal: tuple[int, int]) -> None:
    master, slave = terminal
    process = cli.start(
        "run", "--", "seq", "50000", stdin=slave, stdout=slave, stderr=subprocess.PIPE
    )
    shown = b""

    def look() -> None:
        nonlocal shown
        expected = sum(len(str(number)) + 2 for number in range(1, 50_001))
        while len(shown) < expected:
            time.sleep(0.001)
            shown += os.read(master, 4096)

    reader = threading.Thread(target=look, daemon=True)
    reader.start()
    assert process.wait(60) == 0
    reader.join(30)
    assert shown.split() == [b"%d" % number for number in range(1, 50_001)]


def test_a_terminal_of_another_session_will_do(cli: Any, terminal: tuple[int, int]) -> None:
    master, slave = terminal
    process = cli.start(
        "run", "--", "sh", "-c", "test -t 0 && echo ok", stdin=slave, stdout=slave, stderr=slave,
        start_new_session=True,
    )  # fmt: skip
    assert process.wait(30) == 0
    assert os.read(master, 1000).strip() == b"ok"
