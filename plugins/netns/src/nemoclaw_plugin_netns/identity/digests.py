"""Digests of files, made in a thread: a large one must not keep other connections waiting."""

from __future__ import annotations

import asyncio
import hashlib
import os
import queue
import threading
import time

Version = tuple[int, ...]
"""Device, inode, times of change in nanoseconds, and size: which content a file has."""

_CACHED = 256
_CHUNK = 1 << 20
_SETTLED_NS = 2_000_000_000
"""A file that changed later than this ago may change again within one tick of its time stamps."""


class Unhashed(Exception):
    """A digest has to be made first.

    :param descriptor: of the file; whoever catches this closes it.
    """

    def __init__(self, descriptor: int, version: Version) -> None:
        super().__init__("a digest is not known yet")
        self.descriptor = descriptor
        self.version = version


def version_of(status: os.stat_result) -> Version:
    """Which content a file has."""
    return (
        status.st_dev,
        status.st_ino,
        status.st_ctime_ns,
        status.st_mtime_ns,
        status.st_size,
    )


def digest(descriptor: int) -> str:
    """SHA-256 of a file's content, in hexadecimal; empty if it changed meanwhile, or fails."""
    try:
        version = version_of(os.fstat(descriptor))
        found = hashlib.sha256()
        offset = 0
        while chunk := os.pread(descriptor, _CHUNK, offset):
            found.update(chunk)
            offset += len(chunk)
        if version_of(os.fstat(descriptor)) != version:
            return ""
    except OSError:
        return ""
    return found.hexdigest()


class Digests:
    """Remembers digests, and makes them in one thread, one after the other.

    The thread is one that nobody waits for at the end of the process.
    """

    def __init__(self) -> None:
        self._known: dict[Version, str] = {}
        self._waiting: dict[Version, list[asyncio.Future[str]]] = {}
        self._tasks: queue.SimpleQueue[tuple[asyncio.AbstractEventLoop, Unhashed] | None]
        self._tasks = queue.SimpleQueue()
        self._running = False

    def known(self, version: Version) -> str | None:
        """The digest of a content that was seen before."""
        return self._known.get(version)

    def remember(self, version: Version, found: str) -> None:
        """Keep a digest, unless its file is too young for its time stamps to be relied on."""
        if not found or time.time_ns() - version[2] <= _SETTLED_NS:
            return
        while len(self._known) >= _CACHED:
            del self._known[next(iter(self._known))]
        self._known[version] = found

    async def make(self, wanted: Unhashed) -> str:
        """See :func:`digest`. Takes the descriptor over. Who wants the same waits for the same."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[str] = loop.create_future()
        waiting = self._waiting.get(wanted.version)
        if waiting is not None:
            os.close(wanted.descriptor)
            waiting.append(future)
            return await future
        self._waiting[wanted.version] = [future]
        self._tasks.put((loop, wanted))
        if not self._running:
            self._running = True
            threading.Thread(target=self._work, name="digests", daemon=True).start()
        return await future

    def close(self) -> None:
        """Make no more."""
        if self._running:
            self._running = False
            self._tasks.put(None)

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            loop, wanted = task
            found = digest(wanted.descriptor)
            os.close(wanted.descriptor)
            try:
                loop.call_soon_threadsafe(self._made, wanted.version, found)
            except RuntimeError:
                continue  # that loop is closed: nobody waits

    def _made(self, version: Version, found: str) -> None:
        self.remember(version, found)
        for future in self._waiting.pop(version, ()):
            if not future.done():
                future.set_result(found)
