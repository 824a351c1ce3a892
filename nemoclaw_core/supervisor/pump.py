"""Copies between the caller's standard streams and pipes that the agent gets in their place.

A descriptor of a file is more than its bytes: whoever holds it can change the file's mode, owner,
times and attributes, whatever it was opened for. So the agent never holds one of the host's files.
And a pipe that belongs to root cannot be opened again (``/dev/stderr``, ``/dev/stdout``) by an
agent who is not root: like a file, it has an owner and a mode.

Imported only when a stream needs it: see the import rule in ``nemoclaw_core/launcher/__init__.py``.
"""

from __future__ import annotations

import _socket
import errno
import fcntl
import os
import select
import stat
import termios
import time

from .stdio import NAMES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_CHUNK = 1 << 16


class Pump:
    """The pipes of one command, and the copying from and to them.

    :param streams: those of 0, 1, 2 to copy; the others are given to the command as they are.
        Of 1 and 2, when they are the same file or pipe, one copy is made: order is kept.
    :param owner: user and group that shall own the pipes; None = the caller.
    """

    def __init__(self, streams: Sequence[int], owner: tuple[int, int] | None = None) -> None:
        self._copies: list[_Input | _Output] = []
        self._given: list[int] = []
        stdio = [0, 1, 2]
        outputs: dict[tuple[int, int], int] = {}
        for stream in streams:
            status = os.fstat(stream)
            identity = status.st_dev, status.st_ino
            if stream and identity in outputs:
                stdio[stream] = outputs[identity]
                continue
            reading, writing = os.pipe2(os.O_CLOEXEC)
            if owner is not None:
                os.fchown(reading, *owner)  # Both ends are one inode.
            waits = stat.S_ISFIFO(status.st_mode) or stat.S_ISSOCK(status.st_mode)
            if stream:
                self._copies.append(_Output(reading, stream, waits))
                stdio[stream] = outputs[identity] = writing
            else:
                self._copies.append(_Input(writing, waits))
                stdio[stream] = reading
            self._given.append(stdio[stream])
        self.stdio = stdio[0], stdio[1], stdio[2]
        """What the command gets as 0, 1 and 2."""

    def let_go(self) -> None:
        """Close this process's copies of what the command now has."""
        for descriptor in self._given:
            os.close(descriptor)
        self._given.clear()

    def register(self, poll: select.poll) -> None:
        """Say what to wait for."""
        for copy in self._copies:
            for descriptor, events in copy.interests():
                poll.register(descriptor, events)

    def owns(self, descriptor: int) -> bool:
        """True when a descriptor is one of the pump's."""
        return any(descriptor in copy.descriptors for copy in self._copies)

    def serve(self, descriptor: int) -> None:
        """Copy what can be copied without waiting, now that a descriptor is ready."""
        for copy in self._copies:
            if descriptor in copy.descriptors:
                copy.advance()

    def finish(self, stop: int, patience: float | None = None) -> str:
        """Deliver the rest of the output, once the command is gone.

        What it has not read of a file stays unread, for whoever reads that file next.

        :param stop: a descriptor that becomes readable when the caller's reader shall not be
            waited for any longer.
        :param patience: seconds to wait for that reader; None = as long as it takes.
        :returns: what could not be written, and why, for a person; empty when all is well.
        """
        limit = None if patience is None else time.monotonic() + patience
        for copy in self._copies:
            if isinstance(copy, _Output):
                copy.deliver_rest(stop, limit)
            copy.close()
        return "; ".join(copy.problem for copy in self._copies if copy.problem)


class _Input:
    """From the caller's standard input to the agent's.

    :param sink: the end that is written to.
    :param waits: the source is a pipe or a socket; otherwise reading never waits for anybody.
    """

    def __init__(self, sink: int, waits: bool) -> None:
        os.set_blocking(sink, False)
        # Not opened anew: such a descriptor of a pipe would not see the end of a writer before it.
        self._source = os.dup(0)
        self._sink = sink
        self._waits = waits
        self._pending = b""
        self._taken = 0
        self._unread = -1  # After the end of the input: a reading end, to learn what is left.
        self.descriptors: tuple[int, ...] = (self._source, sink)
        self.problem = ""

    def interests(self) -> list[tuple[int, int]]:
        if not self.descriptors:
            return []
        if self._pending or not self._waits:
            return [(self._sink, select.POLLOUT)]
        return [(self._source, select.POLLIN), (self._sink, 0)]

    def advance(self) -> None:
        if _ready(self._sink, 0):
            self.close()  # The agent has closed its input: so has the caller's pipe lost a reader.
            return
        try:
            if not self._pending and _ready(self._source, select.POLLIN):
                self._pending = os.read(self._source, _CHUNK)
                self._taken += len(self._pending)
                if not self._pending:
                    self._end()
                    return
            if self._pending:
                self._pending = self._pending[os.write(self._sink, self._pending) :]
        except BlockingIOError:
            pass  # Somebody else was first; or the pipe is full.
        except BrokenPipeError:
            self.close()
        except OSError as error:
            self.problem = f"standard input: {error.strerror}"
            self.close()

    def _end(self) -> None:
        """Let the agent see the end of the input."""
        self.descriptors = ()
        if not self._waits:
            try:
                flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
                self._unread = os.open(f"/proc/self/fd/{self._sink}", flags)
            except PermissionError:
                self._taken = 0  # The agent changed its pipe's mode: the file stays at its end.
        os.close(self._sink)
        self._sink = -1

    def close(self) -> None:
        if self._source < 0:
            return
        left = self._unread if self._sink < 0 else self._sink
        if self._taken and not self._waits:
            count = bytearray(4)
            fcntl.ioctl(left, termios.FIONREAD, count)
            # The agent can fill its pipe by itself: never to before where it began.
            unread = min(int.from_bytes(count, "little") + len(self._pending), self._taken)
            os.lseek(self._source, -unread, os.SEEK_CUR)
        for descriptor in (self._source, left):
            if descriptor >= 0:
                os.close(descriptor)
        self._source = -1
        self.descriptors = ()


class _Output:
    """From the agent's standard output or error to the caller's.

    :param source: the end that is read from.
    :param stream: the caller's descriptor.
    :param waits: it is a pipe or a socket; otherwise writing to it never waits for anybody.
    """

    def __init__(self, source: int, stream: int, waits: bool) -> None:
        os.set_blocking(source, False)
        self._source = source
        self._name = NAMES[stream]
        self._waits = waits
        self._chunk = _CHUNK
        self._sink = -1
        self._socket: _socket.socket | None = None
        if stat.S_ISSOCK(os.fstat(stream).st_mode):
            self._sink = os.dup(stream)
            self._socket = _socket.socket(fileno=self._sink)
        elif waits:
            try:
                # O_NONBLOCK of one's own: that of the caller's is shared with other processes.
                flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC
                self._sink = os.open(f"/proc/self/fd/{stream}", flags)
            except OSError:
                self._chunk = select.PIPE_BUF  # So much fits when poll(2) says that some does.
        if self._sink < 0:
            self._sink = os.dup(stream)
        self._pending = b""
        self._ended = False
        self.descriptors: tuple[int, ...] = (source, self._sink)
        self.problem = ""

    def interests(self) -> list[tuple[int, int]]:
        if not self.descriptors:
            return []
        if not self._waits:
            return [(self._source, select.POLLIN)]
        if self._pending:
            return [(self._sink, select.POLLOUT)]
        return [(self._source, select.POLLIN), (self._sink, 0)]

    def advance(self) -> None:
        if self._waits and _ready(self._sink, 0):
            self.close()  # The caller's reader is gone: the agent gets SIGPIPE when it writes.
            return
        try:
            if not self._pending:
                self._pending = os.read(self._source, _CHUNK)
                if not self._pending:
                    self.close()
                    return
        except BlockingIOError:
            if self._ended:
                self.close()
            return
        try:
            while self._pending and (not self._waits or _ready(self._sink, select.POLLOUT)):
                written = self._write(self._pending[: self._chunk])
                self._pending = self._pending[written:]
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.ECONNRESET):
                self.problem = f"{self._name}: {error.strerror}"
            self.close()

    def _write(self, data: bytes) -> int:
        if self._socket is not None:
            return self._socket.send(data, _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL)
        return os.write(self._sink, data)

    def deliver_rest(self, stop: int, limit: float | None) -> None:
        """Copy to the end; by ``limit``, a time.monotonic(), at the latest."""
        self._ended = True
        while self.descriptors:
            self.advance()
            if not self._pending or not self.descriptors:
                continue
            poll = select.poll()
            poll.register(stop, select.POLLIN)
            poll.register(self._sink, select.POLLOUT)
            left = None if limit is None else max(0.0, limit - time.monotonic()) * 1000
            ready = [descriptor for descriptor, _ in poll.poll(left)]
            if stop in ready:
                self.problem = f"{self._name}: interrupted while its reader was waited for"
            if not ready or stop in ready:
                return

    def close(self) -> None:
        if self.descriptors:
            os.close(self._source)
            if self._socket is not None:
                self._socket.close()
            else:
                os.close(self._sink)
            self.descriptors = ()


def _ready(descriptor: int, events: int) -> bool:
    """True when a descriptor can be used at once, or its other end is gone."""
    poll = select.poll()
    poll.register(descriptor, events)
    return bool(poll.poll(0))
