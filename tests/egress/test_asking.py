"""What is held for an operator: by policy or plugin, answered in every way, or by nobody."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
from nemoclaw_hookspecs import EgressDecision, EgressRequest, EgressVerdict, HttpRequest
from nemoclaw_hookspecs.errors import EventLogError, UsageError

from nemoclaw_core.egress import asking as asking_module
from nemoclaw_core.egress import authorizing
from nemoclaw_core.egress.asking import Asking
from nemoclaw_core.egress.authorizing import Authorizer, answered
from nemoclaw_core.egress.questions import POLICY, Answer, Operator, Question
from nemoclaw_core.egress.rules import Ruleset

from .conftest import CURL, connection, rule, ruleset

ME = Operator(uid=7, pid=77, command="nemoclaw")
LONG = 30.0
ALLOW = EgressDecision(action="allow", rule="mine")
DENY = EgressDecision(action="deny", rule="blocklist")
HOLD = EgressDecision(action="hold", rule="look", reason="it looks odd")


def say(allow: bool, scope: Any = "once") -> Answer:
    return Answer(allow=allow, scope=scope, by=ME)


class Desk:
    """A gate's decisions without its connections."""

    def __init__(self, *judges: Callable[[EgressRequest], Any], seconds: float = LONG) -> None:
        self.rules: Ruleset = ruleset(rule("known.test"), unknown="ask")
        self.told: list[Question] = []
        self.held: list[Question] = []
        self.logged: list[tuple[EgressRequest, EgressVerdict, Answer | None]] = []
        self.full = False
        self.asking = Asking("box", self.told.append, self._hold)
        named = [(f"plugin{number}", judge) for number, judge in enumerate(judges)]
        self.authorizer = Authorizer(named, self.asking, self.judge, self._log, lambda: seconds)

    def _hold(self, request: EgressRequest, verdict: EgressVerdict, question: Question) -> None:
        if self.full:
            raise EventLogError("no space")
        self.held.append(question)

    def _log(
        self, request: EgressRequest, verdict: EgressVerdict, answer: Answer | None
    ) -> EgressVerdict:
        if self.full:
            verdict = attrs.evolve(verdict, action="deny", rule="event-log")
        self.logged.append((request, verdict, answer))
        return verdict

    def judge(self, request: EgressRequest) -> EgressVerdict:
        verdict = self.rules.judge(request)
        if verdict.action == "hold":
            answer = self.asking.answered(POLICY, verdict, request)
            if answer is not None:
                return answered(verdict, answer)
        return verdict

    def reload(self, rules: Ruleset) -> None:
        self.rules = rules
        self.asking.look_again(self.judge)

    async def ask(self, *requests: EgressRequest) -> list[asyncio.Task[EgressVerdict]]:
        """Authorize each, until it is held or done."""
        tasks = [asyncio.create_task(self.authorizer.authorize(each)) for each in requests]
        for _ in range(4):
            await asyncio.sleep(0)
        return tasks

    def answer(self, number: str, allow: bool, scope: Any = "once") -> None:
        self.asking.answer(number, say(allow, scope))


def plugin(*decisions: EgressDecision | None) -> Callable[[EgressRequest], Any]:
    """Decides so, one after the other; the last one for ever."""
    left = list(decisions)

    def judge(request: EgressRequest) -> Any:
        return SimpleNamespace(value=left.pop(0) if len(left) > 1 else left[0], error=None)

    return judge


def run(work: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(_all(work), 20))


async def _all(work: Callable[[], Awaitable[None]]) -> None:
    await work()


def test_no_answer_in_time_is_deny() -> None:
    desk = Desk(seconds=0.02)
    verdict = asyncio.run(desk.authorizer.authorize(connection("new.test")))
    assert (verdict.action, verdict.rule) == ("deny", "no-answer")
    assert 'host = "new.test"' in verdict.remedy
    assert [each.id for each in desk.held] == ["1"]
    assert len(desk.logged) == 1


@pytest.mark.parametrize("allow", [True, False])
@pytest.mark.parametrize("scope", ["once", "sandbox"])
def test_an_answer_is_for_everybody_who_asks_the_same(allow: bool, scope: str) -> None:
    desk = Desk()

    async def work() -> None:
        tasks = await desk.ask(*(connection("new.test") for _ in range(3)))
        (question,) = desk.asking.questions()
        assert (question.what, question.waiting, question.program) == (
            "new.test:443", 3, CURL.executable,
        )  # fmt: skip
        assert LONG - 1 < question.remaining <= LONG
        desk.answer(question.id, allow, scope)
        for task in tasks:
            verdict = await task
            assert (verdict.action, verdict.rule) == ("allow" if allow else "deny", "operator")
            assert "process 77" in verdict.origin
            assert "77" not in verdict.reason + verdict.remedy  # the agent sees these
        assert len(desk.held) == len(desk.told) == 1
        assert [answer for _, _, answer in desk.logged] == [say(allow, scope)] * 3
        assert desk.asking.questions() == []
        again, other = await desk.ask(connection("new.test"), connection("new.test", 80))
        assert again.done() == (scope == "sandbox")
        assert not other.done()
        again.cancel()
        other.cancel()

    run(work)


def test_what_is_approved_once_is_that_connection_and_no_other() -> None:
    desk = Desk()
    approved, later = connection("new.test"), connection("new.test")

    async def work() -> None:
        (task,) = await desk.ask(approved)
        desk.answer("1", True)
        assert (await task).action == "allow"

    run(work)
    assert approved == later
    assert desk.judge(approved).action == "allow"  # as it is when another policy comes into force
    assert desk.judge(later).action == "hold"
    desk.rules = ruleset(rule("known.test"))
    assert desk.judge(approved).action == "deny"


def test_what_was_approved_once_is_forgotten_with_its_connection() -> None:
    desk = Desk()

    async def work() -> None:
        (task,) = await desk.ask(connection("new.test"))
        desk.answer("1", True)
        await task

    run(work)
    desk.logged.clear()
    gc.collect()
    assert not desk.asking._once


def test_no_answer_stands_against_the_policy() -> None:
    """Also one for the sandbox: a host that is denied now, an address, a metadata service."""
    desk = Desk()

    async def work() -> None:
        (task,) = await desk.ask(connection("new.test"))
        desk.answer("1", True, "sandbox")
        await task

    run(work)
    assert desk.judge(connection("new.test")).action == "allow"
    assert desk.judge(connection("new.test")).addresses == ()
    desk.rules = ruleset(rule("new.test", ports=(80,)), unknown="ask")
    assert desk.judge(connection("new.test")).rule == "port"
    desk.rules = ruleset(rule("known.test"))
    assert desk.judge(connection("new.test")).rule == "no-rule"


@pytest.mark.parametrize("host", ["metadata.google.internal", "169.254.169.254", "127.0.0.1",
                                  "10.0.0.1", "0x7f.1", "[::1]", "user@new.test"])  # fmt: skip
def test_some_hosts_are_never_asked_about(host: str) -> None:
    desk = Desk()
    verdict = asyncio.run(desk.authorizer.authorize(connection(host)))
    assert verdict.action == "deny"
    assert desk.held == []


def test_who_goes_away_is_not_asked_about_any_more() -> None:
    desk = Desk()

    async def work() -> None:
        first, second = await desk.ask(connection("new.test"), connection("new.test"))
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        (question,) = desk.asking.questions()
        assert question.waiting == 1
        second.cancel()
        await asyncio.wait((second,))
        assert desk.asking.questions() == []
        assert [verdict.rule for _, verdict, _ in desk.logged] == ["withdrawn"] * 2
        (seen,) = desk.asking.questions(everything=True)
        assert (seen.id, seen.waiting) == ("1", 0)

    run(work)


def test_a_number_stands_for_the_same_question_when_it_is_asked_again() -> None:
    desk = Desk()

    async def work() -> None:
        (task,) = await desk.ask(connection("new.test"))
        task.cancel()
        (other,) = await desk.ask(connection("other.test"))
        with pytest.raises(UsageError, match="nobody waits"):
            desk.answer("1", True)
        (again,) = await desk.ask(connection("new.test"))
        assert [(each.id, each.host) for each in desk.asking.questions()] == [
            ("1", "new.test"), ("2", "other.test"),
        ]  # fmt: skip
        # Asked, but not told again so soon: an agent could fill the terminal.
        assert [each.id for each in desk.told] == ["1", "2"]
        again.cancel()
        other.cancel()
        await asyncio.wait((again, other))
        desk.answer("1", True, "sandbox")  # for the next attempt
        (last,) = await desk.ask(connection("new.test"))
        assert (await last).action == "allow"
        with pytest.raises(UsageError, match="no question '9'"):
            desk.answer("9", True)

    run(work)


def test_an_answer_for_the_sandbox_can_be_taken_back() -> None:
    desk = Desk()

    async def work() -> None:
        (task,) = await desk.ask(connection("new.test"))
        desk.answer("1", True, "sandbox")
        await task
        (known,) = desk.asking.questions(everything=True)
        assert known.answer == "allowed"
        desk.answer("1", False, "sandbox")
        assert desk.judge(connection("new.test")).action == "deny"

    run(work)


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking_module, "QUESTIONS", 3)
    monkeypatch.setattr(asking_module, "WAITERS", 5)
    monkeypatch.setattr(asking_module, "_REMEMBERED", 4)
    desk = Desk()

    async def work() -> None:
        tasks = await desk.ask(*(connection(f"{number}.test") for number in range(4)))
        assert [task.done() for task in tasks] == [False, False, False, True]
        assert tasks[3].result().rule == "too-many-held"
        more = await desk.ask(*(connection("0.test") for _ in range(3)))
        assert [task.done() for task in more] == [False, False, True]
        for task in (*tasks, *more):
            task.cancel()
        await asyncio.wait((*tasks, *more))
        for number in range(20):
            (task,) = await desk.ask(connection(f"{number}.more.test"))
            task.cancel()
            await asyncio.wait((task,))
        assert len(desk.asking.questions(everything=True)) <= 4

    run(work)


@pytest.mark.parametrize(
    ("rules", "action", "decided"),
    [
        (ruleset(rule("new.test"), unknown="ask"), "allow", "new.test"),
        (ruleset(rule("other.test")), "deny", "no-rule"),
        (ruleset(mode="none"), "deny", "mode"),
        (ruleset(rule("other.test"), unknown="ask"), "hold", ""),
    ],
    ids=["allowed now", "denied now", "closed now", "still held"],
)
def test_a_reload_judges_anew_what_is_held(rules: Ruleset, action: str, decided: str) -> None:
    desk = Desk()

    async def work() -> None:
        (task,) = await desk.ask(connection("new.test"))
        desk.reload(rules)
        if action == "hold":
            await asyncio.sleep(0)
            assert not task.done()
            task.cancel()
            return
        verdict = await task
        assert (verdict.action, verdict.rule) == (action, decided)
        assert desk.asking.questions() == []

    run(work)


def test_what_cannot_be_logged_is_not_held() -> None:
    desk = Desk()
    desk.full = True
    verdict = asyncio.run(desk.authorizer.authorize(connection("new.test")))
    assert (verdict.action, verdict.rule) == ("deny", "event-log")
    assert desk.told == []


# -- plugins


def test_a_plugin_may_have_a_request_looked_at() -> None:
    """Which is then answered for that request: not for another, and not for the host."""
    desk = Desk(plugin(HOLD))
    http = HttpRequest(method="POST", path="/a")

    def posted(path: str) -> EgressRequest:
        sent = attrs.evolve(http, path=path)
        return attrs.evolve(connection("known.test"), protocol="http", http=sent)

    async def work() -> None:
        (task,) = await desk.ask(posted("/a"))
        (question,) = desk.asking.questions()
        assert question.asker == "plugin0"
        assert question.what == "known.test:443 POST /a"
        assert question.reason == "it looks odd"
        desk.answer(question.id, True, "sandbox")
        verdict = await task
        assert (verdict.action, verdict.rule) == ("allow", "known.test")
        assert desk.logged[-1][2] == say(True, "sandbox")
        same, other = await desk.ask(posted("/a"), posted("/b"))
        assert (await same).action == "allow"
        assert not other.done()
        desk.reload(ruleset())
        assert (await other).rule == "no-rule"

    run(work)


def test_an_answer_to_one_is_none_to_another() -> None:
    desk = Desk(plugin(HOLD), plugin(HOLD))

    async def work() -> None:
        (task,) = await desk.ask(connection("new.test"))
        for asker in (POLICY, "plugin0", "plugin1"):
            (question,) = desk.asking.questions()
            assert question.asker == asker
            desk.answer(question.id, True)
            for _ in range(4):
                await asyncio.sleep(0)
        assert (await task).action == "allow"
        assert len(desk.logged) == 1

    run(work)


@pytest.mark.parametrize(
    ("judges", "rule_"),
    [
        ((plugin(DENY),), "plugin0: blocklist"),
        ((plugin(HOLD), plugin(DENY)), "plugin1: blocklist"),
        ((plugin(ALLOW, DENY),), "plugin0: blocklist"),
    ],
    ids=["at once", "beside one that holds", "after the answer"],
)
def test_a_plugin_that_denies_is_not_overruled(judges: Any, rule_: str) -> None:
    desk = Desk(*judges)

    async def work() -> None:
        (task,) = await desk.ask(connection("new.test"))
        if not task.done():
            desk.answer("1", True)
        verdict = await task
        assert (verdict.action, verdict.rule) == ("deny", rule_)

    run(work)


def test_an_operator_may_deny_what_a_plugin_holds() -> None:
    desk = Desk(plugin(HOLD))

    async def work() -> None:
        (task,) = await desk.ask(connection("known.test"))
        desk.answer("1", False)
        verdict = await task
        assert (verdict.action, verdict.rule, verdict.remedy) == ("deny", "operator", "")

    run(work)


def test_a_plugin_that_hangs_after_an_answer_denies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authorizing, "_ANSWER", 0.02)

    async def never(request: EgressRequest) -> None:
        await asyncio.Event().wait()

    desk = Desk(lambda request: SimpleNamespace(value=never(request), error=None))
    verdict = asyncio.run(desk.authorizer.authorize(connection("new.test")))
    assert (verdict.action, verdict.rule) == ("deny", "plugin0: plugin0")
