"""The mount table is read right, whatever names are in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemoclaw_core.launcher import wire
from nemoclaw_core.launcher.watch import _unescape
from nemoclaw_core.supervisor.launcher import Launcher

from .test_server import plan_for

NAMES = [
    b"re\rturn", b"line\nfeed", b"v\x0bt", b"f\x0cf", b"\x1c\x1d\x1e", b"next\xc2\x85line",
    b"\xe2\x80\xa8\xe2\x80\xa9", b"\x85\xff", b"sp ace\ttab", b"back\\slash", b"\\040", b"\\134040",
    b"\\012", b"ha#sh", b"#",
]  # fmt: skip


@pytest.fixture
def place() -> Iterator[str]:
    found = tempfile.mkdtemp(prefix="nemoclaw-watch-", dir="/var/tmp")
    yield found
    shutil.rmtree(found)


@pytest.mark.parametrize("name", NAMES)
def test_a_mask_below_an_odd_name_is_seen(place: str, name: bytes) -> None:
    """Seen as there: else the sandbox would end before it has begun."""
    work = Path(place, os.fsdecode(name))
    (work / ".git").mkdir(parents=True)
    launcher = Launcher.execute()
    launcher.prepare(plan_for(work))
    _, channel = launcher.spawn(f"watch{os.getpid()}")
    kinds = []
    while (report := wire.receive_report(channel)) is not None and wire.READY not in kinds:
        kinds.append(report[0])
        if report[0] == wire.READY:
            break
    channel.close()
    launcher.close()
    assert kinds[-1] == wire.READY


@given(st.binary(min_size=1).filter(lambda name: b"\0" not in name))
def test_what_the_kernel_escapes_is_undone(name: bytes) -> None:
    escaped = b"".join(b"\\%03o" % byte if byte in b" \t\n\\#" else bytes((byte,)) for byte in name)
    assert _unescape(escaped) == name


def test_the_kernel_escapes_as_this_test_believes(place: str) -> None:
    name = " \t\n\\#\r\x0b\x85"
    path = os.path.join(place, name)
    os.mkdir(path)
    script = 'mount -t tmpfs none "$0" && cat /proc/self/mounts'
    own = ["--mount"] if os.getuid() == 0 else ["--user", "--map-root-user", "--mount"]
    done = subprocess.run(["unshare", *own, "sh", "-c", script, path], capture_output=True)
    if done.returncode:
        pytest.skip(f"unshare cannot: {os.fsdecode(done.stderr)}")
    found = {_unescape(line.split(b" ")[1]) for line in done.stdout.split(b"\n") if line}
    assert os.fsencode(path) in found
