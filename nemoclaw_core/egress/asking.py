"""Connections that are held until an operator answers, or nobody has.

Lives in the gate thread. Whoever waits is a coroutine of the network service; an answer that holds
for the sandbox is kept here, and counts only where the policy in force says ``hold``: it never
stands against a rule, an address or a name that the policy denies. No answer is deny.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from nemoclaw_hookspecs.errors import UsageError

from .questions import POLICY, Answer, Question, Subject, subject_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from nemoclaw_hookspecs import Caller, EgressRequest, EgressVerdict

QUESTIONS = 64
"""That may be open at a time."""
WAITERS = 256
"""Connections that may wait at a time, for all questions together."""
_REMEMBERED = 512
"""Questions whose number is kept, so that it means the same when it is asked again."""
_ANSWERS = 4096
"""Answers for the sandbox that are kept. No person gives as many."""
_REPEAT = 60.0
"""Seconds in which a question that was asked anew is not told anew."""


class _Waiter:
    __slots__ = ("deadline", "future", "request")

    def __init__(
        self, request: EgressRequest, future: asyncio.Future[Answer | str], deadline: float
    ) -> None:
        self.request = request
        self.future = future
        self.deadline = deadline

    def settle(self, outcome: Answer | str) -> None:
        if not self.future.done():
            self.future.set_result(outcome)


class _Entry:
    """A question that was asked at least once."""

    __slots__ = ("caller", "id", "reason", "since", "subject", "told", "waiters")

    def __init__(self, number: int, subject: Subject) -> None:
        self.id = str(number)
        self.subject = subject
        self.waiters: set[_Waiter] = set()
        self.reason = ""
        self.caller: Caller | None = None
        self.since = 0.0
        self.told = 0.0


class Asking:
    """The questions of one sandbox.

    :param tell: called with each new question; must not block.
    :param held: called before that, to log it; what it raises denies.
    """

    def __init__(
        self,
        sandbox: str,
        tell: Callable[[Question], None],
        held: Callable[[EgressRequest, EgressVerdict, Question], None],
    ) -> None:
        self._sandbox = sandbox
        self._tell = tell
        self._held = held
        self._entries: OrderedDict[Subject, _Entry] = OrderedDict()
        self._answers: dict[Subject, Answer] = {}
        # By identity: equal requests of two connections are two.
        self._once: dict[int, tuple[weakref.ref[EgressRequest], Answer]] = {}
        self._last = 0

    # -- for the gate

    def answered(self, asker: str, verdict: EgressVerdict, request: EgressRequest) -> Answer | None:
        """What an operator has said already about a request that is to be held."""
        if asker == POLICY and id(request) in self._once:
            reference, answer = self._once[id(request)]
            if reference() is request:
                return answer
        if not self._answers:
            return None
        return self._answers.get(subject_of(asker, verdict.host, verdict.port, request))

    async def wait(
        self, asker: str, verdict: EgressVerdict, request: EgressRequest, seconds: float
    ) -> Answer | str:
        """Hold a request.

        :param asker: ``policy``, or the plugin that wants it held.
        :param seconds: how long, at most.
        :returns: the answer, or ``again`` (the policy has changed), ``no-answer``,
            ``too-many-held``.
        """
        loop = asyncio.get_running_loop()
        entry = self._entry(subject_of(asker, verdict.host, verdict.port, request))
        if entry is None:
            return "too-many-held"
        waiter = _Waiter(request, loop.create_future(), loop.time() + seconds)
        timer = loop.call_later(seconds, waiter.settle, "no-answer")
        first = not entry.waiters
        entry.waiters.add(waiter)
        try:
            if first:
                self._open(entry, verdict, request)
            outcome = await waiter.future
        finally:
            timer.cancel()
            entry.waiters.discard(waiter)
        if isinstance(outcome, Answer) and asker == POLICY and outcome.scope == "once":
            self._remember(request, outcome)
        return outcome

    def look_again(self, judge: Callable[[EgressRequest], EgressVerdict]) -> None:
        """Another policy is in force: let go of whatever it does not hold."""
        for entry in self._entries.values():
            expected = "hold" if entry.subject.asker == POLICY else "allow"
            for waiter in tuple(entry.waiters):
                if judge(waiter.request).action != expected:
                    waiter.settle("again")

    # -- for the operator

    def questions(self, *, everything: bool = False) -> list[Question]:
        """What is asked now, the oldest first.

        :param everything: also what nobody waits for any more, and what was answered for the
            sandbox.
        """
        found = [each for each in self._entries.values() if each.waiters or everything]
        return [self._question(each) for each in sorted(found, key=lambda each: int(each.id))]

    def answer(self, number: str, answer: Answer) -> Question:
        """Answer one.

        :returns: the question, as it was before.
        :raises UsageError: there is no such question, or nobody waits for an answer that would
            hold for what waits alone.
        """
        entry = next((each for each in self._entries.values() if each.id == number), None)
        if entry is None:
            raise UsageError(
                f"there is no question {number!r}",
                remedy=f"`nemoclaw pending {self._sandbox}` lists those that are open",
            )
        question = self._question(entry)
        if answer.scope == "once" and not entry.waiters:
            raise UsageError(
                f"nobody waits for an answer about {question.what} any more",
                remedy="answer for the sandbox: the next attempt is not asked about then",
            )
        if answer.scope == "sandbox":
            if len(self._answers) >= _ANSWERS:
                raise UsageError(
                    f"{_ANSWERS} answers are kept for this sandbox already",
                    remedy="write rules into its policy, and reload it",
                )
            self._answers[entry.subject] = answer
        for waiter in tuple(entry.waiters):
            waiter.settle(answer)
        return question

    # -- inside

    def _entry(self, subject: Subject) -> _Entry | None:
        """The entry of a subject; None when too many wait."""
        open_now = [each for each in self._entries.values() if each.waiters]
        if sum(len(each.waiters) for each in open_now) >= WAITERS:
            return None
        entry = self._entries.get(subject)
        if len(open_now) >= QUESTIONS and (entry is None or not entry.waiters):
            return None
        if entry is None:
            self._last += 1
            entry = self._entries[subject] = _Entry(self._last, subject)
            while len(self._entries) > _REMEMBERED:
                idle = next(each for each, known in self._entries.items() if not known.waiters)
                if idle == subject:
                    break
                del self._entries[idle]
        self._entries.move_to_end(subject)
        return entry

    def _open(self, entry: _Entry, verdict: EgressVerdict, request: EgressRequest) -> None:
        entry.reason, entry.caller, entry.since = verdict.reason, request.caller, time.time()
        question = self._question(entry)
        self._held(request, verdict, question)
        now = time.monotonic()
        if not entry.told or now - entry.told > _REPEAT:
            entry.told = now
            self._tell(question)

    def _remember(self, request: EgressRequest, answer: Answer) -> None:
        key = id(request)

        def forget(_: Any) -> None:
            self._once.pop(key, None)

        self._once[key] = (weakref.ref(request, forget), answer)

    def _question(self, entry: _Entry) -> Question:
        remaining = 0.0
        if entry.waiters:
            now = asyncio.get_running_loop().time()
            remaining = max(0.0, max(each.deadline for each in entry.waiters) - now)
        caller = entry.caller
        answer = self._answers.get(entry.subject)
        return Question(
            sandbox=self._sandbox,
            id=entry.id,
            host=entry.subject.host,
            port=entry.subject.port,
            request=entry.subject.request,
            asker=entry.subject.asker,
            reason=entry.reason,
            program=caller.executable if caller is not None else "",
            pid=caller.pid if caller is not None else 0,
            waiting=len(entry.waiters),
            since=entry.since,
            remaining=round(remaining, 1),
            answer="" if answer is None else "allowed" if answer.allow else "denied",
        )
