"""Why a command did not start, for a person: what was refused, the policy line, what to do.

Imported only when one did not. The host is looked at, because what it has and the sandbox does not
show is the commonest reason; an answer that would need a look inside is not guessed.
"""

from __future__ import annotations

import errno
import os
import stat

from nemoclaw_hookspecs.errors import (
    CommandNotExecutable,
    CommandNotFound,
    LayerFailed,
    NemoclawError,
    UsageError,
)

from ..events.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from .session import Command

_SHEBANG = 256
"""Bytes of a script's first line that the kernel reads (BINPRM_BUF_SIZE)."""
_MISSING = (errno.ENOENT, errno.ENOTDIR)


def not_started(
    plan: Mapping[str, Any], command: Command, number: int, text: str, path: str
) -> NemoclawError:
    """The error for a command that the sandbox's init could not start.

    :param number: errno of what failed.
    :param text: what it failed for: the command, as found inside, or the directory to start in.
    :param path: the caller's PATH, to say where the host has the command.
    """
    view = _View(plan)
    if text == command.workdir and text != command.argv[0]:
        return _unusable_workdir(view, text, number)
    if number in _MISSING:
        return _not_found(view, command, text, path)
    return _not_executable(view, command, number, text)


def unmaskable(step: Mapping[str, Any], number: int, text: str) -> LayerFailed:
    """The error for a mask whose mount point could not be made on the host.

    :param text: what the launcher reported; the mask's path is its end.
    """
    target = str(step["target"])
    if number == errno.EAGAIN:
        locked = printable(text.removesuffix(f": {target}"))
        return LayerFailed(
            f"the mount point that keeps {target} from being made is in use: {locked}",
            where=step["origin"] or None,
            remedy="end that process (`nemoclaw ps` lists the sandboxes, `nemoclaw stop NAME` ends "
            "one); or take the directory away, if it is empty (rmdir), and start again",
        )
    folder = os.path.dirname(target)
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    if number not in (errno.EACCES, errno.EPERM, errno.EROFS):
        return LayerFailed(
            f"the mount point of a mask could not be made at {target}: {os.strerror(number)}",
            where=step["origin"] or None,
            remedy=f"see what is at {target}, and start again",
        )
    return LayerFailed(
        f"{target} is denied and does not exist, so an empty directory had to be made there to "
        f"keep the agent from making it; you may not write in {folder} ({os.strerror(number)})",
        where=step["origin"] or None,
        remedy=f"name a --workdir that is yours, for instance a copy, or let the owner of {folder} "
        "give you write access",
    )


class _View:
    """What a plan shows of the host's files."""

    def __init__(self, plan: Mapping[str, Any]) -> None:
        self.steps: list[dict[str, Any]] = plan["steps"]
        self._whole = not any(step["op"] == "enter_view" for step in self.steps)

    def denial(self, path: str) -> str | None:
        """The policy line that denies a path; None when none does."""
        for step in self.steps:
            if step["op"] == "mask" and _covers(step["target"], path):
                return str(step["origin"])
        return None

    def reveal(self, path: str) -> str:
        """How a path that is denied could be shown: what to do about the line that denies it."""
        for step in self.steps:
            if step["op"] == "mask" and _covers(step["target"], path):
                if ".filesystem.deny" in str(step["origin"]):
                    return "take it out of deny"
                if str(step["origin"]).startswith("nemoclaw"):
                    return "it is nemoclaw's own, and no policy shows it: name another"
                return f"the plugin {step['plugin']} hides it, and no line of deny: see its page"
        return "name another"

    def shows(self, path: str) -> bool:
        """True when the agent finds the host's file at this path, which has no link in it."""
        if self.denial(path) is not None:
            return False
        return self._whole or any(
            step["op"] == "bind_mount" and _covers(step["source"], path) for step in self.steps
        )

    def origin(self, operation: str, **fields: Any) -> str | None:
        """The policy line behind the first such operation."""
        for step in self.steps:
            if step["op"] == operation and all(step.get(k) == v for k, v in fields.items()):
                return str(step["origin"]) or None
        return None


def _covers(outer: str, inner: str) -> bool:
    return outer in ("/", inner) or inner.startswith(outer + "/")


def _unusable_workdir(view: _View, folder: str, number: int) -> UsageError:
    real = os.path.realpath(folder)
    if number not in _MISSING:
        return UsageError(
            f"the command cannot start in {folder} inside the sandbox: {os.strerror(number)}",
            where=view.denial(real),
            remedy="see that the sandbox's user may enter it (ls -ld), or name another --workdir",
        )
    what = f"the directory to start in, {folder}, is not there inside the sandbox"
    if not os.path.isdir(real):
        return UsageError(what, remedy="it is no directory on the host either: check the path")
    denied = view.denial(real)
    if denied is not None:
        return UsageError(what, where=denied, remedy=f"{view.reveal(real)}; or start elsewhere")
    return UsageError(
        what,
        remedy=f'add "{real}" to filesystem.read or filesystem.write of the policy, or start '
        "elsewhere",
    )


def _not_found(view: _View, command: Command, text: str, path: str) -> CommandNotFound:
    program = command.argv[0]
    what = f"{text}: not found inside the sandbox"
    # A name that was looked up inside: there it exists, and what it needs does not.
    within = text != program and os.path.basename(text) == program
    place = text if within else _on_host(program, command.workdir, path)
    if place is None:
        there = "at this path on the host" if "/" in program else "on your PATH"
        return CommandNotFound(
            what, remedy=f"it is not {there} either: check the spelling, or install it"
        )
    real = os.path.realpath(place)
    denied = view.denial(place) or view.denial(real)
    if denied is not None:
        hidden = place if view.denial(place) else real
        return CommandNotFound(
            what, where=denied, remedy=f"{place} is denied there: {view.reveal(hidden)}"
        )
    if not view.shows(real):
        return CommandNotFound(
            what,
            remedy=f"on the host it is {real}, which the policy does not show: "
            f'add its folder to filesystem.read ("{_installed(real)}")',
        )
    if "/" not in program and not within:
        return CommandNotFound(
            what,
            remedy=f"{place} is there, and not on the PATH inside: name it so, or set PATH with "
            "process.environment.set",
        )
    interpreter = _interpreter(real)
    if interpreter is None:
        return CommandNotFound(
            what, remedy="a link on the way, or what loads it, is not in filesystem.read"
        )
    return CommandNotFound(
        f"{text}: what runs it, {interpreter}, is not found inside the sandbox",
        where=view.denial(os.path.realpath(interpreter)),
        remedy=f"mend the first line of {place}, or {_provide(view, interpreter)}",
    )


def _provide(view: _View, interpreter: str) -> str:
    """What would let the agent find an interpreter that it does not find."""
    real = os.path.realpath(interpreter)
    if not os.path.exists(real):
        return "install what it names: the host does not have it either"
    if view.denial(real) is not None:
        return view.reveal(real)
    if view.shows(real):
        return "see what the interpreter itself needs: a link on the way, or what loads it"
    return f'add "{_installed(real)}" to filesystem.read'


def _not_executable(view: _View, command: Command, number: int, text: str) -> CommandNotExecutable:
    place = os.path.normpath(os.path.join(command.workdir, text))
    real = os.path.realpath(place)
    what = f"{text}: {os.strerror(number)}"
    if number == errno.ENOEXEC:
        return CommandNotExecutable(
            what,
            remedy="a script needs a first line such as #!/bin/sh; a binary must be made for "
            f"{os.uname().machine}",
        )
    if number == errno.EAGAIN:
        return CommandNotExecutable(
            what,
            where=view.origin("rlimit", resource="nproc") or view.origin("join_cgroup"),
            remedy="the sandbox has as many processes as it may: raise process.max_processes",
        )
    if number != errno.EACCES:
        return CommandNotExecutable(what, remedy=f"see what {place} is (ls -l, file)")
    denied = view.denial(place) or view.denial(real)
    if denied is not None:
        hidden = place if view.denial(place) else real
        return CommandNotExecutable(what, where=denied, remedy=view.reveal(hidden))
    return _not_permitted(view, text, place, real)


def _not_permitted(view: _View, text: str, place: str, real: str) -> CommandNotExecutable:
    what = f"{text}: {os.strerror(errno.EACCES)}"
    try:
        found = os.stat(real)
        flags = os.statvfs(real).f_flag
    except OSError:
        # Made inside, in the sandbox's own /tmp for instance.
        return CommandNotExecutable(
            what, remedy=f"look at its mode and owner inside: nemoclaw exec ... ls -l {place}"
        )
    if stat.S_ISDIR(found.st_mode):
        return CommandNotExecutable(
            f"{text}: is a directory, not a program", remedy="name a program in it"
        )
    mode = f"{stat.S_IMODE(found.st_mode):o}"
    if not found.st_mode & 0o111:
        return CommandNotExecutable(
            what, remedy=f"it is no executable (mode {mode}): chmod +x {place}"
        )
    if flags & os.ST_NOEXEC:
        return CommandNotExecutable(
            what, remedy="its file system is mounted noexec: put it on another"
        )
    if not view.shows(real):
        return CommandNotExecutable(
            what, remedy=f'add its folder to filesystem.read ("{_installed(real)}")'
        )
    return CommandNotExecutable(
        what,
        where=view.origin("set_user"),
        remedy=f"it has mode {mode} and owner {found.st_uid}; the agent's user must be able to "
        "reach, read and execute it, or name another process.user",
    )


def _on_host(program: str, workdir: str, path: str) -> str | None:
    """Where the host has a command, by the name that was given; None when it has none."""
    if "/" in program:
        place = os.path.normpath(os.path.join(workdir, program))
        return place if os.path.lexists(place) else None
    for folder in path.split(":"):
        place = os.path.join(folder, program)
        if os.path.isabs(place) and os.access(place, os.X_OK) and os.path.isfile(place):
            return place
    return None


def _installed(program: str) -> str:
    """The folder that a policy has to show for a program: the one above its ``bin``."""
    folder = os.path.dirname(program)
    above = os.path.dirname(folder)
    # Never one that holds the home directory: that would show everything.
    shared = _covers(above, os.path.realpath(os.path.expanduser("~")))
    return above if os.path.basename(folder) in ("bin", "sbin") and not shared else folder


def _interpreter(script: str) -> str | None:
    """What a script's first line names; None when it is no script, or cannot be read."""
    try:
        with open(script, "rb", buffering=0) as file:
            line = file.read(_SHEBANG)
    except OSError:
        return None
    if not line.startswith(b"#!"):
        return None
    words = line[2:].partition(b"\n")[0].split()
    return printable(os.fsdecode(words[0])) if words else None
