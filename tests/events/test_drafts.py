"""The text of an event that was put together is that of the same event made as every event is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nemoclaw_hookspecs import Caller, EgressRequest, EgressVerdict, HttpRequest

from nemoclaw_core.events import chain, drafts, network
from nemoclaw_core.events.record import Context

PATHS = st.one_of(
    st.text(max_size=40).map("/{}".format), st.sampled_from(["/", "/a", "/" + "x" * 2000, '/"\\'])
)
WORDS = st.one_of(st.sampled_from(["api", "other"]), st.text(max_size=2000))


def plain(record: Any) -> dict[str, Any]:
    line: dict[str, Any] = json.loads(chain.link(record, 1, chain.START))
    del line["time"]
    return line


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.tuples(PATHS, WORDS, st.sampled_from(["GET", "BREW"]), st.booleans()), max_size=6)
)
def test_both_say_the_same(asked: list[tuple[str, str, str, bool]]) -> None:
    context = Context("box", policy="p.toml:default", policy_digest="ab")
    made = drafts.Drafts(context)
    for path, rule, method, known in asked:
        request = EgressRequest(
            sandbox="box",
            host="api.test",
            port=443,
            protocol="http",
            caller=Caller(pid=7, executable="/usr/bin/curl") if known else None,
            http=HttpRequest(method=method, path=path),
        )
        verdict = EgressVerdict(action="allow", rule=rule, host="api.test", port=443)
        usual = network.egress_judged(context, request, verdict)
        assert plain(made.allowed(request, verdict)) == plain(usual)


def test_another_policy_in_force_is_told() -> None:
    context = Context("box", policy="p.toml:default")
    made = drafts.Drafts(context)
    request = EgressRequest(sandbox="box", host="api.test", port=443, protocol="tcp")
    verdict = EgressVerdict(action="allow", rule="api", host="api.test", port=443)
    before = plain(made.allowed(request, verdict))
    context.put_in_force("other.toml:default", "cd", 2)
    after = plain(made.allowed(request, verdict))
    assert [each["policy"]["name"] for each in (before, after)] == [
        "p.toml:default",
        "other.toml:default",
    ]


def test_what_is_usual_is_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    made = drafts.Drafts(Context("box"))
    verdict = EgressVerdict(action="allow", rule="api", host="api.test", port=443)
    requests = [
        EgressRequest(
            sandbox="box",
            host="api.test",
            port=443,
            protocol="http",
            http=HttpRequest(method="GET", path=path),
        )
        for path in ("/a", "/b")
    ]
    made.allowed(requests[0], verdict)
    monkeypatch.setattr(drafts, "egress_judged", None)
    assert plain(made.allowed(requests[1], verdict))["http_request"]["url"]["path"] == "/b"
