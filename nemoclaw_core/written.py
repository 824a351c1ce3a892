"""What sandboxes could ever write, as each start notes it before its agent can write anything.

``writable-roots`` has lines ``guarded PATH`` or ``open PATH``: everything at or below PATH could be
written; in a guarded directory all but its own ``policies.toml``. It lies in the state directory of
whoever started the sandbox. What an agent of root's writes is root's, and everybody trusts that: so
root's notes lie in :data:`SHARED` as well, where every start reads them.

A directory that is mounted in several places is noted, and looked for, by each of its names.
Standard library's built-ins only: this is on the path of every start.
"""

from __future__ import annotations

import errno
import os
import stat
import sys

from nemoclaw_hookspecs.errors import NemoclawError

from . import notes
from .aliases import Aliases
from .state import ensure_private, state_dir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

FILE_NAME = "policies.toml"
"""The policy file that is looked for in the current directory."""
ROOTS = "writable-roots"
SHARED = "/var/lib/nemoclaw/writable-roots"
"""Root's notes, for everybody; where root has set ``XDG_STATE_HOME``, they are in that alone."""
_GUARDED, _OPEN = "guarded", "open"
# LANDLOCK_ACCESS_FS_WRITE_FILE, MAKE_REG and MAKE_SYM (linux/landlock.h): each gives a file of
# the agent's making a place.
_LANDLOCK_WRITE = 1 << 1 | 1 << 8 | 1 << 12


class Roots:
    """The directories that sandboxes could write, with what is said of each.

    :raises NemoclawError: nemoclaw's own notes cannot be relied on.
    """

    def __init__(self) -> None:
        self._marks = _noted(SHARED, _machine_root())
        for path, mark in _noted(_own(), (os.geteuid(),)).items():
            if self._marks.get(path) != _OPEN:
                self._marks[path] = mark
        self._aliases: Aliases | None = None

    def __bool__(self) -> bool:
        return bool(self._marks)

    def names(self, path: str) -> list[str]:
        """See :meth:`.Aliases.names`."""
        if self._aliases is None:
            self._aliases = Aliases()
        return self._aliases.names(path)

    def around(self, path: str) -> str | None:
        """The directory at or above an absolute path without links that a sandbox could write."""
        if not self._marks:
            return None
        # Nothing is above the root: by another name it would be noted as the root, too.
        for name in self.names(path) if path != "/" else ("/",):
            for each in (name, *above(name)):
                if each in self._marks:
                    return each
        return None

    def reaching(self, place: str) -> str | None:
        """The directory that an agent could write and in which ``place`` is something of its
        making: that is not so of the policy file that was guarded in it."""
        for name in self.names(place) if self._marks else ():
            if name in self._marks:
                return name
            folder, own = os.path.split(name)
            for each in above(name):
                mark = self._marks.get(each)
                if mark == _OPEN or (mark == _GUARDED and (each, own) != (folder, FILE_NAME)):
                    return each
        return None


def record_writable(plan: Mapping[str, Any]) -> tuple[str, ...]:
    """Note what the agent of a plan can write; call it before anything of the plan is started.

    :param plan: encoded, as :mod:`nemoclaw_core.seal` says.
    :returns: everything that was ever noted.
    :raises NemoclawError: it could not be noted, so the agent must not start.
    """
    own = _own()
    known = _noted(own, (os.geteuid(),))
    shared = _noted(SHARED, _machine_root())
    found = sorted(_writable(plan))
    added = _new(found, known)
    if added:
        ensure_private(state_dir())
        _add(own, added)
    if _is_shared() and (missing := _new(found, shared)):
        _share(missing)
    return tuple({**shared, **known, **{path: mark for mark, path in added}})


def above(path: str) -> Iterator[str]:
    """The directories above an absolute path, the nearest first."""
    while path.strip("/"):
        path = os.path.dirname(path)
        yield path


def _own() -> str:
    return os.path.join(state_dir(), ROOTS)


def _machine_root() -> tuple[int, int]:
    # The owner of `/` is the machine's root, also where a user namespace shows it as nobody.
    return (0, os.lstat("/").st_uid)


def _is_shared() -> bool:
    """Whether the caller is the machine's root, and keeps notes in the ordinary place."""
    elsewhere = os.environ.get("XDG_STATE_HOME", "").startswith("/")
    return os.geteuid() == 0 and os.lstat("/").st_uid == 0 and not elsewhere


def _noted(path: str, owners: tuple[int, ...]) -> dict[str, str]:
    """What is noted in a file; a directory that was open once is open."""
    marks: dict[str, str] = {}
    for mark, each in notes.lines(path, owners):
        if marks.get(each) != _OPEN:
            marks[each] = mark
    return marks


def _new(found: list[tuple[str, str]], known: Mapping[str, str]) -> list[tuple[str, str]]:
    """Lines for what is not known yet, by each of its names."""
    marks = dict(known)
    added: list[tuple[str, str]] = []
    aliases: Aliases | None = None
    # What holds others first: what is below a noted directory need not be noted again.
    for path, mark in found:
        if _is_noted(path, mark, marks):
            continue
        aliases = aliases or Aliases()
        for name in aliases.names(path):
            if not _is_noted(name, mark, marks):
                marks[name] = mark
                added.append((mark, name))
    return added


def _is_noted(path: str, mark: str, known: Mapping[str, str]) -> bool:
    if known.get(path) in (_OPEN, mark):
        return True
    return any(each in known for each in above(path))


def _add(path: str, added: list[tuple[str, str]]) -> None:
    try:
        notes.add(path, added)
    except OSError as error:
        raise NemoclawError(f"cannot be written: {error.strerror}", where=path) from None


def _share(added: list[tuple[str, str]]) -> None:
    folder = os.path.dirname(SHARED)
    try:
        try:
            os.mkdir(folder)
            os.chmod(folder, 0o755)  # Whatever the caller's umask.
        except FileExistsError:
            pass
        found = os.stat(folder)
        if found.st_uid != 0 or found.st_mode & 0o022 or not stat.S_ISDIR(found.st_mode):
            raise NemoclawError(
                f"{folder} is not a directory that only root can write",
                remedy=f"look inside, then: chown root {folder}; chmod go-w {folder}",
            )
        notes.add(SHARED, added, 0o644)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise NemoclawError(f"cannot be written: {error.strerror}", where=SHARED) from None
        # A container, mostly, with nobody else in it.
        sys.stderr.write(
            f"nemoclaw: {SHARED} is on a read-only file system: what other users start does not "
            "learn what this agent can write\n"
        )


def _writable(plan: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Paths of the host that the agent can write, and whether a policy file in them is guarded."""
    steps = plan["steps"]
    if any(step["op"] == "enter_view" for step in steps):
        masks = {step["target"] for step in steps if step["op"] == "mask"}
        for step in steps:
            if step["op"] != "bind_mount" or step["read_only"]:
                continue
            if step["kind"] in ("directory", "file"):
                own = f"{step['target'].rstrip('/')}/{FILE_NAME}"
                yield step["source"], _GUARDED if own in masks else _OPEN
        return
    # No view of its own: the agent meets the host's files, and Landlock says which.
    rulesets = [
        step
        for step in steps
        if step["op"] == "landlock_ruleset" and step["handled_fs"] & _LANDLOCK_WRITE
    ]
    for ruleset in rulesets:
        for rule in ruleset["rules"]:
            if rule["access"] & _LANDLOCK_WRITE and not rule["path"].startswith("/dev/"):
                yield rule["path"], _OPEN
    if not rulesets:
        yield plan["workdir"], _OPEN
