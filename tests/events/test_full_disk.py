"""A full disk: nothing new begins, and what has begun is logged to its end."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from nemoclaw_hookspecs.errors import EventLogError

from nemoclaw_core.events.log import EventLog

PRELUDE = """
import json, os, resource, sys
from nemoclaw_hookspecs.errors import EventLogError
from nemoclaw_core.events import ocsf
from nemoclaw_core.events.log import EventLog
from nemoclaw_core.events.record import Context
from nemoclaw_core.events.verify import verify

base = sys.argv[1]
context = Context("box", policy="policies.toml:default", policy_digest="a" * 64)
answer = {}

def begin():
    return ocsf.process_launched(context, argv=["/bin/true"], pid=7, uid=1000)

def end():
    return ocsf.process_ended(
        context, argv=["/bin/true"], pid=7, code=0, signal=None, reason="exited", duration=1
    )

def attempt(call, *arguments):
    try:
        call(*arguments)
    except EventLogError as error:
        return str(error)
    return "done"

def told():
    result = verify(base + "/box/events.jsonl")
    answer.update(ok=result.ok, records=result.records, notes=result.notes)
    print(json.dumps(answer))
"""

FULL_DISK = """
def fill():
    with open(base + "/filler", "wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            pass

log = EventLog.open("box", directory=base)
log.append(begin())
fill()
began = 0
while attempt(log.append, begin()) == "done":
    began += 1
answer["refused"] = attempt(log.append, begin())
answer["began"] = began
answer["ends"] = [attempt(log.append, end()) for _ in range(10)]
answer["again"] = attempt(log.append, begin())
answer["another"] = attempt(lambda: EventLog.open("other", directory=base))
ends = 0
while attempt(log.append, end()) == "done":
    ends += 1
answer["expected"] = 1 + began + 10 + ends
answer["last"] = attempt(log.append, end())
os.unlink(base + "/filler")
answer["freed"] = attempt(log.append, begin())
log.close()
told()
"""

FILE_LIMIT = """
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
log = EventLog.open("box", directory=base)
count = 0
while attempt(log.append, end()) == "done":
    count += 1
answer["count"] = count
answer["refused"] = attempt(log.append, end())
log.close()
told()
"""


def run(command: list[str]) -> dict[str, Any]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def can_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    probe = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(probe, capture_output=True, timeout=30).returncode == 0


def test_a_full_disk_stops_what_begins_and_keeps_what_ends(tmp_path: Path) -> None:
    if not can_mount():
        pytest.skip("this host lets nobody make a small file system")
    base = tmp_path / "disk"
    base.mkdir()
    program = tmp_path / "program.py"
    program.write_text(PRELUDE + FULL_DISK)
    mount = f"mount -t tmpfs -o size=512k,mode=700 tmpfs {base}"
    script = f"{mount} && exec {sys.executable} {program} {base}"
    answer = run(["unshare", "-rm", "sh", "-c", script])
    assert "No space left" in answer["refused"]
    assert "free some disk space" in answer["refused"]
    # Some of the space that was reserved when the log was opened may be used by beginnings.
    assert answer["began"] < 40
    assert answer["ends"] == ["done"] * 10
    assert "No space left" in answer["again"]
    assert "No space left" in answer["another"]
    assert "No space left" in answer["last"]
    assert answer["freed"] == "done"
    assert answer["ok"]
    assert answer["records"] == answer["expected"] + 1
    assert answer["notes"] == []


def test_a_limit_of_file_size_takes_the_record_back(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PRELUDE + FILE_LIMIT)
    (tmp_path / "state").mkdir(mode=0o700)
    answer = run([sys.executable, str(program), str(tmp_path / "state")])
    assert "File too large" in answer["refused"]
    assert answer["count"] > 5
    assert answer["ok"]
    assert answer["records"] == answer["count"]
    assert answer["notes"] == []


def test_a_new_log_whose_head_cannot_be_noted_is_the_logs_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "state").mkdir(mode=0o700)
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(EventLogError, match="No space left"):
        EventLog.open("box", directory=str(tmp_path / "state"))
