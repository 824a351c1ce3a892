"""One log on its way to one sink: what waits in it, and from where."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from nemoclaw_hookspecs.errors import EventLogError

from ..state import state_dir
from . import locks
from .cursor import PREFIX, Cursor
from .folder import LOG, open_file, open_folder

if TYPE_CHECKING:
    from .log import EventLog


class Stream:
    """The events of one log that wait for one sink. Made by :meth:`of` and :meth:`left_behind`."""

    def __init__(self, sandbox: str, sink: str, directory: str | None) -> None:
        self.sandbox = sandbox
        self._sink = sink
        self._directory = state_dir() if directory is None else directory
        self._log: EventLog | None = None
        self._start: int | None = None
        self._cursor: Cursor | None = None
        self._end = -1

    @classmethod
    def of(cls, sandbox: str, sink: str, log: EventLog, directory: str | None) -> Stream:
        """What is appended from now on to a log that this process writes.

        :raises EventLogError: it cannot be noted on disk that events wait.
        """
        stream = cls(sandbox, sink, directory)
        stream._log = log
        stream._start = log.end
        try:
            stream._claim()
        except OSError as error:
            if isinstance(error, EventLogError):
                raise
            raise EventLogError(
                f"it cannot be noted that events wait for plugin {sink!r}: {error.strerror}",
                where=os.path.join(stream._directory, sandbox),
            ) from None
        return stream

    @classmethod
    def left_behind(cls, sandbox: str, sink: str, directory: str | None) -> Stream | None:
        """What an earlier start could not deliver; None if there is nothing, or another does it.

        :raises OSError: the sandbox's folder cannot be used.
        """
        stream = cls(sandbox, sink, directory)
        if not os.path.exists(os.path.join(stream._directory, sandbox, PREFIX + sink)):
            return None
        return stream if stream.claim() else None

    @property
    def empty(self) -> bool:
        """True when this process has not appended anything to the log yet."""
        return self._log is not None and self._log.end == self._start

    def claim(self) -> bool:
        """True when no other courier delivers the events of this log; none will from now on.

        :raises OSError: the sandbox's folder cannot be used.
        """
        return self._claim() is not None

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """The lines that wait, each with the offset after it. Claim it before.

        :raises OSError: the log cannot be read.
        """
        cursor = self._cursor
        if cursor is None:
            return
        log = self._open_here
        if log is not None and log.end == cursor.offset:
            return
        with open(self._open_log(), "rb") as file:
            # What is being written now may be taken back. Of another writer's log, see to it.
            end = self._end = log.end if log is not None else self._size(file.fileno())
            # Somebody changed the cursor or the log: what was taken is not known any more.
            known = cursor.offset <= end and _follows_a_line(file.fileno(), cursor.offset)
            file.seek(cursor.offset if known else 0)
            while file.tell() < end:
                line = file.readline()
                if not line.endswith(b"\n"):
                    return
                yield file.tell(), line

    def advance(self, offset: int) -> None:
        """The sink took everything before ``offset``.

        :raises OSError: it cannot be noted.
        """
        if self._cursor is not None:
            self._cursor.advance(offset)

    def finish(self) -> bool:
        """After everything was taken: True if nothing will follow; nothing is noted then."""
        if self._open_here is not None:
            return False
        cursor = self._cursor
        if cursor is None:
            return self.empty
        log = self._open_log()
        try:
            # Asked first: who wrote before the size was taken has left, or has it open.
            written = locks.is_opened(log)
            if self._size(log) != self._end:
                return False
        finally:
            os.close(log)
        if written:
            # By somebody else, whose courier may be about to claim the cursor.
            cursor.release()
        else:
            cursor.finish()
        self._cursor = None
        return True

    def release(self) -> None:
        """Leave the rest to another courier."""
        if self._cursor is not None:
            self._cursor.release()
            self._cursor = None

    def _claim(self) -> Cursor | None:
        if self._cursor is None:
            folder, path = open_folder(self.sandbox, directory=self._directory)
            try:
                self._cursor = Cursor.claim(folder, path, self._sink, start=self._start)
            finally:
                os.close(folder)
        return self._cursor

    def _open_log(self) -> int:
        folder, path = open_folder(self.sandbox, directory=self._directory)
        try:
            return open_file(folder, LOG, os.O_RDONLY, f"{path}/{LOG}")
        finally:
            os.close(folder)

    @property
    def _open_here(self) -> EventLog | None:
        return self._log if self._log is not None and not self._log.closed else None

    def _size(self, log: int) -> int:
        """Size of the log between two appends."""
        locks.lock(log, locks.APPENDING, locks.SHARED, self.sandbox)
        try:
            return os.fstat(log).st_size
        finally:
            locks.unlock(log, locks.APPENDING)


def _follows_a_line(file: int, offset: int) -> bool:
    return offset == 0 or os.pread(file, 1, offset - 1) == b"\n"
