"""Where a sink stands in a log: a file beside it, there for as long as events wait for the sink."""

from __future__ import annotations

import os

from . import locks
from .folder import open_file

PREFIX = "sink."
"""Of the file's name; the rest is the plugin's."""


class Cursor:
    """How much of one log a sink has taken. Belongs to one courier at a time, by a lock.

    The kernel drops the lock when the process ends, so that another can go on from there.
    """

    def __init__(self, descriptor: int, path: str, offset: int) -> None:
        self._descriptor = descriptor
        self._path = path
        self.offset = offset

    @classmethod
    def claim(cls, folder: int, path: str, sink: str, *, start: int | None) -> Cursor | None:
        """Take the cursor of a sink; None if another courier has it.

        :param folder: descriptor of the sandbox's folder, and ``path`` its path.
        :param start: where to begin if there is none; None = then there is nothing to do.
        :raises EventLogError: its file is not a regular one of the caller's alone.
        :raises OSError: it cannot be made.
        """
        name = PREFIX + sink
        where = f"{path}/{name}"
        create = 0 if start is None else os.O_CREAT
        try:
            descriptor = open_file(folder, name, os.O_RDWR | create, where)
        except FileNotFoundError:
            return None
        try:
            free = locks.try_lock(descriptor, locks.APPENDING, locks.EXCLUSIVE)
            # Without a name left, its last owner was done with it, and removed it.
            if free and os.fstat(descriptor).st_nlink:
                written = os.pread(descriptor, 21, 0)
                if written or start is None:
                    # What is no number was cut short by a crash: everything is offered again.
                    return cls(descriptor, where, int(written) if written.isdigit() else 0)
                found = cls(descriptor, where, start)
                found.advance(start)
                return found
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return None

    def advance(self, offset: int) -> None:
        """Note that the sink took everything before ``offset``."""
        os.pwrite(self._descriptor, b"%020d" % offset, 0)
        self.offset = offset

    def release(self) -> None:
        """Leave the rest to whoever claims it next."""
        os.close(self._descriptor)

    def finish(self) -> None:
        """Nothing waits any more: remove it."""
        os.unlink(self._path)
        os.close(self._descriptor)
