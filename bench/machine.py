"""What the figures were measured on."""

from __future__ import annotations

import ctypes
import os
import platform
import time

_LANDLOCK_CREATE_RULESET = 444
_LANDLOCK_CREATE_RULESET_VERSION = 1


def facts() -> dict[str, str]:
    """Kernel, processor, memory, Python, user, load: each a line that a reader can compare."""
    system = os.uname()
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "kernel": f"{system.sysname} {system.release} {system.machine}",
        "distribution": platform.freedesktop_os_release().get("PRETTY_NAME", "unknown"),
        "processor": f"{os.cpu_count()} x {_processor()}",
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') >> 30} GiB",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "user": "root" if os.geteuid() == 0 else f"uid {os.geteuid()}",
        "landlock": _landlock(),
        "load": " ".join(f"{value:.2f}" for value in os.getloadavg()),
    }


def noisy() -> bool:
    """True when other work takes so much of the machine that the figures deserve doubt."""
    return os.getloadavg()[0] > (os.cpu_count() or 1) / 2


def _processor() -> str:
    with open("/proc/cpuinfo") as lines:
        for line in lines:
            if line.startswith(("model name", "Model")):
                return line.split(":", 1)[1].strip()
    return "unknown"


def _landlock() -> str:
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(
        _LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), _LANDLOCK_CREATE_RULESET_VERSION
    )
    return f"ABI {version}" if version > 0 else "none"
