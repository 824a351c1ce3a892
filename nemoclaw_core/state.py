"""Where nemoclaw keeps things: the XDG directories, owner-only, never inside a sandbox's reach.

Follows the XDG Base Directory Specification 0.8. Standard library's built-ins only: this is on the
path of every start.
"""

from __future__ import annotations

import os
import stat

from nemoclaw_hookspecs.errors import NemoclawError

_CONFIG, _CACHE, _STATE = ".config", ".cache", ".local/state"


def home() -> str:
    """The caller's home directory, as ``HOME`` or else the user database says.

    :raises NemoclawError: neither says an absolute path.
    """
    found = os.path.expanduser("~")
    if not found.startswith("/") or os.environ.get("HOME") == "":
        raise NemoclawError(
            "your home directory is not known: HOME is not an absolute path"
            if "HOME" in os.environ
            else f"your home directory is not known: HOME is not set, and user {os.getuid()} is "
            "not in /etc/passwd",
            remedy="set HOME to a directory that is yours: export HOME=/some/directory",
        )
    return found


def _base(variable: str, fallback: str) -> str:
    value = os.environ.get(variable, "")
    # The specification says that relative paths in these variables are to be ignored.
    if not value.startswith("/"):
        value = os.path.join(home(), fallback)
    return os.path.join(value, "nemoclaw")


def config_dir() -> str:
    """Directory of the user's own ``policies.toml``. Need not exist."""
    return _base("XDG_CONFIG_HOME", _CONFIG)


def settings_file() -> str:
    """The user's settings of this machine. Need not exist; see :mod:`nemoclaw_core.settings`."""
    return config_dir() + "/settings.toml"


def cache_dir() -> str:
    """Directory of compiled plans. Need not exist."""
    return _base("XDG_CACHE_HOME", _CACHE)


def state_dir() -> str:
    """Directory of event logs, one folder a sandbox. Need not exist."""
    return _base("XDG_STATE_HOME", _STATE)


def runtime_dir() -> str:
    """Directory of control sockets and of what is known about running sandboxes."""
    value = os.environ.get("XDG_RUNTIME_DIR", "")
    if value.startswith("/"):
        return os.path.join(value, "nemoclaw")
    return os.path.join(state_dir(), "run")


def private_dirs() -> tuple[str, ...]:
    """The directories of this start."""
    return (config_dir(), cache_dir(), state_dir(), runtime_dir())


def walled_dirs() -> tuple[str, ...]:
    """Every directory that no sandbox may see, whatever its policy says: those of this start, and
    those that a start without its XDG variables, or with the home that the user database says,
    would use. An agent that could write there would choose that start's policy.

    Not for the path of every start: it may ask the user database.
    """
    usual = [path for folder in _homes() for path in usual_dirs(folder)]
    return tuple(dict.fromkeys((*private_dirs(), *usual)))


def usual_dirs(folder: str) -> tuple[str, ...]:
    """The directories of whoever has that home and sets none of the XDG variables: of the user's
    own policies, of plans, and of notes and logs."""
    return tuple(os.path.join(folder, below, "nemoclaw") for below in (_CONFIG, _CACHE, _STATE))


def _homes() -> tuple[str, ...]:
    import pwd

    try:
        noted = pwd.getpwuid(os.getuid()).pw_dir
        if noted.startswith("/") and os.stat(noted).st_uid == os.getuid():
            return home(), noted
    except (KeyError, OSError):
        pass  # Nobody's home, in which nothing of this user's is looked for.
    return (home(),)


def unusable(error: OSError) -> NemoclawError | None:
    """What to tell a person when one of these directories could not be used; None if the error is
    about something else."""
    path = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else ""
    for folder in private_dirs():
        if path == folder or path.startswith(folder + "/"):
            return NemoclawError(
                f"{path} cannot be used: {error.strerror}",
                remedy="see what lies on the way to it (ls -ld), or set HOME, or the XDG "
                "directories, to a place that is yours",
            )
    return None


def _make(path: str) -> None:
    above = os.path.dirname(path)
    if not os.path.exists(above):
        _make(above)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        if not os.path.isdir(path):
            raise


def ensure_private(path: str) -> str:
    """Create ``path`` with mode 0700 if it is missing, and return it. So is what leads to it made,
    as the specification says, whatever the caller's umask.

    :raises NemoclawError: it cannot be made, belongs to somebody else, or others may write there.
    """
    try:
        _make(path)
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
