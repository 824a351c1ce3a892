"""Which directory an agent works in, and where its caller is.

Standard library's built-ins only: this is on the path of every start.
"""

from __future__ import annotations

import os

from nemoclaw_hookspecs.errors import UsageError

from .state import home
from .trust import follow, under_agents

# Directories that somebody may happen to be in, and that no project is kept in.
_SHARED = frozenset(
    [
        "/bin",
        "/boot",
        "/dev",
        "/etc",
        "/home",
        "/lib",
        "/lib32",
        "/lib64",
        "/libx32",
        "/media",
        "/mnt",
        "/opt",
        "/proc",
        "/root",
        "/run",
        "/sbin",
        "/srv",
        "/sys",
        "/tmp",
        "/usr",
        "/usr/local",
        "/var",
        "/var/tmp",
    ]
)
_SYSTEM = ("/boot/", "/dev/", "/etc/", "/proc/", "/sys/", "/usr/bin/", "/usr/lib/", "/usr/sbin/")


def home_dir() -> str:
    """The caller's home directory, as a path without symbolic links.

    :raises NemoclawError: it is not known.
    """
    return os.path.realpath(home())


def current_dir() -> str:
    """The current directory, as a path without symbolic links.

    :raises UsageError: it was removed, or there is no path to it.
    """
    found = current_dir_or_none()
    if found is None:
        raise UsageError(
            "the current directory does not exist any more",
            remedy="cd to one that does, or name the work directory: --workdir DIR, with all of "
            "its path",
        )
    return found


def current_dir_or_none() -> str | None:
    """As :func:`current_dir`; None where there is none."""
    try:
        found = os.getcwd()
    except OSError:
        return None
    # Outside of this process's root: "(unreachable)/..." (getcwd(2)).
    return found if found.startswith("/") else None


def _named_current_dir() -> str:
    """The current directory by the name under which the user's shell went there, if that is so."""
    real = current_dir()
    name = os.environ.get("PWD", "")
    try:
        is_it = name.startswith("/") and os.path.samefile(name, ".")
    except (OSError, ValueError):
        is_it = False
    if is_it:
        return name
    root = under_agents(name) if name.startswith("/") and "\0" not in name else None
    # To where an agent could write before, none can lead astray.
    if root is not None and under_agents(real) is None:
        from shlex import quote

        from .events.text import printable

        meant = printable(quote(real))
        raise UsageError(
            f"your shell went to {printable(name)}, which leads elsewhere than to the current "
            f"directory, {printable(real)}; an agent may have seen to that: a sandbox could write "
            f"to {printable(root)}",
            remedy=f"if the current directory is meant, name it: --workdir {meant}",
        )
    return real


def _followed(way: str) -> str:
    """Where a way leads.

    :raises UsageError: it goes through a link that is not the user's.
    """
    path, found = follow(way)
    if found is not None:
        from shlex import quote

        from .events.text import printable

        link, reason = map(printable, found)
        raise UsageError(
            f"{printable(way)} leads to {printable(path)} through {link}, a symbolic link that is "
            f"not followed: {reason}",
            remedy=f"if that directory is meant, name it: --workdir {printable(quote(path))}",
        )
    return path


def named_workdir(given: str) -> str:
    """A work directory that somebody has named, as a path without symbolic links.

    :raises UsageError: it is empty, no directory, the root, closed to the caller, or behind a link
        that an agent or somebody else could have made.
    """
    if not given:
        raise UsageError(
            "the work directory that was named is empty",
            remedy="name a directory; a variable of your shell may not be set",
        )
    if "\0" in given:
        raise UsageError("a path cannot hold a NUL byte", remedy="name a directory")
    way = given if given.startswith("/") else os.path.join(_named_current_dir(), given)
    path = _followed(way)
    try:
        os.stat(f"{path}/.")
    except PermissionError:
        raise UsageError(
            f"you may not enter {path}", remedy="name a --workdir that is yours (ls -ld)"
        ) from None
    except OSError:
        raise UsageError(f"{path} is not a directory", remedy="name an existing one") from None
    if path == "/":
        raise UsageError("the root cannot be the work directory", remedy="name a --workdir")
    return path


def choose_workdir(given: str | None) -> str:
    """The work directory: the one given, else the current one unless that would be too much.

    :raises UsageError: it is no directory, it is the root, or it was not named and the current
        directory is gone, the system's, the home directory, or holds it; or a link on the way may
        have been planted.
    """
    if given is not None:
        return named_workdir(given)
    path = named_workdir(_named_current_dir())
    home = home_dir()
    if home == path or home.startswith(path + "/"):
        raise UsageError(
            f"{path} holds your home directory: the agent could change everything in it",
            remedy=f"start in a project's folder, or say --workdir {path} if you mean it",
        )
    if path in _SHARED or f"{path}/".startswith(_SYSTEM):
        raise UsageError(
            f"{path} belongs to the system: the agent could change everything in it",
            remedy=f"start in a project's folder, or say --workdir {path} if you mean it",
        )
    return path
