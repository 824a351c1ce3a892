"""Delivery of events to plugins: from the log on disk, in threads of their own.

An event is in the log before a plugin hears of it. Each sink has one thread, which reads the logs
from where the sink stands in them: a sink that is slow, fails or hangs delays nothing but itself.
What it did not take is offered again, if need be by the next nemoclaw that is started with it. An
event reaches a sink at least once, and the events of one log reach it in their order.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from nemoclaw_hookspecs import Event
from nemoclaw_hookspecs.errors import EventLogError

from . import archive, ocsf
from .stream import Stream

if TYPE_CHECKING:
    import asyncio

    from .log import EventLog
    from .record import Context

Sink = Callable[[Event], Awaitable[None] | None]

PATIENCE = 2.0
"""Seconds that the end of a start waits for its sinks."""
_ANSWER = 30.0
_SOON, _LATER = 0.2, 30.0


class EventBus:
    """Hands the events of logs to sinks.

    :param sinks: their names; those of plugins.
    :param load: gives the sink of a name. Called in the sink's thread, once, because importing a
        plugin may take longer than starting an agent.
    :param directory: what holds the sandboxes' folders; ``state_dir()`` if None.
    """

    def __init__(
        self, sinks: Iterable[str], load: Callable[[str], Sink], *, directory: str | None = None
    ) -> None:
        self._directory = directory
        self._couriers = [_Courier(name, load, directory) for name in sinks]

    def attach(self, sandbox: str, log: EventLog, context: Context) -> None:
        """Deliver what is appended to the log of ``sandbox`` from now on.

        With the first log, also what waits from earlier starts, whatever sandbox it is of.

        :param context: for the event that tells of a sink's failure.
        :raises EventLogError: it cannot be noted on disk that events wait for a sink.
        """
        for courier in self._couriers:
            courier.add(Stream.of(sandbox, courier.name, log, self._directory), log, context)
        log.watch(self._tell)

    def _tell(self) -> None:
        for courier in self._couriers:
            courier.wake()

    def close(self, patience: float = PATIENCE) -> tuple[str, ...]:
        """Wait until every sink has taken what is there.

        :param patience: seconds to wait at most, for all of them together.
        :returns: names of the sinks that have not. The next start offers them the rest.
        """
        deadline = time.monotonic() + patience
        for courier in self._couriers:
            courier.close()
        return tuple(courier.name for courier in self._couriers if not courier.wait(deadline))


class _Courier:
    """Brings events to one sink."""

    def __init__(self, name: str, load: Callable[[str], Sink], directory: str | None) -> None:
        self.name = name
        self._load = load
        self._sink: Sink | None = None
        self._directory = directory
        # With what tells of the sink's first failure. Changed by both threads, one step at a time.
        self._streams: dict[Stream, Callable[[BaseException], None]] = {}
        self._complained: set[Stream] = set()
        self._old: Iterator[Stream] | None = None
        self._news = threading.Event()
        self._end = threading.Event()
        self._abandoned = False
        self._delivered = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name=f"nemoclaw-sink-{name}", daemon=True)

    def add(self, stream: Stream, log: EventLog, context: Context) -> None:
        def complain(error: BaseException) -> None:
            # What the plugin raised, not what the plugin manager made of it.
            error = error.__cause__ or error
            record = ocsf.plugin_failed(context, plugin=self.name, hook="on_event", error=error)
            try:
                log.append(record)
            except EventLogError:
                pass  # Closed, or full. The end of the start says that the sink did not take all.

        self._streams[stream] = complain
        if self._thread.ident is None:
            self._thread.start()
        self.wake()

    def wake(self) -> None:
        self._news.set()

    def close(self) -> None:
        self._end.set()
        self._news.set()

    def wait(self, deadline: float) -> bool:
        """True when the sink has taken every event of the logs that were added."""
        if self._thread.ident is None:
            return True
        self._thread.join(max(0.0, deadline - time.monotonic()))
        self._abandoned = True
        return self._delivered

    def _run(self) -> None:
        delay = _SOON
        while True:
            self._news.clear()
            ending = self._end.is_set()
            taken = all([self._serve(stream) for stream in list(self._streams)])
            if ending:
                break
            if taken:
                delay = _SOON
                if not self._serve_old():
                    self._news.wait()
            else:
                self._end.wait(delay)
                delay = min(2 * delay, _LATER)
        self._delivered = taken
        while taken and not self._abandoned and self._serve_old():
            pass
        for stream in list(self._streams):
            stream.release()
        if self._loop is not None:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    def _serve(self, stream: Stream) -> bool:
        """Offer what waits in a log; False when the sink did not take all of it."""
        try:
            if not stream.claim() and not stream.empty:
                return False
            for after, line in stream.lines():
                if self._abandoned:
                    return False
                event = _event(stream.sandbox, line)
                if event is not None:
                    self._offer(event)
                stream.advance(after)
            if stream.finish():
                self._streams.pop(stream, None)
                self._complained.discard(stream)
        except (Exception, SystemExit) as error:
            if stream in self._streams and stream not in self._complained:
                self._complained.add(stream)
                self._streams[stream](error)
            return False
        return True

    def _serve_old(self) -> bool:
        """Offer what waits in one log of an earlier start; False when there is none left."""
        if self._old is None:
            self._old = _left_behind(self.name, self._directory)
        stream = next(self._old, None)
        if stream is None:
            return False
        if not self._serve(stream):
            self._old = iter(())  # it would take no other either; the next start tries again
        stream.release()
        return True

    def _offer(self, event: Event) -> None:
        if self._sink is None:
            self._sink = self._load(self.name)
        answer = self._sink(event)
        if answer is None:
            return
        import asyncio

        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        self._loop.run_until_complete(asyncio.wait_for(_awaited(answer), _ANSWER))


async def _awaited(answer: Awaitable[None]) -> None:
    await answer


def _left_behind(sink: str, directory: str | None) -> Iterator[Stream]:
    """Logs of earlier starts in which events wait for a sink, and that nobody else delivers."""
    for name in archive.sandboxes(directory):
        try:
            stream = Stream.left_behind(name, sink, directory)
        except OSError:
            continue  # Not a folder of the caller's: `nemoclaw logs NAME` tells what it is.
        if stream is not None:
            yield stream


def _event(sandbox: str, line: bytes) -> Event | None:
    """A line as an event; None if it is no record. ``nemoclaw logs --verify`` tells of those."""
    try:
        record: Any = json.loads(line)
        return Event(
            sandbox=sandbox,
            class_uid=int(record["class_uid"]),
            time=int(record["time"]),
            record=record,
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
