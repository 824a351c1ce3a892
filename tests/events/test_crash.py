"""Writers that are killed, and writers that write at the same time, lose nothing."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nemoclaw_core.events.verify import verify

if TYPE_CHECKING:
    from .conftest import Shelf

WRITER = """
import os, sys
from nemoclaw_core.events import ocsf
from nemoclaw_core.events.log import EventLog
from nemoclaw_core.events.record import Context

directory, token, count, part = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
write = os.write
if part:
    # Many small writes in place of one: a kill then hits the middle of a record.
    os.write = lambda fd, data: write(fd, data[:part])
context = Context("box")
log = EventLog.open("box", directory=directory)
for number in range(count):
    record = ocsf.process_launched(context, argv=[f"/{token}-{number}"], pid=7, uid=1000)
    log.append(record)
    write(1, b"%d\\n" % number)
log.close()
"""


def writer(shelf: Shelf, token: str, count: int, part: int = 0) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", WRITER, str(shelf.directory), token, str(count), str(part)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def programs(shelf: Shelf) -> list[str]:
    return [record["process"]["name"] for record in shelf.records() if "process" in record]


@pytest.mark.parametrize("part", [0, 64], ids=["whole", "in parts"])
def test_a_killed_writer_loses_no_acknowledged_record(shelf: Shelf, part: int) -> None:
    chance = random.Random(part)
    acknowledged = []
    # Twelve kills; and if a record is written in parts, more until one has hit the middle.
    for attempt in range(200):
        if attempt >= 12 and (not part or "log-damaged" in shelf.codes()):
            break
        process = writer(shelf, f"t{attempt}", 1_000_000, part)
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(chance.uniform(0, 0.02))
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read()
        process.wait()
        process.stdout.close()
        complete = (first + rest).split(b"\n")[:-1]
        acknowledged += [f"t{attempt}-{int(number)}" for number in complete]
    shelf.open()  # removes what the last one left
    result = verify(str(shelf.log))
    assert result.problems == ()
    written = programs(shelf)
    assert len(acknowledged) > 12
    assert set(acknowledged) <= set(written)
    assert len(written) == len(set(written))
    assert [name for name in written if name in set(acknowledged)] == acknowledged
    # At most one record a kill was written and not acknowledged any more.
    assert len(written) - len(acknowledged) <= attempt
    if part:
        assert "log-damaged" in shelf.codes(), "no kill hit the middle of a record"


def test_writers_at_the_same_time_make_one_chain(shelf: Shelf) -> None:
    processes = [writer(shelf, f"w{number}", 200) for number in range(4)]
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    result = verify(str(shelf.log))
    assert result.problems == ()
    assert result.notes == ()
    written = programs(shelf)
    assert len(written) == 800
    for number in range(4):
        mine = [name for name in written if name.startswith(f"w{number}-")]
        assert mine == [f"w{number}-{each}" for each in range(200)]


def test_a_writer_killed_beside_another_costs_the_other_nothing(shelf: Shelf) -> None:
    steady = writer(shelf, "steady", 400)
    for attempt in range(5):
        process = writer(shelf, f"t{attempt}", 1_000_000, 64)
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.communicate()
    steady.communicate(timeout=60)
    assert steady.returncode == 0
    shelf.open()
    assert verify(str(shelf.log)).problems == ()
    mine = [name for name in programs(shelf) if name.startswith("steady-")]
    assert mine == [f"steady-{each}" for each in range(400)]


def test_the_reservation_of_a_killed_writer_is_given_back_by_the_next(
    shelf: Shelf, tmp_path: Path
) -> None:
    process = writer(shelf, "killed", 1_000_000)
    assert process.stdout is not None
    process.stdout.readline()
    process.kill()
    process.communicate()
    shelf.fill(1)
    size = shelf.log.stat().st_size
    assert shelf.log.stat().st_blocks * 512 <= size + 8192
