"""Where nemoclaw keeps its own files the disk is full."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import pytest


def on_a_full_disk(cli: Any, variable: str) -> subprocess.CompletedProcess[bytes]:
    """Run nemoclaw with one of its directories on a small file system that is full."""
    if os.geteuid() != 0:
        pytest.skip("only root mounts a file system that the sandbox's own namespaces then see")
    disk = cli.home / "disk"
    disk.mkdir()
    # Directories can be made there (they take no block), and no byte be written.
    script = (
        f'mount -t tmpfs -o size=64k,mode=700 none "{disk}"; '
        f'head -c 64k /dev/zero > "{disk}/filler" && exec "$@"'
    )
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", *cli.program, "run", "--", "echo", "ran"],
        cwd=cli.work,
        env={**cli.environment, variable: str(disk)},
        capture_output=True,
        timeout=60,
    )


def test_without_room_for_the_cache_it_goes_on_without_one(cli: Any) -> None:
    done = on_a_full_disk(cli, "XDG_CACHE_HOME")
    assert (done.returncode, done.stdout) == (0, b"ran\n"), done.stderr
    assert b"Traceback" not in done.stderr


def test_without_room_for_the_log_nothing_starts_and_it_is_said(cli: Any) -> None:
    done = on_a_full_disk(cli, "XDG_STATE_HOME")
    assert (done.returncode, done.stdout) == (125, b""), done.stderr
    assert b"No space left on device" in done.stderr
    assert b"Traceback" not in done.stderr
