"""The writer: appends records to a sandbox's log so that none that was acknowledged is lost."""

from __future__ import annotations

import errno
import os

from nemoclaw_hookspecs.errors import EventLogError

from . import chain, locks, ocsf
from .folder import HEAD, LOG, open_file, open_folder
from .record import Context
from .reserve import reserve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_RESERVE = 64 * 1024


class EventLog:
    """An open log. Several may be open for one sandbox; each append takes the log's lock.

    An append writes one line with one write(2) and then notes the chain's head. When the disk is
    full the line is taken back whole, so the log never holds a part of a record. Space for the last
    records is reserved ahead.
    """

    def __init__(self, log: int, head: int, path: str, *, durable: bool) -> None:
        self._log = log
        self._head = head
        self._path = path
        self._durable = durable
        self._size = -1
        self._sequence = 0
        self._digest = chain.START
        self._reserved = 0

    @classmethod
    def open(
        cls, sandbox: str, *, directory: str | None = None, durable: bool = False
    ) -> EventLog:
        """Open the log of a sandbox, which is made if it is missing.

        :param directory: what holds the sandboxes' folders; ``state_dir()`` if None.
        :param durable: wait after each record until it is on the disk (fdatasync(2)), against loss
            of power. Without it a record survives the end of every process, not that of the machine.
        :raises EventLogError: the folder or a file in it is not the caller's own.
        """
        folder, path = open_folder(sandbox, directory=directory, create=True)
        try:
            log = open_file(folder, LOG, os.O_RDWR | os.O_CREAT | os.O_APPEND, f"{path}/{LOG}")
            try:
                head = open_file(folder, HEAD, os.O_RDWR | os.O_CREAT, f"{path}/{HEAD}")
            except BaseException:
                os.close(log)
                raise
        except OSError as error:
            if isinstance(error, EventLogError):
                raise
            raise EventLogError(f"cannot open it: {error.strerror}", where=path) from None
        finally:
            os.close(folder)
        opened = cls(log, head, f"{path}/{LOG}", durable=durable)
        locks.lock(log, locks.OPENED, locks.SHARED, opened._path)
        opened._begin(Context(sandbox))
        return opened

    def _begin(self, context: Context) -> None:
        """Find the end of the log. What a dead writer left torn is removed, and told."""
        locks.lock(self._log, locks.APPENDING, locks.EXCLUSIVE, self._path)
        try:
            size = os.fstat(self._log).st_size
            line, torn = chain.last_line(self._log, size)
            if torn:
                os.ftruncate(self._log, size - torn)
            self._catch_up()
            damage = self._damage(line, size)
            if torn:
                detail = f"{torn} bytes of an unfinished record were removed"
                self._write(ocsf.log_damaged(context, damage="torn", detail=detail))
            if damage:
                self._write(ocsf.log_damaged(context, damage=damage[0], detail=damage[1]))
        finally:
            locks.unlock(self._log, locks.APPENDING)

    def _damage(self, line: bytes, size: int) -> tuple[str, str] | None:
        """What is wrong between the log's last line and the head that was noted, if anything."""
        noted = chain.parse_head(os.pread(self._head, chain.HEAD_SIZE + 1, 0))
        if noted is None:
            return ("headless", "events.head is missing or damaged") if size else None
        if line and chain.place(line) is None:
            return "altered", "the last record does not place itself in the chain"
        sequence, digest = noted
        if self._sequence < sequence:
            return "lost", f"it ends at record {self._sequence}, and {sequence} were written"
        if self._sequence == sequence and self._digest != digest:
            return "altered", f"record {sequence} is not the one that was written"
        return None

    def _catch_up(self) -> None:
        """Learn the chain's end, if another writer has moved it. The lock is held."""
        size = os.fstat(self._log).st_size
        if size == self._size:
            return
        line, _ = chain.last_line(self._log, size)
        place = chain.place(line) if line else None
        self._sequence = place[0] if place is not None else 0
        self._digest = chain.digest(line) if line else chain.START
        self._size = size
        self._reserved = size

    def append(self, record: Mapping[str, Any]) -> None:
        """Write a record. When this returns, the record outlives this process.

        :raises EventLogError: it could not be written. Nothing of it stands in the log, and what
            it tells of must not be done.
        """
        locks.lock(self._log, locks.APPENDING, locks.EXCLUSIVE, self._path)
        try:
            self._catch_up()
            self._write(record)
        finally:
            locks.unlock(self._log, locks.APPENDING)

    def _write(self, record: Mapping[str, Any]) -> None:
        line = chain.link(record, self._sequence + 1, self._digest)
        try:
            self._reserve_for(len(line))
            view = memoryview(line)
            while view:
                view = view[os.write(self._log, view) :]
            if self._durable:
                os.fdatasync(self._log)
        except OSError as error:
            os.ftruncate(self._log, self._size)
            raise EventLogError(
                f"an event could not be written: {error.strerror}",
                where=self._path,
                remedy="free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else None,
            ) from None
        self._size += len(line)
        self._sequence += 1
        self._digest = chain.digest(line)
        # Not part of the promise: a head that lags is caught up by the next writer.
        os.pwrite(self._head, chain.head(self._sequence, self._digest), 0)

    def _reserve_for(self, length: int) -> None:
        """Keep room for the records to come; the last ones must fit when the disk is full."""
        if self._size + length <= self._reserved - _RESERVE // 2:
            return
        if reserve(self._log, self._size, length + _RESERVE) is True:
            self._reserved = self._size + length + _RESERVE

    def close(self) -> None:
        """Give the unused reservation back, and close. May be called twice."""
        if self._log < 0:
            return
        log, self._log = self._log, -1
        # A writer that shares this log keeps its reservation, and gives it back itself.
        if locks.try_lock(log, locks.OPENED, locks.EXCLUSIVE):
            os.ftruncate(log, os.fstat(log).st_size)
        os.close(log)
        os.close(self._head)
