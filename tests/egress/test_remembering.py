"""A remembered answer is the one that the policy would give anew."""

from __future__ import annotations

from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from nemoclaw_hookspecs import HttpRule

from nemoclaw_core.egress import remembering

from .conftest import CURL, GIT, request, rule, ruleset

NAMES = ("host", "X-HTTP-Method-Override", "x_original_url", "X-Rewrite-Url", "Forwarded", "accept")
VALUES = ("api.test", "other.test", "DELETE", "/a", "/b?q=1", "host=api.test", "/%")
ASKED = st.tuples(
    st.sampled_from(["GET", "DELETE"]),
    st.sampled_from(["/a", "/b", "/%61", "/x?y"]),
    st.sampled_from(["", "q=1", "q=2", "#"]),
    st.booleans(),
    st.dictionaries(st.sampled_from(NAMES), st.sampled_from(VALUES), max_size=2),
    st.sampled_from([CURL, GIT, None]),
)


@settings(deadline=None, max_examples=200)
@given(st.booleans(), st.lists(ASKED, max_size=12))
def test_as_if_it_had_never_been_asked(queries: bool, asked: list[Any]) -> None:
    found = rule("api.test", http=("GET /a", "GET /b"), deny=("DELETE /b",))
    if queries:
        entry = HttpRule(methods=("GET",), path="/x", query={"q": "1"})
        found = attrs.evolve(found, http=(*found.http, entry))
    rules = ruleset(found, rule("other.test", binaries=["/usr/bin/git"]))
    for method, path, query, websocket, headers, caller in asked:
        made = request(method, path, caller=caller)
        assert made.http is not None
        http = attrs.evolve(made.http, query=query, websocket=websocket, headers=headers)
        made = attrs.evolve(made, http=http)
        assert rules.judge(made) == rules._judge(made)


def test_a_query_that_a_header_is_held_against_is_a_part_of_the_question() -> None:
    rules = ruleset(rule("api.test", http=("GET /a",)))
    made = request("GET", "/a", X_Original_Url="/a?q=1")
    assert made.http is not None
    actions = [
        rules.judge(attrs.evolve(made, http=attrs.evolve(made.http, query=query))).action
        for query in ("q=1", "q=2")
    ]
    assert actions == ["allow", "deny"]


def test_only_so_much_is_kept() -> None:
    rules = ruleset(rule("api.test", http=("GET /**",)))
    for number in range(3 * remembering._MOST):
        rules.judge(request("GET", f"/{number}"))
    rules.judge(request("GET", "/" + "x" * 5000))
    known = rules._remembering._known
    assert len(known) <= remembering._MOST
    assert max(len(repr(each)) for each in known) < 2000
