"""The thread that serves what was born in the sandboxes' network namespaces.

One for a process, however many sandboxes there are. It waits with poll(2) and has imported nothing:
asyncio, the rules and a plugin's network service are loaded when the first connection or query
waits in a socket's backlog. A sandbox that never connects costs a few descriptors.
"""

from __future__ import annotations

import _thread
import os
import select
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from typing import Any

    from ..egress.generations import Generation
    from ..egress.questions import Question
    from ..events.log import EventLog
    from ..events.record import Context
    from ..planning import Planned

_CLOSING = 5.0
"""Seconds that a service may take to let go of what it serves."""


class Gate:
    """The way out of one sandbox. The thread's side of it is :meth:`begin` and :meth:`end`.

    :param sockets: descriptors by name, which are this object's own from now on.
    :param planned: what the sandbox was started from: its network policy and services.
    """

    def __init__(
        self,
        sockets: dict[str, int],
        planned: Planned,
        context: Context,
        log: EventLog,
        init: int,
    ) -> None:
        self.sockets = sockets
        self.planned = planned
        self.force: Generation | None = None
        """The policy in force; None: that of the start, which nobody has needed yet."""
        self.context = context
        self.log = log
        self.init = init
        """Process id of the sandbox's init, to look up who connects."""
        self.told: Callable[[Question], None] | None = None
        """Called in the gate thread when an operator is asked something; must not block."""
        self.egress: Any = None
        self._services: list[Any] = []
        self._opened: list[Any] = []
        self._ended = False

    def waiting(self) -> list[int]:
        """The descriptors on which the agent may be heard."""
        asked = ("diag", "conntrack")  # these never speak first
        return [number for name, number in self.sockets.items() if name not in asked]

    def tell(self, question: Question) -> None:
        """An operator is asked."""
        if self.told is not None:
            self.told(question)

    def in_force(self) -> Generation:
        """The policy in force, compiled."""
        if self.force is None:
            from ..egress.generations import Generation
            from ..egress.written import Written

            planned = self.planned
            written = Written.of(planned.network)
            self.force = Generation(written, 1, planned.plan["policy"], planned.digest)
        return self.force

    def put_in_force(self, generation: Generation) -> None:
        """What events say from now on, and what is judged by once somebody connects."""
        self.force = generation
        self.context.put_in_force(generation.policy, generation.digest, generation.number)

    async def begin(self) -> None:
        """Load the service, and serve."""
        from ..egress.gate import open_gate, open_sockets

        if self._ended:
            return
        sockets, self.sockets = open_sockets(self.sockets), {}
        self._opened = list(sockets.values())
        self.egress, self._services = open_gate(self, sockets)
        for service in self._services:
            await service.start()
            if self._ended:
                # Meanwhile. What has just been started was closed before it was.
                await service.close()

    async def reload(self, generation: Generation) -> None:
        """Put another network policy in force, whole."""
        if self.egress is None:
            self.put_in_force(generation)
            return
        self.egress.replace(generation)  # What it raises has changed nothing.
        try:
            self.put_in_force(generation)
            for service in self._services:
                await service.reload()
        except BaseException:
            # In force is the new policy or none: half of it would let through what it forbids.
            await self.end()
            raise

    async def end(self) -> None:
        """Cut what is open, and let go of the sockets."""
        self._ended = True
        try:
            for service in self._services:
                await service.close()
            if self.egress is not None:
                self.egress.close()
        finally:
            self.drop()

    def close(self) -> None:
        """The sandbox is gone. Returns when nothing of its gate is open."""
        GATES.remove(self)

    def drop(self) -> None:
        """Close the sockets: who connects now is refused."""
        sockets, self.sockets = self.sockets, {}
        for number in sockets.values():
            os.close(number)
        # One that stayed open would keep the sandbox's network namespace alive.
        for opened in self._opened:
            opened.close()


class Gates:
    """The gates of this process, and their thread. Thread-safe."""

    def __init__(self) -> None:
        self._lock = _thread.allocate_lock()
        self._waiting: dict[int, Gate] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken = self._waker = -1
        self._pid = 0

    def add(self, gate: Gate) -> None:
        """Serve a gate from now on."""
        with self._lock:
            if self._pid != os.getpid():
                # The first, or the thread has stayed behind in the process that this one left.
                self._waiting, self._loop, self._pid = {}, None, os.getpid()
                self._woken, self._waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
                # Imported here, by this thread: `threading` takes its importer for the main one,
                # and only the main one may have to do with signals.
                import threading

                threading.Thread(target=self._run, name="gates", daemon=True).start()
            for number in gate.waiting():
                self._waiting[number] = gate
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._watch, gate)
            else:
                os.write(self._waker, b"\0")

    def remove(self, gate: Gate) -> None:
        """The sandbox is gone: serve its gate no more. Returns when everything of it is closed."""
        with self._lock:
            numbers = [number for number, other in self._waiting.items() if other is gate]
            for number in numbers:
                del self._waiting[number]
            loop = self._loop
            if loop is None:
                gate.drop()
                os.write(self._waker, b"\0")
                return
        try:
            self.call(self._forget(gate, numbers))
        except TimeoutError:
            gate.drop()  # Whatever the service still holds ends with this process.

    def call(self, coroutine: Any) -> Any:
        """Run a coroutine in the thread, and wait for its result."""
        import asyncio
        import concurrent.futures

        assert self._loop is not None
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result(_CLOSING)
        except concurrent.futures.TimeoutError:
            future.cancel()
            raise TimeoutError(f"the gate did not answer in {_CLOSING:g} s") from None

    def reload(self, gate: Gate, generation: Generation) -> None:
        """Put another network policy in force for a gate, before returning.

        :raises TimeoutError: it did not get there in time. It may still.
        """
        with self._lock:
            if self._loop is None:
                gate.put_in_force(generation)
                return
        self.call(gate.reload(generation))

    def _run(self) -> None:
        try:
            self._serve()
        except BaseException as error:
            with self._lock:
                gates = set(self._waiting.values())
                self._waiting.clear()
            # No way out is the safe way to fail: who connects is refused, and does not wait.
            for gate in gates:
                gate.drop()
            sys.stderr.write(f"nemoclaw: no network is served any more: {error!r}\n")

    def _serve(self) -> None:
        self._wait()
        import asyncio

        loop = _new_loop()
        asyncio.set_event_loop(loop)
        with self._lock:
            self._loop = loop
            gates = list(dict.fromkeys(self._waiting.values()))
        for gate in gates:
            loop.call_soon(self._watch, gate)
        loop.run_forever()

    def _wait(self) -> None:
        """Until somebody connects."""
        while True:
            poll = select.poll()
            poll.register(self._woken, select.POLLIN)
            with self._lock:
                for number in self._waiting:
                    poll.register(number, select.POLLIN)
            ready = {number for number, _ in poll.poll()}
            if self._woken not in ready:
                return
            os.read(self._woken, 4096)

    def _watch(self, gate: Gate) -> None:
        assert self._loop is not None
        for number in gate.waiting():
            self._loop.add_reader(number, self._begin, gate)

    def _begin(self, gate: Gate) -> None:
        assert self._loop is not None
        self._unwatch(gate.waiting())
        self._loop.create_task(self._open(gate))

    def _unwatch(self, numbers: list[int]) -> None:
        assert self._loop is not None
        for number in numbers:
            self._loop.remove_reader(number)
            with self._lock:
                self._waiting.pop(number, None)

    async def _open(self, gate: Gate) -> None:
        try:
            await gate.begin()
        except Exception as error:
            # No way out is the safe way to fail: the agent's connections are refused.
            sys.stderr.write(
                f"nemoclaw: the network of {gate.context.sandbox} is closed: {error}\n"
            )
            await gate.end()

    async def _forget(self, gate: Gate, numbers: list[int]) -> None:
        self._unwatch(numbers)
        await gate.end()


def _new_loop() -> asyncio.AbstractEventLoop:
    """An event loop: uvloop's where it is installed, which is three times as fast."""
    import asyncio

    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


GATES = Gates()
