"""Who keeps a file locked, and how long that is worth waiting for.

A launcher locks the mount point of a mask for an instant when it removes one. Any other program may
keep the lock for good, as an agent can that has planted such a directory where the next start needs
one: waiting would only let it delay that start.
"""

from __future__ import annotations

import os

_LAUNCHER = b"nemoclaw-launch"
"""What a launcher calls itself, as far as the kernel keeps a name (proc_pid_comm(5))."""
_FOR_A_LAUNCHER = 1.0
"""Seconds: several may have their turn before this one."""
_FOR_WHO_IS_UNKNOWN = 0.1
"""Let go of meanwhile, or in the hands of a process that this one may not see."""
_FOR_ANYBODY_ELSE = 0.02


def patience(descriptor: int) -> tuple[float, str]:
    """Seconds to wait for whoever has locked a file with flock(2), and who that is, in words."""
    pid = _holder(os.fstat(descriptor))
    try:
        with open(f"/proc/{pid}/status", "rb", buffering=0) as file:
            status = dict(line.split(b":\t", 1) for line in file.read().splitlines() if line)
        name, numbers = status[b"Name"], status[b"NSpid"].split()
    except (OSError, KeyError, ValueError):
        return _FOR_WHO_IS_UNKNOWN, f"process {pid}" if pid else "another process"
    # Anybody can take that name. But no launcher lives in a PID namespace of a sandbox.
    if name == _LAUNCHER and len(numbers) == 1:
        return _FOR_A_LAUNCHER, f"another start of nemoclaw (process {pid})"
    return _FOR_ANYBODY_ELSE, f"process {pid} ({os.fsdecode(name)})"


def _holder(found: os.stat_result) -> int:
    """The process that holds the lock, as proc_locks(5) has it; 0 when it is not told."""
    place = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}".encode()
    with open("/proc/locks", "rb", buffering=0) as file:
        for line in file.readall().splitlines():
            fields = line.split()
            # "1: FLOCK ADVISORY WRITE 4711 fe:01:1234 0 EOF"; one that waits has "->" in front.
            if len(fields) > 5 and fields[1] == b"FLOCK" and fields[5] == place:
                return int(fields[4])
    return 0
