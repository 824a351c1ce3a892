"""Claims about the tables of ``http`` and ``deny_http``."""

from __future__ import annotations

import jsonschema
import pytest
import tomli
from nemoclaw_hookspecs import GraphqlRule, HttpRule, NetworkPolicy, RpcRule

from nemoclaw_core import seal
from nemoclaw_core.egress.rules import Ruleset
from nemoclaw_core.policy.explain import show_rule
from nemoclaw_core.policy.jsonschema import schema

from .conftest import Ground, problems_of, resolved

TEXT = """\
version = 1
[policy.low.network]
mode = "proxy"
[[policy.low.network.allow]]
host = "a.com"
http = [
  { methods = ["GET"], path = "/s", query = { q = "**", "page?" = "*" }, websocket = false },
  { methods = ["GET", "POST"], path = "/m", rpc = [
    { method = "tools/call", tool = "read_*", arguments = { "/a/b" = "x" } },
    { method = "resources/read", params = { uri = "file:///srv/**" } },
  ] },
  { methods = ["POST"], path = "/g", graphql = [
    { operation = "query", name = "A*", fields = ["viewer", "a/b"] }, {},
  ] },
]
deny_http = [{ methods = ["*"], path = "/**", query = {}, websocket = true }]
[policy.default]
extends = ["low"]
"""


def test_every_key_becomes_a_part_of_the_contracts_rule(ground: Ground) -> None:
    network = resolved(TEXT, ground.context).network
    (rule,) = network.allow
    search, mcp, graphql = rule.http
    assert search == HttpRule(
        methods=("GET",), path="/s", query={"q": "**", "page?": "*"}, websocket=False
    )
    assert mcp.rpc == (
        RpcRule(method="tools/call", tool="read_*", arguments={"/a/b": "x"}),
        RpcRule(method="resources/read", params={"uri": "file:///srv/**"}),
    )
    assert graphql.graphql == (
        GraphqlRule(operation="query", name="A*", fields=("viewer", "a/b")),
        GraphqlRule(),
    )
    assert rule.deny_http == (HttpRule(methods=("*",), path="/**", query={}, websocket=True),)
    assert seal.decode_value(NetworkPolicy, seal.encode_value(network)) == network
    Ruleset(network)


def test_the_schema_takes_what_the_reader_takes() -> None:
    jsonschema.validate(tomli.loads(TEXT), schema())


def test_a_rule_is_explained_with_all_that_it_says(ground: Ground) -> None:
    (rule,) = resolved(TEXT, ground.context).network.allow
    assert show_rule(rule) == (
        "a.com:443  only GET /s ?(page?=*, q=**) not as WebSocket, "
        "GET|POST /m rpc tools/call read_*(/a/b=x) rpc resources/read(uri=file:///srv/**), "
        "POST /g graphql query A* {viewer a/b} graphql  not * /** ?() as WebSocket"
    )


def test_equal_tables_of_two_policies_are_one_rule(ground: Ground) -> None:
    request = '{ methods = ["GET"], path = "/", query = %s }'
    rule = f'network.allow = [{{ host = "a.com", http = [{request}] }}]'
    first, second = '{ a = "1", b = "2" }', '{ b = "2", a = "1" }'
    text = (
        f"version = 1\n[policy.low]\n{rule % first}\n[policy.default]\nextends = ['low']\n"
        f"{rule % second}\n"
    )
    assert len(resolved(text, ground.context).network.allow) == 1
    assert (
        len(resolved(text.replace('b = "2", a = "1"', 'b = "3"'), ground.context).network.allow)
        == 2
    )


def entry(text: str, key: str = "http") -> str:
    return (
        "version = 1\n[[policy.default.network.allow]]\nhost = 'a.com'\n"
        f"{key} = [{{ methods = ['GET'], path = '/', {text} }}]\n"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("query = { a = 1 }", "not a string"),
        ("query = { a = 'x**' }", "`**` must stand alone"),
        ("query = { 'a**?' = 'x' }", "`**` must stand alone"),
        ("query = ['a']", "not a table"),
        ("rpc = []", "an empty list allows nothing"),
        ("graphql = []", "an empty list allows nothing"),
        ("rpc = [{ tool = 'a' }]", "the key `method` is missing"),
        ("rpc = [{ method = 'tools/list', tool = 'a' }]", "only the method tools/call has one"),
        ("rpc = [{ method = 'tools/*', arguments = {} }]", "only the method tools/call has one"),
        ("rpc = [{ method = 'a', argument = {} }]", 'unknown key "argument"'),
        ("graphql = [{ operation = 'read' }]", '"read" is not one of'),
        (
            "graphql = [{ fields = ['user.email'] }]",
            "write what is below another field as user/email",
        ),
        ("graphql = [{ fields = ['a**'] }]", "`**` must stand alone"),
        ("websocket = 'yes'", "not true or false"),
        ("graphql = [{}], rpc = [{ method = 'a' }]", "a body is one or the other"),
    ],
)
def test_slips_are_told_with_their_place(text: str, said: str) -> None:
    (problem,) = problems_of(entry(text))
    assert problem.startswith("4 policy.default.network.allow[0].http[0]")
    assert said in problem


def test_a_denial_has_no_optional_keys() -> None:
    for text in ("query = { 'a?' = 'x' }", "rpc = [{ method = 'a', params = { 'a?' = 'x' } }]"):
        (problem,) = problems_of(entry(text, "deny_http"))
        assert "what is denied needs no `?`" in problem
        assert not problems_of(entry(text))


def test_a_websocket_is_asked_for_by_get() -> None:
    (problem,) = problems_of(entry("websocket = true").replace("'GET'", "'POST'"))
    assert "a WebSocket is asked for by GET" in problem
