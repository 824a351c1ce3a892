"""Where nemoclaw keeps things: the XDG directories, owner-only, never inside a sandbox's reach.

Follows the XDG Base Directory Specification 0.8. Standard library's built-ins only: this is on the
path of every start.
"""

from __future__ import annotations

import os
import stat

from nemoclaw_hookspecs.errors import NemoclawError


def _base(variable: str, fallback: str) -> str:
    value = os.environ.get(variable, "")
    # The specification says that relative paths in these variables are to be ignored.
    if not value.startswith("/"):
        value = os.path.join(os.path.expanduser("~"), fallback)
    return os.path.join(value, "nemoclaw")


def config_dir() -> str:
    """Directory of the user's own ``policies.toml``. Need not exist."""
    return _base("XDG_CONFIG_HOME", ".config")


def cache_dir() -> str:
    """Directory of compiled plans. Need not exist."""
    return _base("XDG_CACHE_HOME", ".cache")


def state_dir() -> str:
    """Directory of event logs, one folder a sandbox. Need not exist."""
    return _base("XDG_STATE_HOME", ".local/state")


def runtime_dir() -> str:
    """Directory of control sockets and of what is known about running sandboxes."""
    value = os.environ.get("XDG_RUNTIME_DIR", "")
    if value.startswith("/"):
        return os.path.join(value, "nemoclaw")
    return os.path.join(state_dir(), "run")


def private_dirs() -> tuple[str, ...]:
    """Every directory that no sandbox may see, whatever its policy says."""
    return (config_dir(), cache_dir(), state_dir(), runtime_dir())


def ensure_private(path: str) -> str:
    """Create ``path`` with mode 0700 if it is missing, and return it.

    :raises NemoclawError: it cannot be made, belongs to somebody else, or others may write there.
    """
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
    except OSError as error:
        raise NemoclawError(
            f"{path} cannot be made: {error.strerror}",
            remedy="set HOME, or the XDG directories, to a place that is yours",
        ) from None
    found = os.stat(path)
    if found.st_uid != os.geteuid() or not stat.S_ISDIR(found.st_mode):
        raise NemoclawError(f"{path} is not a directory of yours", remedy=f"remove or chown {path}")
    if found.st_mode & 0o022:
        raise NemoclawError(
            f"{path} can be written by others", remedy=f"chmod go-w {path}, after looking inside"
        )
    return path
