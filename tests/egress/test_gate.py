"""What the core answers a network service: policy, then plugins, then one event; or a denial."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from nemoclaw_hookspecs import EgressDecision, EgressRequest, NetworkPolicy, NetworkRule, Origin
from nemoclaw_hookspecs.errors import EventLogError

from nemoclaw_core import seal
from nemoclaw_core.egress import authorizing
from nemoclaw_core.egress.gate import Egress
from nemoclaw_core.egress.generations import Generation
from nemoclaw_core.egress.written import Written
from nemoclaw_core.events import chain
from nemoclaw_core.events.record import Context
from nemoclaw_core.supervisor.gates import Gate

RULE = NetworkRule(host="api.test", origin=Origin(file="p.toml", line=3, key="network.allow[0]"))
NETWORK = seal.encode_value(NetworkPolicy(mode="proxy", allow=(RULE,), ask_timeout=0.05))
REQUEST = EgressRequest(sandbox="box", host="api.test", port=443, protocol="tcp")


class Log:
    """Keeps records; fails when it is told to."""

    def __init__(self) -> None:
        self.records: list[Any] = []
        self.full = False

    def append(self, *records: Any) -> None:
        if self.full:
            raise EventLogError("no space")
        self.records += [
            json.loads(chain.link(each, 1, chain.START)) if isinstance(each, chain.Draft) else each
            for each in records
        ]


def gate_of(*judges: Callable[[EgressRequest], Any]) -> Any:
    named = [(f"judge{number}", judge) for number, judge in enumerate(judges)]
    planned = SimpleNamespace(
        judges=lambda: named,
        upstream=None,
        plan={"policy": "p.toml:default", "services": []},
        network=NETWORK,
    )
    return SimpleNamespace(
        planned=planned,
        context=Context("box"),
        log=Log(),
        init=1,
        tell=lambda question: None,
        in_force=lambda: Generation(Written.of(NETWORK), 1, "p.toml:default"),
    )


def outcome(value: Any = None, error: Exception | None = None) -> Callable[[EgressRequest], Any]:
    return lambda request: SimpleNamespace(value=value, error=error)


async def never(request: EgressRequest) -> None:
    await asyncio.Event().wait()


def hangs(request: EgressRequest) -> Any:
    return SimpleNamespace(value=never(request), error=None)


DENY = EgressDecision(action="deny", rule="blocklist")
ALLOW = EgressDecision(action="allow", rule="mine")


@pytest.mark.parametrize(
    ("judge", "action", "rule"),
    [
        (outcome(None), "allow", "api.test"),
        (outcome(ALLOW), "allow", "api.test"),
        (outcome(DENY), "deny", "judge0: blocklist"),
        (outcome(EgressDecision(action="hold", rule="ask")), "deny", "no-answer"),
        (outcome(error=RuntimeError("secret")), "deny", "judge0: judge0"),
        (outcome("allow"), "deny", "judge0: judge0"),
        (hangs, "deny", "judge0: judge0"),
        (lambda request: None, "deny", "judge0: judge0"),  # it judged when the plan was made
    ],
    ids=["no opinion", "allow", "deny", "hold", "raises", "no decision", "hangs", "gone"],
)
def test_a_plugin_can_only_narrow(
    judge: Any, action: str, rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authorizing, "_ANSWER", 0.05)
    gate = gate_of(judge)
    verdict = asyncio.run(Egress(gate).authorize(REQUEST))
    assert (verdict.action, verdict.rule) == (action, rule)
    *held, event = gate.log.records
    codes = [each["metadata"]["event_code"] for each in held]
    assert codes == (["egress-held"] if rule == "no-answer" else [])
    assert event["metadata"]["event_code"] == ("egress-allowed", "egress-denied")[action == "deny"]
    assert "secret" not in str(event)


def test_no_plugin_allows_what_the_policy_does_not() -> None:
    asked: list[EgressRequest] = []

    def judge(request: EgressRequest) -> Any:
        asked.append(request)
        return SimpleNamespace(value=ALLOW, error=None)

    other = EgressRequest(sandbox="box", host="other.test", port=443, protocol="tcp")
    assert asyncio.run(Egress(gate_of(judge)).authorize(other)).action == "deny"
    assert asked == []


def test_what_cannot_be_logged_is_denied(capsys: pytest.CaptureFixture[str]) -> None:
    gate = gate_of()
    egress = Egress(gate)
    assert asyncio.run(egress.authorize(REQUEST)).action == "allow"
    gate.log.full = True
    assert asyncio.run(egress.authorize(REQUEST)).action == "deny"
    assert "no space" in capsys.readouterr().err


class Service:
    """Fails to cut when a policy is replaced."""

    def __init__(self) -> None:
        self.closed = False

    async def reload(self) -> None:
        raise RuntimeError("half done")

    async def close(self) -> None:
        self.closed = True


def test_a_reload_that_fails_leaves_no_way_out() -> None:
    given = gate_of()
    gate = Gate({}, given.planned, given.context, given.log, 1)
    service = Service()
    gate.egress, gate._services = Egress(given), [service]
    with pytest.raises(RuntimeError, match="half done"):
        asyncio.run(gate.reload(Generation(Written.of(NETWORK), 2, "p.toml:default")))
    assert service.closed
