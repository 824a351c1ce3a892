"""The living processes of a sandbox, and the sockets of each, read anew only where it is needed.

A descriptor of /proc/PID stays with the process that it was opened for: when that one is gone, it
leads nowhere, even if its number is in use again. So nothing here is ever read of a wrong process.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from .tables import Unsettled, sockets_of, state_of

_KEPT = 256
"""Descriptors held open for threads, over all. Beyond, files are opened anew each time."""
_SETTLED = 0.05
"""Seconds, more than the scheduler's longest tick. See :meth:`Process.sockets`."""
_TRIES = 4


class _Thread:
    """Two files of a thread: how long it has run, and whom it has forked."""

    def __init__(self, process: Process, name: str, *, keep: bool) -> None:
        self._folder = f"task/{name}/"
        self._directory = process.directory
        self._activity = self._children = -1
        if keep:
            try:
                self._activity = self._open("schedstat")
                self._children = self._open("children")
            except FileNotFoundError:
                pass  # A kernel without it, or a thread that has ended: seen at the reading.

    def activity(self) -> bytes:
        """Nanoseconds on a processor, nanoseconds waiting, and turns."""
        return self._read(self._activity, "schedstat", 128)

    def children(self) -> bytes:
        """Pids of living and ended children, as text."""
        size = 4096
        while len(text := self._read(self._children, "children", size)) == size:
            size *= 4
        return text

    def _open(self, file: str) -> int:
        return os.open(self._folder + file, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._directory)

    def _read(self, kept: int, file: str, size: int) -> bytes:
        if kept >= 0:
            return os.pread(kept, size, 0)
        descriptor = self._open(file)
        try:
            return os.read(descriptor, size)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Let go of the files."""
        for descriptor in (self._activity, self._children):
            if descriptor >= 0:
                os.close(descriptor)
        self._activity = self._children = -1

    @property
    def held(self) -> int:
        """How many descriptors it holds."""
        return (self._activity >= 0) + (self._children >= 0)


class Process:
    """One process of the sandbox.

    :raises OSError: it is gone.
    """

    def __init__(self, pid: int, parent: int) -> None:
        self.pid = pid
        self.parent = parent
        self.directory = os.open(f"/proc/{pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self.threads: dict[str, _Thread] = {}
        self.activity = b""
        self.childless = False
        """It had no children when it was last looked at."""
        self._idle: tuple[bytes, float] | None = None
        self._sockets: dict[int, str] = {}

    def names(self) -> list[str]:
        """Names of its threads."""
        folder = os.open("task", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.directory)
        try:
            return os.listdir(folder)
        finally:
            os.close(folder)

    def measure(self) -> bytes:
        """How often and how long its threads have run: equal if none of them has meanwhile."""
        found = b""
        for thread in self.threads.values():
            found += thread.activity()
        return found

    def settled(self) -> bool:
        """True if no thread has run since the sockets were read.

        They were asleep then. One that was about to sleep and did not would have been charged for
        a tick of processor time by now.
        """
        if self._idle is None:
            return False
        activity, since = self._idle
        return activity == self.activity and time.monotonic() - since > _SETTLED

    def sockets(self, *, trust: bool) -> dict[int, str]:
        """A link of each socket that it has open, by inode.

        :param trust: that a process that has not run has the sockets that it had.
        :raises Unsettled: they cannot be read.
        """
        if trust and self.settled():
            return self._sockets
        names = list(self.threads)
        try:
            idle = trust and all(state_of(self.directory, name) not in "R" for name in names)
            self._sockets = sockets_of(self.directory, names)
            # A thread that was born while the others were looked at is not among them.
            idle = idle and self.names() == names
        except (FileNotFoundError, ProcessLookupError) as error:
            self._idle = None
            raise Unsettled from error
        if not idle:
            self._idle = None
        elif self._idle is None or self._idle[0] != self.activity:
            self._idle = self.activity, time.monotonic()
        return self._sockets

    def close(self) -> None:
        """Let go of it."""
        os.close(self.directory)
        for thread in self.threads.values():
            thread.close()


class Processes:
    """Everybody who descends from a sandbox's init, which is not one of them itself.

    :param init: its pid, in the PID namespace of the caller's /proc.
    :raises OSError: there is no such process.
    """

    def __init__(self, init: int) -> None:
        self._init = Process(init, 0)
        self._known: dict[int, Process] = {}
        self._kept = 0
        # Where a processor runs without a tick, not even a full second's work is sure to show.
        self.trust = _has_schedstat() and not _tickless()

    def __getitem__(self, pid: int) -> Process:
        return self._known[pid]

    def __contains__(self, pid: object) -> bool:
        return pid in self._known

    def refresh(self) -> list[Process]:
        """All that live now.

        :raises Unsettled: they come and go too fast.
        :raises OSError: init is gone, or descriptors ran out.
        """
        for _ in range(_TRIES):
            try:
                return self._walk()
            except (Unsettled, ProcessLookupError, FileNotFoundError):
                continue
        raise Unsettled

    def close(self) -> None:
        """Let go of all."""
        for pid in list(self._known):
            self._forget(pid)
        self._init.close()

    def _forget(self, pid: int) -> None:
        process = self._known.pop(pid)
        self._kept -= sum(thread.held for thread in process.threads.values())
        process.close()

    def _walk(self) -> list[Process]:
        seen = {self._init.pid}
        self._look_at(self._init)
        waiting = [self._init]
        while waiting:
            waiting.extend(self._children(waiting.pop(), seen))
        # One whose parent ended during the walk may be with a parent that was visited before.
        for pid in [pid for pid in self._known if pid not in seen]:
            try:
                self._look_at(self._known[pid])
            except OSError:
                self._forget(pid)
            else:
                raise Unsettled
        return list(self._known.values())

    def _children(self, parent: Process, seen: set[int]) -> list[Process]:
        # Without children it has no descendants whose orphans might have come to it meanwhile.
        if parent.childless and self.trust and parent.settled():
            return []
        found = []
        parent.childless = True
        for thread in parent.threads.values():
            text = thread.children()
            if not text:
                continue
            parent.childless = new = False
            for word in text.split():
                pid = int(word)
                if pid in seen:
                    continue
                seen.add(pid)
                process = self._known.get(pid)
                if process is not None:
                    try:
                        self._look_at(process)
                    except OSError:
                        self._forget(pid)  # Its number is another's by now.
                        process = None
                if process is None:
                    new = True
                    process = self._known[pid] = Process(pid, parent.pid)
                    self._look_at(process)
                process.parent = parent.pid
                found.append(process)
            if new and not set(text.split()) <= set(thread.children().split()):
                # One had ended before it was opened; what was opened may be anybody.
                for process in found:
                    self._forget(process.pid)
                raise Unsettled
        return found

    def _look_at(self, process: Process) -> None:
        """Measure a process's activity, and list its threads anew if it was active."""
        try:
            activity = process.measure() if self.trust and process.threads else b""
        except (ProcessLookupError, FileNotFoundError):
            activity = b""  # A thread has ended.
        if activity and activity == process.activity:
            return
        names = process.names()
        for name in list(process.threads):
            if name not in names:
                thread = process.threads.pop(name)
                self._kept -= thread.held
                thread.close()
        for name in names:
            if name not in process.threads:
                thread = _Thread(process, name, keep=self._kept < _KEPT)
                process.threads[name] = thread
                self._kept += thread.held
        process.activity = process.measure() if self.trust else b""


def _has_schedstat() -> bool:
    return Path("/proc/self/schedstat").exists()


def _tickless() -> bool:
    try:
        text = Path("/sys/devices/system/cpu/nohz_full").read_text()
    except OSError:
        return False
    return text.strip() not in ("", "(null)")
