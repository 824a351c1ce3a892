"""The logs that there are: listing them, and removing old ones."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import attrs
from nemoclaw_hookspecs.errors import EventLogError, UsageError

from ..names import check_name
from ..state import state_dir
from . import chain, cursor, locks
from .folder import HEAD, LOG, OUTPUT, open_file, open_folder

_DAY = 86400.0
_MOMENT = 60.0


class LostLog(EventLogError):
    """A sandbox's folder has the note of its last record, and no log; ``where`` is the log."""


@attrs.frozen(slots=True, kw_only=True)
class Entry:
    """One sandbox's log."""

    name: str
    path: str
    """Of the log itself."""
    modified: float
    """When the last record was written: seconds since the epoch."""
    records: int
    running: bool
    """True while somebody has the log open for writing."""


def entries(directory: str | None = None, strays: list[EventLogError] | None = None) -> list[Entry]:
    """Every log in ``directory`` (``state_dir()`` if None), the one written last first.

    :param strays: gets what lies there and is no log, or not the caller's alone, or has lost its
        log.
    :raises EventLogError: there is such a thing, and ``strays`` is None.
    """
    found = []
    for name in sandboxes(directory):
        try:
            entry = _look(name, directory)
        except EventLogError as error:
            if strays is None:
                raise
            strays.append(error)
            continue
        if entry is not None:
            found.append(entry)
    return sorted(found, key=lambda entry: entry.modified, reverse=True)


def _look(name: str, directory: str | None) -> Entry | None:
    """A sandbox's log; None when there is none, or it was removed since it was listed."""
    try:
        folder, path = open_folder(name, directory=directory)
    except FileNotFoundError:
        return None
    try:
        log = open_file(folder, LOG, os.O_RDONLY, f"{path}/{LOG}")
    except FileNotFoundError:
        # The log is made before its head, and removed after it.
        if HEAD in os.listdir(folder):
            raise LostLog(
                f"the log of {name} is gone, and its {HEAD} is still there",
                where=f"{path}/{LOG}",
                remedy=f"`nemoclaw logs {name} --verify` says what is missing",
            ) from None
        return None
    finally:
        os.close(folder)
    try:
        return _entry(name, f"{path}/{LOG}", log)
    finally:
        os.close(log)


def _entry(name: str, path: str, log: int) -> Entry:
    state = os.fstat(log)
    last = chain.last_line(log, state.st_size)
    place = chain.place(last[0]) if last else None
    return Entry(
        name=name,
        path=path,
        modified=state.st_mtime,
        records=place[0] if place else 0,
        running=locks.is_opened(log),
    )


def sandboxes(directory: str | None = None) -> Iterator[str]:
    """Every name that a sandbox's folder can have, of what is in ``directory``."""
    try:
        found = sorted(os.listdir(state_dir() if directory is None else directory))
    except FileNotFoundError:
        return
    for name in found:
        try:
            yield check_name(name)
        except UsageError:
            continue  # not a sandbox's: the folder of control sockets, or a stranger's file


def prune(
    days: float, directory: str | None = None, name: str | None = None
) -> Iterator[tuple[str, str]]:
    """Remove the folders of sandboxes that ended, and wrote nothing for ``days``.

    A folder in which something lies that is not nemoclaw's stays, and so does one with events that
    a plugin has not taken yet.

    :param name: the sandbox whose folder alone is looked at; None = every one.
    :returns: the sandbox of each folder that is old enough, and why it stays; empty if it is gone.
    """
    for sandbox in sandboxes(directory) if name is None else (name,):
        try:
            folder, path = open_folder(sandbox, directory=directory)
        except FileNotFoundError:
            continue  # removed since it was listed
        except EventLogError as error:
            yield sandbox, error.what
            continue
        try:
            if (kept := _remove(folder, path, time.time() - days * _DAY)) is not None:
                yield sandbox, kept
        finally:
            os.close(folder)


def _remove(folder: int, path: str, before: float) -> str | None:
    """Remove a folder; None when it is not old enough, or in use."""
    try:
        log = open_file(folder, LOG, os.O_RDWR, f"{path}/{LOG}")
    except FileNotFoundError:
        # A sandbox that is just being started has a folder before it has a log.
        return _remove_locked(folder, path, min(before, time.time() - _MOMENT))
    except EventLogError as error:
        return error.what
    try:
        # Whoever opens the log from now on waits, and then finds that it was removed.
        if not locks.try_lock(log, locks.OPENED, locks.EXCLUSIVE):
            return None
        return _remove_locked(folder, path, before)
    finally:
        os.close(log)


def _remove_locked(folder: int, path: str, before: float) -> str | None:
    files = os.listdir(folder)
    states = [os.stat(file, dir_fd=folder, follow_symlinks=False) for file in files]
    if any(state.st_mtime > before for state in (*states, os.fstat(folder))):
        return None
    waiting = sorted(file for file in files if file.startswith(cursor.PREFIX))
    if waiting:
        return "events wait for " + ", ".join(file[len(cursor.PREFIX) :] for file in waiting)
    strange = sorted(set(files) - {LOG, HEAD, OUTPUT})
    if strange:
        return f"{path}/{strange[0]} is not nemoclaw's"
    # The log last: as long as it is there, the folder is listed.
    for file in sorted(files, key=lambda name: name == LOG):
        os.unlink(file, dir_fd=folder)
    os.rmdir(path)
    return ""
