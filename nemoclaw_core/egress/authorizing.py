"""Policy, then plugins, then, where one of them says so, an operator; and the event of the outcome.

A plugin can only narrow what the policy allows. Whoever holds a request has it looked at: an answer
to one is none to another, and after an answer everybody is asked again.
"""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

import attrs
from nemoclaw_hookspecs import EgressDecision, EgressRequest, EgressVerdict
from nemoclaw_hookspecs.errors import EventLogError, PluginError

from .questions import POLICY, Answer
from .reasons import REASONS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .asking import Asking

    Judge = tuple[str, Callable[[EgressRequest], Any]]
    Log = Callable[[EgressRequest, EgressVerdict, "Answer | None"], EgressVerdict]

_ANSWER = 10.0
"""Seconds that a plugin may take to judge a request; no answer in time counts as deny."""


@attrs.frozen(slots=True)
class _Outcome:
    """What all say. :attr:`asker` is who holds it, :attr:`answer` what an operator said of it."""

    verdict: EgressVerdict
    asker: str = ""
    answer: Answer | None = None


class Authorizer:
    """Decides for one sandbox.

    :param judge: the policy's answer.
    :param log: writes the event; its verdict is the one that counts.
    :param seconds: how long the policy in force lets a request wait for an operator.
    """

    def __init__(
        self,
        judges: Sequence[Judge],
        asking: Asking,
        judge: Callable[[EgressRequest], EgressVerdict],
        log: Log,
        seconds: Callable[[], float],
    ) -> None:
        self._judges = judges
        self._asking = asking
        self._judge = judge
        self._log = log
        self._seconds = seconds

    async def authorize(self, request: EgressRequest) -> EgressVerdict:
        """The answer that counts. One event is written, and one before it if the request is held
        and nobody was asked the same yet."""
        if not self._judges:
            verdict = self._judge(request)
            if verdict.action != "hold" and verdict.rule != "operator":  # nobody has to be asked
                return self._log(request, verdict, None)
        said: dict[str, Answer] = {}
        while True:
            outcome = await self._ask_all(request, said)
            verdict, asker = outcome.verdict, outcome.asker
            if self._judges and verdict.generation != self._judge(request).generation:
                continue  # Another policy came into force while the plugins were asked.
            if verdict.action != "hold":
                return self._log(request, verdict, outcome.answer)
            try:
                answer = await self._asking.wait(asker, verdict, request, self._seconds())
            except asyncio.CancelledError:
                self._log(request, _denied(verdict, "withdrawn"), None)
                raise
            except EventLogError:
                return self._log(request, verdict, None)
            if isinstance(answer, Answer):
                said[asker] = answer
            elif answer != "again":
                return self._log(request, _denied(verdict, answer), None)

    async def _ask_all(self, request: EgressRequest, said: dict[str, Answer]) -> _Outcome:
        """:param said: what an operator has answered to whom, about this very request."""
        verdict = self._judge(request)
        answer = None
        if verdict.action == "hold" and POLICY in said:
            answer = said[POLICY]
            verdict = answered(verdict, answer)
        elif verdict.rule == "operator":
            answer = self._asking.answered(POLICY, verdict, request)
        if verdict.action == "deny" or not self._judges:
            return _Outcome(verdict, POLICY, answer)
        held: _Outcome | None = _Outcome(verdict, POLICY) if verdict.action == "hold" else None
        for plugin, ask in self._judges:
            decision = await _asked(plugin, ask, request)
            if decision is None or decision.action == "allow":
                continue
            narrowed = attrs.evolve(
                verdict,
                action=decision.action,
                rule=f"{plugin}: {decision.rule}",
                reason=decision.reason,
            )
            if decision.action == "deny":
                return _Outcome(narrowed)
            known = said.get(plugin) or self._asking.answered(plugin, verdict, request)
            if known is None:
                held = held or _Outcome(narrowed, plugin)
            elif known.allow:
                answer = known
            else:
                return _Outcome(answered(narrowed, known), plugin, known)
        return held or _Outcome(verdict, POLICY, answer)


def answered(verdict: EgressVerdict, answer: Answer) -> EgressVerdict:
    """What an answer makes of a verdict that says hold. Its origin, which the agent does not see,
    tells who has answered."""
    if not answer.allow:
        denied = _denied(verdict, "operator")
        return attrs.evolve(denied, origin=str(answer.by), remedy="")
    scope = "once" if answer.scope == "once" else "for this sandbox"
    return attrs.evolve(
        verdict,
        action="allow",
        rule="operator",
        reason=f"approved {scope}",
        origin=str(answer.by),
        remedy="",
    )


def _denied(verdict: EgressVerdict, code: str) -> EgressVerdict:
    return attrs.evolve(verdict, action="deny", rule=code, reason=REASONS[code])


async def _asked(
    plugin: str, ask: Callable[[EgressRequest], Any], request: EgressRequest
) -> EgressDecision | None:
    """A plugin's decision; a deny in its place when it fails or does not answer."""
    try:
        outcome = ask(request)
        if outcome is None:
            raise PluginError(f"plugin {plugin!r} does not judge any more", plugin=plugin)
        if outcome.error is not None:
            raise outcome.error
        answer = outcome.value
        if inspect.isawaitable(answer):
            answer = await asyncio.wait_for(answer, _ANSWER)
        if answer is not None and not isinstance(answer, EgressDecision):
            raise PluginError(f"plugin {plugin!r} gave no decision", plugin=plugin)
        return answer
    except Exception as error:  # whatever a plugin raises is a deny
        reason = f"plugin {plugin!r} failed: {type(error).__name__}"
        return EgressDecision(action="deny", rule=plugin, reason=reason)
