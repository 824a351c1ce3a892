"""Which rule's credential a request gets: that of the rule which allows it, and of no other."""

from __future__ import annotations

import pytest

from .conftest import connection, request, rule, ruleset

RULES = ruleset(
    rule("api.test", name="read", http=["GET /open/**"]),
    rule("api.test", name="keyed", http=["* /v1/**"], credential="key"),
    rule("api.test", name="other", http=["* /v2/**", "POST /v1/**"], credential="second"),
    rule("any.test", credential="key"),
)


@pytest.mark.parametrize(
    ("method", "path", "credential"),
    [
        ("GET", "/open/x", ""),
        ("GET", "/v1/x", "key"),
        ("POST", "/v1/x", "key"),
        ("GET", "/v2/x", "second"),
        ("GET", "/v2/../v1/x", "key"),
        ("GET", "/elsewhere", ""),
    ],
)
def test_the_first_rule_that_allows_a_request_says_its_credential(
    method: str, path: str, credential: str
) -> None:
    verdict = RULES.judge(request(method, path))
    assert verdict.action == ("deny" if path == "/elsewhere" else "allow")
    assert verdict.credential == credential


def test_a_connection_has_none_and_each_request_in_it_is_looked_at() -> None:
    verdict = RULES.judge(connection("any.test"))
    assert (verdict.action, verdict.credential, verdict.inspect) == ("allow", "", True)
    assert RULES.judge(request("PUT", "/x", "any.test")).credential == "key"


def test_a_request_that_can_be_taken_in_two_ways_has_none_of_a_rule_for_one_of_them() -> None:
    """A method in a header, and an encoded slash: some servers see another request."""
    both = ruleset(
        rule("api.test", http=["POST /v1/**"], credential="key"),
        rule("api.test", http=["DELETE /v1/**"]),
        rule("api.test", http=["* /v2/*"], credential="key"),
        rule("api.test", http=["* /v2/*/*"]),
    )
    plain = both.judge(request("POST", "/v1/x"))
    hidden = both.judge(request("POST", "/v1/x", x_http_method_override="DELETE"))
    assert (plain.action, plain.credential) == ("allow", "key")
    assert (hidden.action, hidden.credential) == ("allow", "")
    slash = both.judge(request("GET", "/v2/a%2Fb"))
    assert slash.credential == ""
    assert both.judge(request("GET", "/v2/ab")).credential == "key"
