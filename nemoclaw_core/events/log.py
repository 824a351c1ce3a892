"""The writer: appends records to a sandbox's log so that none that was acknowledged is lost."""

from __future__ import annotations

import _thread
import errno
import os

from nemoclaw_hookspecs.errors import EventLogError

from . import chain, locks, ocsf
from .folder import open_for_writing, remedy
from .record import Context
from .reserve import reserve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

_RESERVE = 64 * 1024
_LOW = 32 * 1024
"""Bytes of reserved space below which more is reserved."""
_MOST = 1 << 20
"""Bytes that a long log reserves beyond that."""
_ANY = 1 << 62


class EventLog:
    """An open log. Threads may share it; several may be open for one sandbox.

    An append writes its lines with one write(2), then notes the chain's head in a file beside the
    log. When either fails they are taken back whole, so the log never holds a part of a record, nor
    one that its writer believes was not written.

    Space is reserved ahead. Only records that tell of an end may use it up: while the disk is full
    nothing new can begin, and what has begun can still be logged to its end.
    """

    def __init__(self, log: int, head: int, path: str, context: Context, *, durable: bool) -> None:
        self._log = log
        self._head = head
        self._path = path
        self._context = context
        self._durable = durable
        self._owner = os.getpid()
        # Lock of this process's threads: the file's locks exclude other openings alone.
        self._mutex = _thread.allocate_lock()
        self._size = -1  # -1: to be learned from the file
        self._end = 0
        self._closed = False
        self._sequence = 0
        self._digest = chain.START
        self._reserved = 0
        self._watcher: Callable[[], None] | None = None

    @classmethod
    def open(
        cls,
        sandbox: str,
        *,
        directory: str | None = None,
        durable: bool = False,
        context: Context | None = None,
    ) -> EventLog:
        """Open the log of a sandbox, which is made if it is missing.

        What is wrong with a log that was there before is told by its next record.

        :param directory: what holds the sandboxes' folders; ``state_dir()`` if None.
        :param durable: wait after each record until it is on the disk (fdatasync(2)), against loss
            of power. Without it a record survives the end of every process, not of the machine.
        :param context: for the events that tell what is wrong with the log.
        :raises EventLogError: the folder or a file in it is not the caller's own, cannot be opened,
            or there is no room for what the sandbox will have to log.
        """
        log, head, path = open_for_writing(sandbox, directory)
        opened = cls(log, head, path, context or Context(sandbox), durable=durable)
        try:
            locks.lock(log, locks.OPENED, locks.SHARED, path)
            opened._begin()
        except BaseException:
            opened.close()
            raise
        return opened

    @property
    def end(self) -> int:
        """Where the last acknowledged record ends: bytes from the beginning of the file."""
        return self._end

    @property
    def closed(self) -> bool:
        """True after :meth:`close`: the log is not held any more."""
        return self._closed

    def watch(self, watcher: Callable[[], None]) -> None:
        """Call ``watcher`` after each record, and when the log is closed. It must not block."""
        self._watcher = watcher

    def append(self, *records: Mapping[str, Any] | chain.Draft) -> None:
        """Write records, all or none. When this returns, they outlive this process.

        A process that is killed in here may leave some of them.

        :raises EventLogError: they could not be written. Nothing of them stands in the log, and
            what they tell of must not be done.
        """
        with self._mutex:
            if os.getpid() != self._owner:
                raise EventLogError("another process opened this log", where=self._path)
            if self._log < 0:
                raise EventLogError("this log is closed", where=self._path)
            locks.lock(self._log, locks.APPENDING, locks.EXCLUSIVE, self._path)
            try:
                found = os.fstat(self._log)
                if found.st_size != self._size or not found.st_nlink:
                    self._find_end(found)
                self._write(*records)
            finally:
                locks.unlock(self._log, locks.APPENDING)
        if self._watcher is not None:
            self._watcher()

    def close(self) -> None:
        """Give the unused reservation back, and close. May be called twice."""
        with self._mutex:
            if self._log < 0:
                return
            log, self._log = self._log, -1
            try:
                # A writer that shares this log keeps its reservation, and gives it back itself.
                if os.getpid() == self._owner and locks.try_lock(
                    log, locks.OPENED, locks.EXCLUSIVE
                ):
                    os.ftruncate(log, os.fstat(log).st_size)
            except OSError:
                pass  # Every record is written; some disk space stays taken.
            finally:
                os.close(log)
                os.close(self._head)
                self._closed = True
        if self._watcher is not None:
            self._watcher()

    def _begin(self) -> None:
        locks.lock(self._log, locks.APPENDING, locks.EXCLUSIVE, self._path)
        try:
            self._find_end(os.fstat(self._log))
            if not self._make_room(self._size, 0):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except EventLogError:
            raise
        except OSError as error:
            raise _unwritten(error, self._path) from None
        finally:
            locks.unlock(self._log, locks.APPENDING)

    def _find_end(self, found: os.stat_result) -> None:
        """Learn where the chain ends, after another writer, a crash or a stranger moved its end.

        The lock is held. What should not be so is set right, and told by a record.
        """
        if not found.st_nlink:
            raise EventLogError("the event log was removed while it was in use", where=self._path)
        last = chain.last_line(self._log, found.st_size)
        if last is None:
            raise EventLogError(
                "the event log ends in something that nemoclaw did not write",
                where=self._path,
                remedy="move it away after looking at it, or choose another name for the sandbox",
            )
        line, torn = last
        if torn:
            os.ftruncate(self._log, found.st_size - torn)
        damage = self._judge(line, found.st_size - torn)
        self._size = self._end = found.st_size - torn
        self._reserved = 0
        if torn:
            detail = f"{torn} bytes of an unfinished record were removed"
            self._write(ocsf.log_damaged(self._context, damage="torn", detail=detail))
        if damage is not None:
            self._write(ocsf.log_damaged(self._context, damage=damage[0], detail=damage[1]))
            os.ftruncate(self._head, chain.HEAD_SIZE)

    def _judge(self, line: bytes, size: int) -> tuple[str, str] | None:
        """Continue after ``line``, the log's last; and what is wrong with it, if anything.

        :param size: of the log up to the end of ``line``.

        It is compared with the head on the disk and with the last record that is known here.
        """
        data = os.pread(self._head, chain.HEAD_SIZE + 1, 0)
        noted = chain.parse_head(data)
        if not line and not data and not self._sequence:
            # A new log. Its head takes its block now: no later note needs new space.
            self._note_head()
            return None
        known = (self._sequence, self._digest)
        expected = known if noted is None or noted[0] < known[0] else noted
        place = chain.place(line) if line else (0, chain.START)
        self._sequence = expected[0] if place is None else place[0]
        self._digest = chain.digest(line) if line else chain.START
        if place is None:
            return "altered", "the last record does not place itself in the chain"
        if self._sequence < expected[0]:
            return "lost", f"it ends at record {self._sequence}, and {expected[0]} were written"
        if noted is None:
            return "headless", "the note of its last record is missing or damaged"
        found = self._digest
        if self._sequence > expected[0]:
            # Its writer may have been killed before it noted the head of what it wrote.
            found = chain.find(self._log, size, expected[0])
            if not found:
                behind = self._sequence - expected[0]
                return "headless", f"the note of its last record is {behind} records behind"
        if found == expected[1]:
            return None
        return "altered", f"record {expected[0]} is not the one that was written"

    def _write(self, *records: Mapping[str, Any] | chain.Draft) -> None:
        known = self._sequence, self._digest
        lines: list[bytes] = []
        digests = [self._digest]
        length = 0
        for number, record in enumerate(records, self._sequence + 1):
            line = chain.link(record, number, digests[-1])
            lines.append(line)
            digests.append(chain.digest(line))
            length += len(line)
        begin, self._size = self._size, -1
        try:
            room = begin + length + _LOW <= self._reserved or self._make_room(begin, length)
            if not room and not all(map(_is_ending, records)):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            for part in chain.parts(lines):
                self._write_part(part)
                self._sequence += len(part)
                self._digest = digests[self._sequence - known[0]]
                self._note_head()
        except OSError as error:
            self._sequence, self._digest = known
            self._take_back(begin)
            raise _unwritten(error, self._path) from None
        self._size = self._end = begin + length

    def _write_part(self, lines: list[bytes]) -> None:
        data = b"".join(lines)
        written = os.write(self._log, data)
        while written < len(data):
            written += os.write(self._log, data[written:])
        if self._durable:
            os.fdatasync(self._log)

    def _note_head(self) -> None:
        data = chain.head(self._sequence, self._digest)
        if os.pwrite(self._head, data, 0) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _take_back(self, begin: int) -> None:
        """Remove what could not be written whole, or not be noted."""
        try:
            os.ftruncate(self._log, begin)
            self._size = begin
            self._reserved = 0
            self._note_head()
        except OSError:
            pass  # The next append looks for the end, on the disk, and tells what is wrong there.

    def _make_room(self, begin: int, length: int) -> bool:
        """Keep space reserved for the records to come. False when the disk is full."""
        # More for a log that grows: each time costs as much as several records.
        for more in (min(begin // 8, _MOST), 0):
            ahead = length + _RESERVE + more
            granted = reserve(self._log, begin, ahead)
            if granted:
                self._reserved = begin + ahead
                return True
            if granted is None:
                self._reserved = _ANY  # this file system cannot; records may fail when it is full
                return True
        return False


def _is_ending(record: Mapping[str, Any] | chain.Draft) -> bool:
    if isinstance(record, chain.Draft):  # of what is about to begin
        return False
    return record["metadata"].get("event_code") in ocsf.ENDINGS


def _unwritten(error: OSError, path: str) -> EventLogError:
    return EventLogError(
        f"an event could not be written: {error.strerror}", where=path, remedy=remedy(error)
    )
