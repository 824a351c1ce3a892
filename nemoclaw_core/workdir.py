"""Which directory an agent works in, and where its caller is.

Standard library's built-ins only: this is on the path of every start.
"""

from __future__ import annotations

import os

from nemoclaw_hookspecs.errors import UsageError

from .state import home
from .trust import FILE_NAME, Way

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
_NAME_IT = "if that directory is meant, name it: --workdir {}"
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


def _checked_current_dir(remedy: str = _NAME_IT, *, elsewhere: bool = True) -> str:
    """The current directory, if no agent can have led the user's shell there.

    :param remedy: for where ``{}`` stands for the current directory.
    :param elsewhere: look also at a way (``PWD``) that does not lead to the current directory; a
        program that changed its directory leaves one behind.
    :raises UsageError: the shell went there by a link that is not the user's, or by a way that an
        agent could change and that leads elsewhere now.
    """
    real = current_dir()
    name = os.environ.get("PWD", "")
    if not name.startswith("/") or "\0" in name:
        return real
    way = Way(name)
    if way.path == real:
        return _unplanted(name, way, remedy)
    # Somebody else's PWD says nothing; so only a way that an agent can have changed is no way.
    root = way.astray(real) if elsewhere else None
    if root is not None:
        from shlex import quote

        from .events.text import printable

        meant = printable(quote(real))
        raise UsageError(
            f"your shell went to {printable(name)}, which leads elsewhere than to the current "
            f"directory, {printable(real)}; an agent may have seen to that: a sandbox could write "
            f"to {printable(root)}",
            remedy=remedy.format(meant),
        )
    return real


def _unplanted(named: str, way: Way, remedy: str) -> str:
    """Where a way leads.

    :raises UsageError: it goes through a link that is not the user's.
    """
    found = way.planted()
    if found is not None:
        from shlex import quote

        from .events.text import printable

        link, reason = map(printable, found)
        raise UsageError(
            f"{printable(named)} leads to {printable(way.path)} through {link}, a symbolic link "
            f"that is not followed: {reason}",
            remedy=remedy.format(printable(quote(way.path))),
        )
    return way.path


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
    named = given if given.startswith("/") else os.path.join(_checked_current_dir(), given)
    path = _unplanted(named, Way(named), _NAME_IT)
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


def _has_policy(policy: str) -> bool:
    """Whether the current directory, or where the shell went, decides which policy is meant."""
    files = (FILE_NAME, os.path.join(os.environ.get("PWD", ""), FILE_NAME))
    return "/" in policy or ".toml" in policy or any(map(os.path.lexists, files))


def choose_workdir(given: str | None, policy: str | None = None) -> str:
    """The work directory: the one given, else the current one unless that would be too much.

    :param policy: what the user says of the policy. Unless that is a file by all of its path, it is
        looked up in the current directory, so that must be the user's choice as well.
    :raises UsageError: it is no directory, it is the root, or it was not named and the current
        directory is gone, the system's, the home directory, or holds it; or a link on the way, or
        to the current directory, may have been planted.
    """
    if given is not None:
        absent = current_dir_or_none() is None
        if given.startswith("/") and not absent and not (policy or "").startswith("/"):
            _checked_current_dir(
                f"./{FILE_NAME} is looked for in the current directory: cd {{}}, if that is meant, "
                "or name the policy's file with all of its path: --policy FILE",
                elsewhere=_has_policy(policy or ""),
            )
        return named_workdir(given)
    path = named_workdir(_checked_current_dir())
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
