"""A policy that is compiled from the one before it says what it would say alone."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nemoclaw_hookspecs import NetworkPolicy, NetworkRule
from nemoclaw_hookspecs.errors import LauncherError, NemoclawError, UsageError

from nemoclaw_core import seal
from nemoclaw_core.egress import generations
from nemoclaw_core.egress.changes import Change, as_data, told
from nemoclaw_core.egress.generations import Generation
from nemoclaw_core.egress.questions import Operator
from nemoclaw_core.egress.reload import reload
from nemoclaw_core.egress.rules import Rule, Ruleset
from nemoclaw_core.egress.written import Written
from nemoclaw_core.events.record import Context
from nemoclaw_core.supervisor.gates import Gate

from .conftest import CALM, connection, request, rule

HOSTS = ("a.test", "b.test", "*.c.test", "**.d.test", "203.0.113.7")
ASKED = ("a.test", "A.test.", "b.test", "x.c.test", "x.y.d.test", "203.0.113.7", "e.test", "a..b")


def sent(*rules: NetworkRule, **more: Any) -> dict[str, Any]:
    """As it arrives from a client."""
    policy = NetworkPolicy(allow=rules, **{"mode": "proxy", **more})
    found: dict[str, Any] = json.loads(json.dumps(Written.of(seal.encode_value(policy)).as_data()))
    return found


def arrived(*rules: NetworkRule, **more: Any) -> Written:
    return Written.read(sent(*rules, **more))


def generation(*rules: NetworkRule, before: Generation | None = None, **more: Any) -> Generation:
    number = 1 if before is None else before.number + 1
    return Generation(arrived(*rules, **more), number, "p.toml:default", before=before)


RULES = st.lists(
    st.builds(
        rule,
        host=st.sampled_from(HOSTS),
        http=st.sampled_from([(), ("GET /x/**",), ("POST /y",)]),
        deny=st.sampled_from([(), ("GET /x/1",)]),
        line=st.integers(1, 4),
        ports=st.sampled_from([(443,), (80, 443)]),
        tls=st.sampled_from(["auto", "terminate"]),
    ),
    max_size=5,
)


@CALM
@given(RULES, RULES, st.sampled_from(["deny", "ask"]))
def test_what_is_taken_over_says_the_same_as_what_is_compiled(
    first: list[NetworkRule], second: list[NetworkRule], unknown: Any
) -> None:
    before = generation(*first)
    after = generation(*second, before=before, unknown=unknown)
    alone = Ruleset(NetworkPolicy(mode="proxy", allow=tuple(second), unknown=unknown), 2)
    for host in ASKED:
        asked = [connection(host), connection(host, 80)]
        asked += [request("GET", "/x/1", host), request("POST", "/y", host)]
        for each in asked:
            verdict = after.rules.judge(each)
            assert verdict == alone.judge(each)
            if not after.changes_for(host):
                old = before.rules.judge(each)
                same = ("action", "tls", "inspect", "addresses", "path", "credential")
                assert [getattr(old, key) for key in same] == [
                    getattr(verdict, key) for key in same
                ]


def test_only_what_has_changed_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    before = generation(rule("a.test", line=1), rule("b.test", line=2))
    compiled: list[str] = []

    def compiling(each: NetworkRule) -> Rule:
        compiled.append(each.host)
        return Rule(each)

    monkeypatch.setattr(generations, "Rule", compiling)
    # A rule before the others: they stand in other lines now.
    after = generation(
        rule("new.test", line=1), rule("a.test", line=2), rule("b.test", line=3), before=before
    )
    assert compiled == ["new.test"]
    assert after.rules.judge(connection("b.test")).origin == "policies.toml:3 network.allow"
    assert before.rules.judge(connection("b.test")).origin == "policies.toml:2 network.allow"
    assert [after.changes_for(host) for host in ("new.test", "a.test")] == [True, False]


def test_changes_are_told_by_rule_and_key() -> None:
    before = generation(rule("a.test", name="mine"), rule("b.test"), rule("c.test"), unknown="deny")
    after = generation(
        rule("a.test", name="mine", ports=(80,), http=["GET /"]),
        rule("b.test", line=9),
        rule("d.test"),
        before=before,
        unknown="ask",
    )
    assert after.changes == (
        Change("changed", "unknown"),
        Change("changed", "mine", "a.test", ("http", "ports")),
        Change("added", "d.test", "d.test"),
        Change("removed", "c.test", "c.test"),
    )
    assert told(after.changes) == "~ unknown, ~ mine (http, ports), + d.test, - c.test"
    data = as_data(after.changes)
    assert (data["added"], data["removed"], data["changed"]) == (1, 1, 2)
    assert data["changes"][1] == {
        "change": "changed", "rule": "mine", "host": "a.test", "keys": ["http", "ports"],
    }  # fmt: skip


def test_moved_lines_are_no_change() -> None:
    before = generation(rule("a.test", line=1))
    after = generation(rule("a.test", line=2), before=before)
    assert (after.changes, told(after.changes)) == ((), "no rule has changed")
    assert not after.changes_for("a.test")


def test_another_order_is_judged_anew() -> None:
    before = generation(rule("a.test"), rule("b.test"))
    after = generation(rule("b.test"), rule("a.test"), before=before)
    assert after.changes == ()
    assert after.changes_for("a.test")


def _spoil(**keys: Any) -> Any:
    """Change the second rule's text."""

    def spoil(network: Any) -> None:
        rule = {**json.loads(network["rules"][1]), **keys}
        network["rules"][1] = json.dumps(rule)

    return spoil


@pytest.mark.parametrize(
    "spoil",
    [
        lambda network: network["settings"].pop("mode"),
        lambda network: network["settings"].update(allow=[]),
        lambda network: network["settings"].update(extra=1),
        lambda network: network.pop("rules"),
        lambda network: network.update(extra=1),
        lambda network: network["rules"].append("{}"),
        lambda network: network["rules"].__setitem__(1, {}),
        lambda network: network["rules"].__setitem__(1, "[]"),
        lambda network: network["rules"].__setitem__(1, "{"),
        lambda network: network["origins"].__setitem__(0, ["f", "1", "k"]),
        lambda network: network["origins"].__setitem__(0, ["f", True, "k"]),
        lambda network: network["origins"].__setitem__(0, ["f", 1]),
        _spoil(origin={"file": "f", "line": 1, "key": "k"}),
        _spoil(ports=[True]),
        _spoil(more=1),
        _spoil(host="a..b"),
    ],
)
def test_what_is_no_policy_is_refused_also_beside_rules_that_are_known(spoil: Any) -> None:
    network = sent(rule("a.test"), rule("b.test"))
    before = Generation(Written.read(network), 1, "p.toml:default")
    spoil(network)
    with pytest.raises((LauncherError, ValueError)):
        Generation(Written.read(network), 2, "p.toml:default", before=before)


class Log:
    """Keeps records."""

    def __init__(self) -> None:
        self.records: list[Any] = []

    def append(self, *records: Any) -> None:
        self.records += records


BY = Operator(uid=1000, pid=7, command="nemoclaw")


def gate(*rules: NetworkRule) -> Gate:
    planned: Any = SimpleNamespace(
        network=seal.encode_value(NetworkPolicy(mode="proxy", allow=rules)),
        plan={"policy": "p.toml:default"},
        digest="d" * 64,
        plan_digest="c" * 64,
        locked={"process.user": "'auto'"},
        authorities={},
    )
    context = Context("box", policy="p.toml:default", policy_digest="d" * 64)
    log: Any = Log()
    return Gate({}, planned, context, log, 1)


@pytest.mark.parametrize(
    ("network", "locked", "reason"),
    [
        (sent(rule("b.test")), {"process.user": "'root'"}, "process.user"),
        (sent(rule("b.test")), {}, "process.user"),
        (sent(rule("b.test", http=["GET /"])), {"process.user": "'auto'"}, "certificate"),
        ({"settings": {}, "rules": [], "origins": []}, {"process.user": "'auto'"}, "malformed"),
        (sent(rule("b.test", addresses=("x",))), {"process.user": "'auto'"}, "compiled"),
    ],
    ids=["locked", "lacks", "inspection", "malformed", "cannot be compiled"],
)
def test_a_refused_reload_leaves_everything_and_one_event(
    network: Any, locked: Any, reason: str
) -> None:
    given = gate(rule("a.test"))
    force = given.in_force()
    with pytest.raises(NemoclawError, match=reason):
        reload(given, "q.toml:default", network, locked, BY, "command")
    assert given.in_force() is force
    assert given.context.in_force == ("p.toml:default", "d" * 64, 1)
    log: Any = given.log
    (event,) = log.records
    assert event["metadata"]["event_code"] == "reload-refused"
    assert event["unmapped"]["refused"] == "q.toml:default"
    assert reason in event["status_detail"]


def test_a_reload_is_whole_and_its_event_comes_first() -> None:
    given = gate(rule("a.test"))
    log: Any = given.log
    digest = arrived(rule("b.test")).digest("c" * 64)
    assert digest != arrived(rule("a.test")).digest("c" * 64)
    said = reload(given, "q.toml:x", sent(rule("b.test")), given.planned.locked, BY, "signal")
    assert said == "q.toml:x is in force, generation 2: + b.test, - a.test"
    assert given.in_force().number == 2
    assert given.context.in_force == ("q.toml:x", digest, 2)
    (event,) = log.records
    assert event["policy"] == {"name": "q.toml:x", "uid": digest, "version": "2"}
    assert event["unmapped"]["replaces"] == {"name": "p.toml:default", "uid": "d" * 64}
    assert event["actor"] == {"process": {"name": "nemoclaw", "pid": 7}, "user": {"uid": "1000"}}


def test_a_log_that_is_full_keeps_the_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    given = gate(rule("a.test"))

    def full(*records: Any) -> None:
        raise UsageError("no space")

    monkeypatch.setattr(given.log, "append", full)
    with pytest.raises(UsageError, match="no space"):
        reload(given, "q:x", sent(rule("b.test")), given.planned.locked, BY, "command")
    assert given.in_force().number == 1
