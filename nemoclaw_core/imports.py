"""Where Python looks for nemoclaw's modules, and what keeps an agent's files out of there.

An agent that could write a module which a later start imports would be out of its walls then. What
code is imported from is a wall (:mod:`nemoclaw_core.policy.own_code`). But ``.pth`` files of the
environment may add directories in which somebody works: the sources of an editable installation, of
nemoclaw itself or of a project beside it. The command takes those off the path as soon as nothing
more has to come from them: a module that the standard library merely tries to import, and that is
nowhere, must not be found in a project.

Standard library's built-ins only: this is on the path of every start.
"""

from __future__ import annotations

import os
import sys

import nemoclaw_hookspecs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.metadata import Distribution

CORE = os.path.dirname(os.path.abspath(__file__))
"""The package of nemoclaw itself."""
CONTRACT = os.path.dirname(os.path.abspath(nemoclaw_hookspecs.__file__ or ""))
"""The package of the contract with plugins."""
LIBRARY = os.path.dirname(os.path.abspath(os.__file__))
"""The standard library."""
_SITES = ("/site-packages", "/dist-packages", "/lib-dynload")

_left_out: list[str] = []
_settled = False


def settle() -> None:
    """Take directories of sources off the path. For a process that is nemoclaw's command alone."""
    global _settled
    _settled = True
    prefixes = tuple(f"{each.rstrip('/')}/" for each in prefixes_of_python())
    kept = {*named_by_user(), os.path.dirname(CONTRACT)}
    for each in sys.path[:]:
        if each not in kept and not each.startswith(prefixes) and not is_pythons(each):
            sys.path.remove(each)
            if each.startswith("/"):
                _left_out.append(each)


def let_in(distribution: Distribution) -> None:
    """Look again in the directories that a distribution put on the path: those that the ``.pth``
    files which it lists add. Another project's directory may hold a module of the same name."""
    for file in (distribution.files or ()) if _left_out else ():
        if file.suffix != ".pth":
            continue
        path = os.path.abspath(str(distribution.locate_file(file)))
        for line in _lines(path):
            folder = os.path.abspath(os.path.join(os.path.dirname(path), line))
            if folder in _left_out:
                _left_out.remove(folder)
                sys.path.append(folder)


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return [line.rstrip() for line in file]
    except OSError:
        # Listed and not there, or closed to us: the interpreter read nothing from it either.
        return []


def is_settled() -> bool:
    """True in the command: all that is on the path is nemoclaw's, and not a program's that uses
    it."""
    return _settled


def left_out() -> tuple[str, ...]:
    """Directories that are on the path when the interpreter starts, and not any more."""
    return tuple(_left_out)


def is_pythons(entry: str) -> bool:
    """True for directories of the path in which nothing but installed modules lie."""
    in_library = entry == LIBRARY or entry.startswith(f"{LIBRARY}/")
    return in_library or entry.endswith(_SITES) or entry.endswith(".zip")


def prefixes_of_python() -> tuple[str, ...]:
    """Where the environment and the interpreter are installed."""
    return tuple(
        dict.fromkeys((sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix))
    )


def named_by_user() -> tuple[str, ...]:
    """The directories of ``PYTHONPATH`` that are on the path."""
    told = "" if sys.flags.ignore_environment else os.environ.get("PYTHONPATH", "")
    # An absolute path needs no current directory, which may be gone.
    found = (os.path.abspath(each) for each in told.split(":") if each.startswith("/"))
    return tuple(each for each in found if each in sys.path)


def script() -> str:
    """The path by which the command was started; empty in a program that uses nemoclaw."""
    path = sys.argv[0] if sys.argv else ""
    if not _settled and os.path.basename(path) != "nemoclaw":
        return ""
    try:
        return os.path.abspath(path)
    except OSError:  # The current directory is gone.
        return ""


def identity() -> tuple[str, ...]:
    """What tells one installation of nemoclaw from another, and one way to start it."""
    return (
        CORE, CONTRACT, sys.executable or "", *prefixes_of_python(), script(),
        sys.pycache_prefix or "", str(_settled), *sys.path, "", *_left_out,
    )  # fmt: skip
