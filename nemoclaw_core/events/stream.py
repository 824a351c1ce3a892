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
        if self._log is not None and self._log.end <= cursor.offset:
            return
        with open(self._open_log(), "rb") as file:
            end = self._end_of(file.fileno())
            # In the middle of a line: somebody changed the cursor or the log. Go on with the next.
            if 0 < cursor.offset <= end and os.pread(file.fileno(), 1, cursor.offset - 1) != b"\n":
                file.seek(cursor.offset)
                file.readline()
            else:
                file.seek(min(cursor.offset, end))
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
        cursor = self._cursor
        if cursor is None:
            return self.empty and self._log is not None and self._log.closed
        if self._log is not None:
            if not self._log.closed or cursor.offset < self._log.end:
                return False
            cursor.finish()
        elif self._is_written():
            # It was opened again since. Its writer may be about to claim the cursor.
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

    def _end_of(self, log: int) -> int:
        """Where the last record ends that cannot be taken back any more."""
        if self._log is not None:
            return self._log.end
        locks.lock(log, locks.APPENDING, locks.SHARED, self.sandbox)
        try:
            return os.fstat(log).st_size
        finally:
            locks.unlock(log, locks.APPENDING)

    def _is_written(self) -> bool:
        log = self._open_log()
        try:
            return locks.is_opened(log)
        finally:
            os.close(log)
