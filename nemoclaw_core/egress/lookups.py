"""Names looked up outside the sandbox, as the host's own programs look them up.

getaddrinfo(3) blocks, for half a minute where a server does not answer, and cannot be interrupted.
So it runs in a few threads, which nobody waits for at the end of the process, and a caller waits a
limited time. Answers are kept for a moment; questions for the same name are asked once.
"""

from __future__ import annotations

import asyncio
import queue
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Union

from nemoclaw_hookspecs.errors import UpstreamError

Resolve = Callable[[str], Iterable[str]]
"""From a name to addresses, best first. Blocks. Raises OSError."""

_Answer = Union[tuple[str, ...], OSError]  # noqa: UP007 -- evaluated, also by Python 3.10
HOSTS = "/etc/hosts"
_THREADS = 8
_WAITING = 256
"""Questions that may wait for a thread."""
_KEPT = 1024
"""Answers."""
_LIFE = 10.0
"""Seconds that an answer is kept. getaddrinfo(3) does not tell the server's own word on it."""
_LIFE_OF_FAILURE = 2.0


def resolve_outside(name: str) -> list[str]:
    """The addresses of a name: as the hosts file has them, or else getaddrinfo(3).

    A name with a dot is taken to be complete. A search list (resolv.conf(5)) would lead a name that
    does not exist to another server than the one that a rule names; only a name of one label,
    which means nothing without it, is looked up along it.

    :raises OSError: it cannot be looked up.
    """
    found = _in_hosts_file(name)
    if found:
        return found
    asked = f"{name}." if "." in name else name
    answers = socket.getaddrinfo(asked.encode("ascii"), None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in answers))


def _in_hosts_file(name: str) -> list[str]:
    """hosts(5): the C library finds a name that ends in a dot there no more."""
    try:
        with open(HOSTS, encoding="utf-8", errors="replace") as file:
            lines = file.read(1 << 20).splitlines()
    except OSError:
        return []  # the file is optional, and DNS is asked
    found = []
    for line in lines:
        address, *names = line.partition("#")[0].split() or [""]
        if name in map(str.lower, names):
            found.append(address)
    return found


class Lookups:
    """Asks a resolver in threads, with a limit of time.

    Of use in any event loop, from any thread.

    :param resolve: what to ask; :func:`resolve_outside` when None.
    :param timeout: seconds that a caller waits.
    """

    def __init__(self, resolve: Resolve | None = None, *, timeout: float = 5.0) -> None:
        self._resolve = resolve or resolve_outside
        self._timeout = timeout
        self._lock = threading.Lock()
        self._threads = 0
        self._idle = 0
        self._questions: queue.SimpleQueue[_Question | None] = queue.SimpleQueue()
        self._asked: dict[str, _Question] = {}
        self._answers: OrderedDict[str, tuple[float, _Answer]] = OrderedDict()
        self._closed = False

    async def addresses(self, name: str) -> tuple[str, ...]:
        """The addresses of a canonical name, best first.

        :raises UpstreamError: there are none, or nobody answers in time.
        """
        answer = self._kept(name)
        if answer is None:
            answer = await self._ask(name)
        if isinstance(answer, OSError):
            raise UpstreamError(f"{name} cannot be resolved: {_clause(answer)}") from answer
        if not answer:
            raise UpstreamError(f"{name} cannot be resolved: it has no address")
        return answer

    def close(self) -> None:
        """Ask nothing any more, and let the threads end as soon as they can."""
        with self._lock:
            self._closed = True
            for _ in range(self._threads):
                self._questions.put(None)

    def _kept(self, name: str) -> _Answer | None:
        with self._lock:
            found = self._answers.get(name)
            if found is None:
                return None
            if time.monotonic() >= found[0]:
                del self._answers[name]
                return None
            return found[1]

    async def _ask(self, name: str) -> _Answer:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_Answer] = loop.create_future()
        with self._lock:
            if self._closed:
                raise UpstreamError(f"{name} cannot be resolved: the sandbox is ending")
            question = self._asked.get(name)
            if question is None:
                if len(self._asked) >= _WAITING:
                    raise UpstreamError(f"{name} cannot be resolved: too many names are looked up")
                question = self._asked[name] = _Question(name)
                self._questions.put(question)
                if not self._idle and self._threads < _THREADS:
                    self._threads += 1
                    threading.Thread(target=self._work, name="resolve", daemon=True).start()
            question.waiting.append((loop, future))
        try:
            return await asyncio.wait_for(future, self._timeout)
        except asyncio.TimeoutError:
            what = f"{name} cannot be resolved: no answer in {self._timeout:g} s"
            raise UpstreamError(what) from None
        finally:
            with self._lock:
                if (loop, future) in question.waiting:
                    question.waiting.remove((loop, future))

    def _work(self) -> None:
        while True:
            with self._lock:
                self._idle += 1
            question = self._questions.get()
            with self._lock:
                self._idle -= 1
                if question is None or self._closed:
                    self._threads -= 1
                    return
                wanted = bool(question.waiting)
                if not wanted:
                    del self._asked[question.name]
            if wanted:
                self._settle(question)

    def _settle(self, question: _Question) -> None:
        answer: _Answer
        try:
            answer = tuple(self._resolve(question.name))
        except OSError as error:
            answer = error
        except Exception as error:  # a resolver of somebody else's: an answer all the same
            answer = OSError(f"{type(error).__name__} in the resolver")
        life = _LIFE_OF_FAILURE if isinstance(answer, OSError) else _LIFE
        with self._lock:
            del self._asked[question.name]
            self._answers[question.name] = (time.monotonic() + life, answer)
            self._answers.move_to_end(question.name)
            if len(self._answers) > _KEPT:
                self._answers.popitem(last=False)
            waiting, question.waiting = question.waiting, []
        for loop, future in waiting:
            try:
                loop.call_soon_threadsafe(_tell, future, answer)
            except RuntimeError:
                continue  # that loop is closed: nobody waits


class _Question:
    """A name that is being looked up, and who waits for it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[_Answer]]] = []


def _tell(future: asyncio.Future[_Answer], answer: _Answer) -> None:
    if not future.done():
        future.set_result(answer)


def _clause(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
