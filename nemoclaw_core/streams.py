"""Standard streams of a command that is fed with bytes, or listened to."""

from __future__ import annotations

import os
import threading
from types import TracebackType


class Pipes:
    """Pipes to a command, and the threads that serve them.

    :param data: what the command reads on standard input; nothing if None.
    :param capture: collect what it writes. Otherwise it writes where this process does.
    """

    def __init__(self, data: bytes | None, *, capture: bool) -> None:
        self._data = data
        self._theirs: list[int] = []
        self._writer = -1
        self._readers: dict[int, int] = {}
        self._threads: list[threading.Thread] = []
        self._output: dict[int, bytes] = {}
        self.given: list[int | None] = [None, None, None]
        """Descriptors for the command's streams; None = this process's own."""
        if data is None:
            self._give(0, os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        else:
            reader, self._writer = os.pipe2(os.O_CLOEXEC)
            self._give(0, reader)
        for stream in (1, 2) if capture else ():
            self._readers[stream], writer = os.pipe2(os.O_CLOEXEC)
            self._give(stream, writer)

    def _give(self, stream: int, descriptor: int) -> None:
        self.given[stream] = descriptor
        self._theirs.append(descriptor)

    def __enter__(self) -> Pipes:
        return self

    def begin(self) -> None:
        """The command has its copies: let go of its ends, and serve ours."""
        self._let_go()
        if self._writer >= 0:
            writer, self._writer = self._writer, -1
            self._threads.append(threading.Thread(target=self._feed, args=(writer,), daemon=True))
        for stream, reader in self._readers.items():
            self._threads.append(
                threading.Thread(target=self._listen, args=(stream, reader), daemon=True)
            )
        self._readers.clear()
        for thread in self._threads:
            thread.start()

    def _let_go(self) -> None:
        while self._theirs:
            os.close(self._theirs.pop())

    def _feed(self, writer: int) -> None:
        view = memoryview(self._data or b"")
        try:
            while view:
                view = view[os.write(writer, view) :]
        except BrokenPipeError:
            return  # It ended without reading everything, as it may.
        finally:
            os.close(writer)

    def _listen(self, stream: int, reader: int) -> None:
        parts = []
        while part := os.read(reader, 1 << 16):
            parts.append(part)
        os.close(reader)
        self._output[stream] = b"".join(parts)

    def collect(self) -> tuple[bytes | None, bytes | None]:
        """What the command wrote. Its sandbox is gone, so the streams have ended."""
        for thread in self._threads:
            thread.join()
        return self._output.get(1), self._output.get(2)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._let_go()
        # Those that no thread has taken over: the command was never started.
        if self._writer >= 0:
            os.close(self._writer)
        for reader in self._readers.values():
            os.close(reader)
