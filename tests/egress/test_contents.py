"""Rules that look beyond method and path: query, JSON-RPC and MCP, GraphQL, WebSocket messages."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nemoclaw_hookspecs import EgressVerdict, GraphqlRule, HttpRule, RpcRule

from nemoclaw_core.egress import contents, jsontext
from nemoclaw_core.egress.rules import Ruleset

from .conftest import CALM, request, rule, ruleset

JSON = {"content-type": "application/json"}


def entry(path: str = "/x", methods: str = "GET,POST", **more: Any) -> HttpRule:
    return HttpRule(methods=tuple(methods.split(",")), path=path, **more)


def allowing(*entries: HttpRule, deny: tuple[HttpRule, ...] = ()) -> Ruleset:
    return ruleset(attrs.evolve(rule("api.test"), http=entries, deny_http=deny))


def asked(
    rules: Ruleset,
    method: str = "POST",
    path: str = "/x",
    query: str = "",
    headers: Mapping[str, str] = JSON,
    **more: Any,
) -> EgressVerdict:
    made = request(method, path)
    assert made.http is not None
    http = attrs.evolve(made.http, query=query, headers=headers, **more)
    return rules.judge(attrs.evolve(made, http=http))


# ---- queries


QUERY = allowing(entry(query={"q": "*", "page?": "*", "sort": "name"}))


@pytest.mark.parametrize(
    "query", ["q=a&sort=name", "sort=name&q=a+b&page=2", "q=%61&&sort=n%61me", "q=a&q=b&sort=name"]
)
def test_a_query_is_allowed_whose_keys_are_all_written(query: str) -> None:
    assert asked(QUERY, "GET", query=query).action == "allow"


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("", "query"),  # keys are missing
        ("q=a", "query"),
        ("q=&sort=name", "query"),  # `*` is not nothing
        ("q=a&sort=name&admin=1", "query"),
        ("q=a&sort=name&sort=size", "query"),  # every value of a key counts
        ("Q=a&sort=name", "query"),
        ("q=a/b&sort=name", "query"),  # `*` is inside one segment
        ("q=..%2fb&sort=name", "query"),
        ("q=a&sort=name;admin=1", "malformed-query"),
        ("q=%zz&sort=name", "malformed-query"),
        ("q=%ff&sort=name", "malformed-query"),
    ],
)
def test_any_other_query_is_refused(query: str, code: str) -> None:
    found = asked(QUERY, "GET", query=query)
    assert (found.action, found.rule) == ("deny", code)
    assert "a=1" not in found.reason


def test_an_entry_without_a_query_says_nothing_of_it_and_an_empty_one_wants_none() -> None:
    assert asked(allowing(entry()), "GET", query="a;b=%").action == "allow"
    none = allowing(entry(query={}))
    assert asked(none, "GET").action == "allow"
    assert asked(none, "GET", query="a").rule == "query"
    both = allowing(entry(query={"q": "a"}), entry(query={"q": "b"}))
    assert [asked(both, "GET", query=f"q={each}").action for each in "abc"] == [
        "allow", "allow", "deny",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "query", ["force=TRUE", "a=1&Force=true", "force=no&force=true", "force[]=true", "f%6frce=true"]
)
def test_a_denial_needs_one_value_that_matches(query: str) -> None:
    rules = allowing(entry(), deny=(entry(query={"force": "true"}),))
    assert asked(rules, "GET", query=query).rule == "deny-http"
    assert asked(rules, "GET", query="force=false").action == "allow"
    assert asked(rules, "GET", query="force=%zz").rule == "malformed-query"


def test_another_method_in_the_query_is_denied_by_a_rule_for_it() -> None:
    rules = allowing(entry(), deny=(entry(methods="*", query={"_method": "**"}),))
    for query in ("_method=DELETE", "a=1&%5Fmethod=put", "_method=", "_method[]=DELETE"):
        assert asked(rules, query=query).rule == "deny-http"
    assert asked(rules, query="a=_method").action == "allow"


# ---- JSON


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"{", "not JSON"),
        (b'{"a":1}{}', "not JSON"),
        (b'{"a":1,"a":2}', "twice"),
        (b'{"a":1,"A":2}', "twice"),
        ('{"k":1,"\u212a":2}'.encode(), "twice"),
        (b'{"a":NaN}', "NaN"),
        (b'{"a":1e999}', "too large"),
        (b"[" * 20_000 + b"]" * 20_000, "deep"),
        (b"[" + b"[]," * 300_000 + b"[]]", "too many"),
        (b"[" * 70 + b"]" * 70, "deep"),
        (b'"\xff"', "UTF-8"),
        (b"\xef\xbb\xbf{}", "byte order"),
        ("{}".encode("utf-16"), "UTF-8"),
        (b'{"a":"\\ud800"}', "surrogate"),
        (b'{"a":' + b"1" * 5000 + b"}", "too long"),
    ],
)
def test_json_is_refused_that_two_readers_may_read_differently(text: bytes, why: str) -> None:
    with pytest.raises(jsontext.NotJson, match=why):
        jsontext.read(text)


@CALM
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text("abc/~"), inner),
        max_leaves=20,
    )
)
def test_json_is_read_and_every_end_has_a_pointer(value: object) -> None:
    text = json.dumps(value)
    assert jsontext.read(text.encode()) == value
    found = jsontext.leaves(value, lambda names: None)
    assert len({pointer for pointer, _ in found}) == len(found)
    for pointer, shown in found:
        here: Any = value
        for step in pointer.split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            here = here[int(name)] if isinstance(here, list) else here[name]
        assert shown == jsontext.scalar(here)


# ---- JSON-RPC and MCP


def call(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, **({"params": params} if params else {})}


def tool(name: str, **arguments: Any) -> dict[str, Any]:
    return call("tools/call", name=name, arguments=arguments)


MCP = allowing(
    entry(
        rpc=(
            RpcRule(method="initialize"),
            RpcRule(method="notifications/*"),
            RpcRule(method="tools/call", tool="read_*", arguments={"path": "/srv/**", "n?": "*"}),
            RpcRule(method="tools/call", tool="deep", arguments={"/a/b/*": "x*"}),
            RpcRule(method="resources/read", params={"uri": "file:///srv/**"}),
        )
    )
)


def rpc(rules: Ruleset, body: object, **more: Any) -> EgressVerdict:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return asked(rules, body=data, **more)


@pytest.mark.parametrize(
    "body",
    [
        call("initialize"),
        call("notifications/initialized"),
        tool("read_file", path="/srv/a/b"),
        tool("read_file", path="/srv/a/b", n=3),
        tool("deep", a={"b": ["x1", "x2"]}),
        call("resources/read", uri="file:///srv/a"),
        [call("initialize"), tool("read_file", path="/srv/a")],
    ],
)
def test_calls_are_allowed_that_a_rule_names(body: object) -> None:
    assert rpc(MCP, body).action == "allow"


@pytest.mark.parametrize(
    "body",
    [
        call("tools/list"),
        call("notifications/a/b"),
        tool("write_file", path="/srv/a"),
        tool("read_file"),
        tool("read_file", path="/etc/passwd"),
        tool("read_file", path="/srv/../etc/passwd"),
        tool("read_file", path="/srv/%2e%2E/etc/passwd"),
        tool("read_file", path="/srv/a\\..\\..\\b"),
        tool("read_file", path="/srv/a\0"),
        tool("read_file", path=["/srv/a"]),
        tool("read_file", path={}),
        tool("read_file", path="/srv/a", also="/etc"),
        tool("read_file", Path="/srv/a"),
        tool("deep", a={"b": ["x1", "y"]}),
        tool("deep", a={"b": "x"}),
        call("tools/call", arguments={"path": "/srv/a"}),
        {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": ["read_file"]},
        call("resources/read", uri="file:///srv/../etc/passwd"),
        [tool("read_file", path="/srv/a"), tool("write_file", path="/srv/a")],
        {"jsonrpc": "2.0", "id": 7, "result": {}},
    ],
)
def test_calls_are_refused_that_no_rule_names(body: object) -> None:
    found = rpc(MCP, body)
    assert (found.action, found.rule) == ("deny", "rpc")
    assert found.needs_body == 0
    assert "/etc" not in found.reason


@pytest.mark.parametrize(
    "body",
    [
        [],
        "initialize",
        [[call("initialize")]],
        {"id": 1, "method": "initialize"},
        {"jsonrpc": "2.0"},
        {"jsonrpc": "2.0", "method": "initialize", "Params": {}},
        {"jsonrpc": "2.0", "Method": "tools/call", "result": 1},
        {"jsonrpc": "2.0", "method": "initialize", "params": 1},
        {"jsonrpc": "2.0", "method": ["initialize"]},
        {"jsonrpc": "2.0", "method": "rpc.response"},
        {"jsonrpc": "2.0", "method": "initialize", "id": {}},
        {"jsonrpc": "2.0", "id": 1, "result": 1, "error": 2},
        b'{"jsonrpc":"2.0","id":1,"method":"initialize","METHOD":"tools/call"}',
    ],
)
def test_what_is_no_json_rpc_for_certain_is_refused(body: object) -> None:
    assert rpc(MCP, body).rule == "malformed-body"


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({"Content-Type": "application/json"}, True),
        ({"content-type": 'application/json; charset="UTF-8"'}, True),
        ({"content-type": "application/vnd.api+json"}, True),
        ({**JSON, "content-encoding": "identity"}, True),
        ({**JSON, "Content-Encoding": "gzip"}, False),
        ({"content-type": "application/json; charset=utf-16"}, False),
        ({"content-type": "text/plain"}, False),
        ({"content-type": "application/json, text/plain"}, False),
        ({"content-type": "application/x-www-form-urlencoded, x/y+json"}, False),
        ({"content-type": "application/x-www-form-urlencoded, application/y+json"}, False),
        ({"content-type": "application/x, y+json"}, False),
        ({**JSON, "Content_Type": "text/plain"}, False),
        ({"content-type": "application/json; charset*=utf-7"}, False),
        ({"content-type": "application/json; charset*0=utf-7"}, False),
        ({"content-type": "application/json; charset*=''utf-7"}, False),
        ({"content-type": "application/json; charset=utf-8; charset=utf-7"}, False),
        ({"content-type": "application/json; version=1"}, False),
        ({"content-type": "application/json\n"}, False),
        ({"content-type": "Application/JSON;charset=utf-8"}, True),
        ({}, False),
    ],
)
def test_a_body_has_to_say_that_it_is_plain_json(headers: dict[str, str], allowed: bool) -> None:
    found = rpc(MCP, call("initialize"), headers=headers)
    assert found.rule == ("api.test" if allowed else "malformed-body")


def test_a_body_is_asked_for_when_it_can_decide_and_only_then() -> None:
    found = asked(MCP)
    assert (found.action, found.rule, found.needs_body) == ("deny", "body", contents.MOST)
    assert MCP.wants_bodies
    assert asked(MCP, path="/y").needs_body == 0
    assert asked(MCP, "PUT").needs_body == 0
    assert not allowing(entry()).wants_bodies
    both = allowing(entry(rpc=(RpcRule(method="a"),)), entry("/y"))
    assert asked(both, path="/y").action == "allow"
    assert rpc(MCP, b"").rule == "rpc"


def test_a_denial_of_a_call_wins_and_sees_through_case_and_detours() -> None:
    pattern = RpcRule(method="tools/call", tool="*_file", arguments={"path": "/etc/**"})
    denied = entry(rpc=(pattern,))
    rules = allowing(entry(), deny=(denied,))
    assert asked(rules).needs_body
    detours = ("/srv/../etc/passwd", "/ETC/x", "/etc//x", "\\etc\\x", "/%65tc/x")
    for path in ("/etc/passwd", *detours, ["/etc/x"]):
        assert rpc(rules, tool("Read_File", path=path)).rule == "deny-http", path
        capital = call("tools/call", Name="read_file", Arguments={"PATH": path})
        assert rpc(rules, capital).rule == "deny-http", path
    assert (
        rpc(rules, [tool("a_file", path="/b"), tool("a_file", path="/etc/b")]).rule == "deny-http"
    )
    assert rpc(rules, tool("read_file", path="/srv/a")).action == "allow"
    assert rpc(rules, tool("read_file", other="/etc/a")).action == "allow"
    assert rpc(rules, b"what?").rule == "malformed-body"  # it cannot be said not to be one
    assert rpc(rules, b"").action == "allow"


def test_an_answer_of_the_clients_has_a_name_of_its_own() -> None:
    rules = allowing(entry(rpc=(RpcRule(method="rpc.response"),)))
    assert rpc(rules, {"jsonrpc": "2.0", "id": 7, "result": {}}).action == "allow"
    assert rpc(rules, {"jsonrpc": "2.0", "id": None, "error": {}}).action == "allow"
    assert rpc(rules, call("response")).rule == "rpc"


def test_a_denial_says_what_would_allow_it_and_an_allowance_what_was_called() -> None:
    found = rpc(MCP, tool("write_file", path="/etc/secret"))
    assert "write_file" in found.reason
    assert 'rpc = [{ method = "tools/call", tool = "write_file" }]' in found.remedy
    assert "secret" not in found.reason + found.remedy
    assert rpc(MCP, call("initialize")).reason == "initialize"
    odd = rpc(MCP, call("a\n\x1b[2J" + "b" * 500))
    assert odd.reason.isprintable()
    assert len(odd.reason) < 200


# ---- GraphQL


GRAPHQL = allowing(
    entry(
        graphql=(
            GraphqlRule(operation="query", fields=("viewer", "repository/name")),
            GraphqlRule(operation="mutation", name="Star*", fields=("addStar",)),
        )
    )
)


def graphql(rules: Ruleset, text: str, **more: Any) -> EgressVerdict:
    return asked(rules, body=json.dumps({"query": text, **more}).encode())


@pytest.mark.parametrize(
    "text",
    [
        "{ viewer { login } }",
        "query A { me: viewer { login friends { name } } }",
        "query A { ...F } fragment F on Query { ... on Query { viewer { id } } }",
        '{ repository(name: "}{ deleteAll") { name } } # { secret }',
        "mutation StarIt { addStar(input: {a: 1}) { id } }",
    ],
)
def test_operations_are_allowed_that_a_rule_names(text: str) -> None:
    assert graphql(GRAPHQL, text).action == "allow"


@pytest.mark.parametrize(
    "text",
    [
        "{ secret }",
        "{ viewer: secret }",
        "{ viewer { id } secret }",
        "{ ...F } fragment F on Query { viewer { id } ... { secret } }",
        "{ viewer { id } ... @include(if: false) { secret } }",
        "{ repository { name owner { login } } }",
        "{ repository { ...R } } fragment R on Repository { owner { login } }",
        "{ __schema { types { name } } }",
        "{ __typename }",
        "mutation { addStar { id } }",
        "mutation StarIt { addStar { id } deleteIt }",
        "subscription { viewer { id } }",
    ],
)
def test_operations_are_refused_that_no_rule_names(text: str) -> None:
    assert graphql(GRAPHQL, text).rule == "graphql"


BOMB = "query { ...F0 } " + " ".join(
    f"fragment F{at} on Q {{ a{at} {{ ...F{at + 1} }} b{at} {{ ...F{at + 1} }} }}"
    for at in range(12)
) + " fragment F12 on Q { viewer }"  # fmt: skip


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "text"),
        ("{", "not GraphQL"),
        ("{ }", "not GraphQL"),
        ("type A { b: C }", "schema"),
        ("fragment F on A { b }", "several"),
        ("{ ...F }", "not there"),
        ("{ ...F } fragment F on A { ...F }", "itself"),
        ("{ ...F } fragment F on A { b } fragment F on A { c }", "twice"),
        ("query A { viewer } query A { secret }", "twice"),
        ("query A { viewer } query B { viewer }", "several"),
        ("{a" * 40 + "}" * 40, "deep"),
        ("{a" * 5000 + "}" * 5000, ""),
        ("{ " + "a " * 20_000 + "}", "token"),
        ("{ viewer } #" + "x" * 70_000, "longer"),
        (BOMB, "too many"),
    ],
)
def test_what_cannot_be_judged_as_graphql_is_refused(text: str, why: str) -> None:
    found = graphql(GRAPHQL, text)
    assert found.rule == "malformed-body"
    assert why in found.reason


def test_the_operation_that_is_selected_counts() -> None:
    text = "query A { viewer { id } } query B { secret }"
    assert graphql(GRAPHQL, text, operationName="A").action == "allow"
    assert graphql(GRAPHQL, text, operationName="B").rule == "graphql"
    assert graphql(GRAPHQL, text, operationName="C").rule == "malformed-body"
    assert graphql(GRAPHQL, text).rule == "malformed-body"


def test_every_request_of_a_batch_counts() -> None:
    good, bad = {"query": "{ viewer { id } }"}, {"query": "{ secret }"}
    assert rpc(GRAPHQL, [good, good]).action == "allow"
    assert rpc(GRAPHQL, [good, bad]).rule == "graphql"
    assert rpc(GRAPHQL, []).rule == "malformed-body"


def test_what_the_server_has_stored_is_refused_unless_it_is_the_text_beside_it() -> None:
    text = "{ viewer { id } }"
    digest = hashlib.sha256(text.encode()).hexdigest()
    stored = {"persistedQuery": {"version": 1, "sha256Hash": digest}}
    assert graphql(GRAPHQL, text, extensions=stored).action == "allow"
    other = {"persistedQuery": {"version": 1, "sha256Hash": "0" * 64}}
    assert graphql(GRAPHQL, text, extensions=other).rule == "malformed-body"
    assert rpc(GRAPHQL, {"extensions": stored}).rule == "malformed-body"
    for key in ("id", "documentId", "doc_id", "Query"):
        assert graphql(GRAPHQL, text, **{key: "other"}).rule == "malformed-body"


def test_a_url_may_ask_too_but_not_beside_a_body() -> None:
    text = "query=%7Bviewer%7Bid%7D%7D"
    assert asked(GRAPHQL, "GET", query=text, body=b"", headers={}).action == "allow"
    assert asked(GRAPHQL, "GET", query="query={secret}", body=b"").rule == "graphql"
    assert asked(GRAPHQL, "GET", query=f"{text}&query={{secret}}", body=b"").action == "deny"
    assert asked(GRAPHQL, "GET", query=f"{text}&id=1", body=b"").action == "deny"
    assert asked(GRAPHQL, "GET", query=text, body=b'{"query":"{secret}"}').action == "deny"
    body = b'{"query":"{viewer{id}}"}'
    assert asked(GRAPHQL, query="a=1", body=body).action == "allow"
    said = ("query={secret}", "operationName=B", "Query={secret}", "id=1", "%20query={secret}",
            "query%00={secret}", "query[]={secret}", "doc.id=1")  # fmt: skip
    for query in said:
        assert asked(GRAPHQL, query=query, body=body).rule == "malformed-body"


def test_a_denied_field_is_found_wherever_it_is() -> None:
    denied = entry(graphql=(GraphqlRule(fields=("**/email", "deleteAll")),))
    rules = allowing(entry(), deny=(denied,))
    for text in ("{ a { b { x: email } } }", "mutation { deleteAll }",
                 "{ a ...F } fragment F on Q { b { email { c } } }"):  # fmt: skip
        assert graphql(rules, text).rule == "deny-http"
    assert graphql(rules, "{ a { deleteAll } }").action == "allow"
    assert graphql(rules, "{ a").rule == "malformed-body"
    assert rpc(rules, [{"query": "{ a }"}, {"query": "{ email }"}]).rule == "deny-http"


def test_what_is_looked_at_is_bounded() -> None:
    assert rpc(MCP, [call("initialize")] * 256).action == "allow"
    assert rpc(MCP, [call("initialize")] * 257).rule == "malformed-body"
    one = {"query": "{ viewer { id } }"}
    assert rpc(GRAPHQL, [one] * 64).action == "allow"
    assert rpc(GRAPHQL, [one] * 65).rule == "malformed-body"
    many = tool("read_file", path="/srv/a", n=["1"] * 20_000)
    assert rpc(MCP, many).rule == "malformed-body"
    pattern = RpcRule(method="tools/call", arguments={"path": "/etc/**"})
    denying = allowing(entry(), deny=(entry(rpc=(pattern,)),))
    assert rpc(denying, tool("read_file", n=["1"] * 20)).action == "allow"
    assert rpc(denying, many).rule == "malformed-body"
    assert rpc(denying, tool("read_file" * 200)).rule == "malformed-body"


def freezing() -> list[dict[str, Any]]:
    """A call that makes many names out of few octets: ends, far below other members."""
    value: object = [1] * 9000
    for _ in range(55):
        value = {"q": value}
    return [call("tools/call", name="read_file", arguments=value)]


@pytest.mark.parametrize(
    "calls",
    [
        freezing() * 40,
        [tool("read_file", path={"k" * 400_000: [1] * 200_000})],
        [tool("read_file", q=["/srv/a"] * 30) for _ in range(256)],
        [tool("read_file", path="/a" * 300_000)],
        [tool("read_file", path="%2fa" * 200_000)],
        [tool("read_file", path=["/srv/x/../%41"] * 30_000)],
    ],
)
@pytest.mark.parametrize("denies", [True, False])
def test_no_body_keeps_the_gate_from_others(calls: object, denies: bool) -> None:
    wanted = {"**/path": "/etc/**/x/**/y", "**/q/**/z": "**/a/**/b*c*d"}
    pattern = RpcRule(method="tools/call", arguments=wanted)
    denied = (entry(rpc=(pattern,)),) if denies else ()
    rules = allowing(entry(rpc=() if denies else (pattern,)), deny=denied)
    body = json.dumps(calls, separators=(",", ":")).encode()
    before = time.thread_time()
    found = rpc(rules, body)
    assert time.thread_time() - before < 0.4  # it takes a tenth of that
    assert found.action == "deny"
    if denies:
        assert (found.rule, "too much" in found.reason) == ("malformed-body", True)


def test_all_documents_of_a_batch_are_bounded_together() -> None:
    long = [{"query": f"{{ viewer }} #{at}{'x' * 15_000}"} for at in range(64)]
    assert rpc(GRAPHQL, long[:4]).action == "allow"
    found = rpc(GRAPHQL, long)
    assert (found.rule, "longer" in found.reason) == ("malformed-body", True)
    wide = [{"query": f"{{ viewer {{ {'a ' * 2000} }} }} #{at}"} for at in range(4)]
    assert rpc(GRAPHQL, wide[:2]).action == "allow"
    found = rpc(GRAPHQL, wide)
    assert (found.rule, "too many" in found.reason) == ("malformed-body", True)


# ---- WebSocket


def test_an_entry_may_be_for_openings_alone_or_for_none() -> None:
    rules = allowing(entry("/w", websocket=True), entry("/r", websocket=False), entry("/any"))
    for path, plain, opening in (("/w", False, True), ("/r", True, False), ("/any", True, True)):
        assert (asked(rules, "GET", path).action == "allow") == plain
        found = asked(rules, "GET", path, websocket=True)
        assert (found.action == "allow") == opening
        assert not found.watch
    assert asked(rules, "GET", "/w").rule == "websocket"
    denied = allowing(entry(), deny=(entry(websocket=True),))
    assert asked(denied, "GET", websocket=True).rule == "deny-http"
    assert asked(denied, "GET").action == "allow"


def test_messages_are_judged_where_an_entry_looks_into_them() -> None:
    opening = asked(MCP, "GET", websocket=True)
    assert (opening.action, opening.watch) == ("allow", True)
    good, bad = json.dumps(call("initialize")), json.dumps(call("tools/list"))
    assert asked(MCP, "GET", websocket=True, message=good.encode()).action == "allow"
    assert asked(MCP, "GET", websocket=True, message=bad.encode()).rule == "rpc"
    assert asked(MCP, "GET", websocket=True, message=b"").rule == "malformed-body"
    free = allowing(entry(), deny=(entry(rpc=(RpcRule(method="tools/*"),)),))
    assert asked(free, "GET", websocket=True).watch
    assert asked(free, "GET", websocket=True, message=bad.encode()).rule == "deny-http"
    assert asked(free, "GET", websocket=True, message=good.encode()).action == "allow"


@pytest.mark.parametrize(
    ("message", "rule"),
    [
        ({"type": "connection_init", "payload": {}}, "api.test"),
        ({"type": "ping"}, "api.test"),
        ({"id": "1", "type": "complete"}, "api.test"),
        ({"id": "1", "type": "subscribe", "payload": {"query": "{viewer{id}}"}}, "api.test"),
        ({"id": "1", "type": "start", "payload": {"query": "{viewer{id}}"}}, "api.test"),
        ({"id": "1", "type": "subscribe", "payload": {"query": "{secret}"}}, "graphql"),
        ({"id": "1", "type": "subscribe"}, "malformed-body"),
        ({"id": "1", "type": "query", "payload": {"query": "{viewer{id}}"}}, "malformed-body"),
        ([], "malformed-body"),
    ],
)
def test_graphql_over_a_websocket_is_understood(message: object, rule: str) -> None:
    data = json.dumps(message).encode()
    assert asked(GRAPHQL, "GET", websocket=True, message=data).rule == rule


@CALM
@given(st.binary(max_size=200))
def test_no_octets_break_the_readers(data: bytes) -> None:
    for rules in (MCP, GRAPHQL):
        assert asked(rules, body=data).action == "deny"
        assert asked(rules, "GET", query=data.decode("latin-1"), body=b"").action == "deny"
        assert asked(rules, "GET", websocket=True, message=data).action == "deny"
