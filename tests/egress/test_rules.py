"""Claims about what a compiled policy allows, and what it says when it does not."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nemoclaw_hookspecs import Caller, EgressRequest, HttpRequest, NetworkPolicy, NetworkRule

from nemoclaw_core import globs
from nemoclaw_core.egress.hosts import NotAHost, canonical
from nemoclaw_core.egress.reasons import REASONS
from nemoclaw_core.egress.rules import Ruleset

from .conftest import CALM, CURL, GIT, connection, request, rule, ruleset

GITHUB = rule("api.github.com", name="github", http=["GET /repos/**"], line=12)


def code(rules: Ruleset, asked: EgressRequest) -> str:
    """``allow``, ``hold`` or the code of the denial."""
    verdict = rules.judge(asked)
    assert verdict.generation == 3
    if verdict.action == "deny":
        assert verdict.rule in REASONS
        assert verdict.reason
    return verdict.rule if verdict.action == "deny" else verdict.action


# --- hosts and ports


@pytest.mark.parametrize(
    ("pattern", "allowed", "denied"),
    [
        (
            "api.example.com",
            ["api.example.com", "API.example.COM."],
            ["example.com", "x.api.example.com", "api.example.com.evil.test"],
        ),
        ("*.example.com", ["a.example.com"], ["example.com", "a.b.example.com", "aexample.com"]),
        (
            "**.example.com",
            ["a.example.com", "a.b.example.com"],
            ["example.com", "evilexample.com"],
        ),
        ("api-*.example.com", ["api-1.example.com"], ["api.example.com", "api-1.b.example.com"]),
        ("a.*.example.com", ["a.b.example.com"], ["a.example.com", "a.b.c.example.com"]),
        ("**", ["a", "a.b.c"], ["1.1.1.1", "::1", "metadata.google.internal"]),
        ("*", ["localhost"], ["a.b", "2130706433", "metadata"]),
        ("10.0.0.*", [], ["10.0.0.1"]),
        ("xn--mnchen-3ya.example", ["münchen.example"], ["munchen.example"]),
        ("127.0.0.1", ["127.1", "0x7f000001", "::ffff:127.0.0.1"], ["127.0.0.2", "localhost"]),
        ("::1", ["[::1]", "0::1"], ["127.0.0.1", "::2"]),
    ],
)
def test_hosts_are_matched_whole(pattern: str, allowed: list[str], denied: list[str]) -> None:
    rules = ruleset(rule(pattern))
    assert [host for host in allowed if code(rules, connection(host)) != "allow"] == []
    assert [host for host in denied if code(rules, connection(host)) == "allow"] == []
    names = [host for host in allowed if not canonical(host).is_address]
    assert [name for name in names if not rules.resolvable(name)] == []
    assert [name for name in denied if rules.resolvable(name)] == []


@CALM
@given(
    st.lists(st.sampled_from(["a", "b", "*", "**", "a*", "*b", "a*b"]), min_size=1, max_size=4),
    st.lists(st.sampled_from(["a", "b", "ab", "aab"]), min_size=1, max_size=5),
)
def test_the_index_finds_what_the_dialect_covers(pattern: list[str], name: list[str]) -> None:
    pattern = [pattern[0], *("*" if each == "**" else each for each in pattern[1:])]
    host = ".".join(name)
    found = ruleset(rule(".".join(pattern))).resolvable(host)
    assert found == globs.matches(".".join(pattern), host, ".")


def test_an_address_is_named_by_the_rule_that_names_it_exactly() -> None:
    verdict = ruleset(rule("10.0.0.5")).judge(connection("0x0a000005"))
    assert (verdict.action, verdict.host, verdict.addresses) == ("allow", "10.0.0.5", ("10.0.0.5",))


@pytest.mark.parametrize("address", ["0.0.0.0", "224.0.0.1", "255.255.255.255", "2002:a00:1::1"])
def test_some_addresses_are_nobodys_even_if_they_are_named(address: str) -> None:
    assert code(ruleset(rule(address)), connection(address)) == "address"


def test_a_port_must_be_named() -> None:
    rules = ruleset(rule("a.test", ports=(443, 8443)))
    assert code(rules, connection("a.test", 8443)) == "allow"
    verdict = rules.judge(connection("a.test", 22))
    assert (verdict.rule, verdict.remedy) == ("port", "ports = [22, 443, 8443]")


def test_a_metadata_service_must_be_named_exactly() -> None:
    name = "metadata.google.internal"
    wide = ruleset(rule("**"), rule("*.google.internal"))
    assert code(wide, connection(name)) == "metadata"
    assert not wide.resolvable(name)
    assert code(ruleset(rule("**"), rule(name)), connection(name)) == "allow"
    assert code(ruleset(rule("**")), connection("169.254.169.254")) == "address"


def test_an_empty_policy_and_a_closed_one_allow_nothing() -> None:
    assert code(ruleset(), connection("a.test")) == "no-rule"
    closed = ruleset(rule("a.test"), mode="none", unknown="ask")
    assert code(closed, connection("a.test")) == "mode"
    assert not closed.resolvable("a.test")


@pytest.mark.parametrize(
    "host", ["", "a b.test", "a.test\0", "u@a.test", "a.test:443", "1.2.3.256"]
)
def test_a_malformed_host_is_denied_whatever_the_rules_are(host: str) -> None:
    rules = ruleset(rule("**"), rule("a.test"), unknown="ask")
    assert code(rules, connection(host)) == "malformed-host"
    assert not rules.resolvable(host)


def test_an_unknown_host_can_be_held_for_an_operator() -> None:
    rules = ruleset(rule("a.test"), unknown="ask")
    assert code(rules, connection("b.test")) == "hold"
    assert rules.resolvable("b.test")
    assert code(rules, connection("8.8.8.8")) == "hold"
    # Nobody is asked about what is known, or could not be connected to anyway.
    assert code(rules, connection("a.test", 22)) == "port"
    assert code(rules, connection("10.0.0.1")) == "address"
    assert code(rules, connection("metadata.google.internal")) == "metadata"
    assert not rules.resolvable("metadata.google.internal")


# --- executables


def test_a_rule_for_executables_is_for_them_alone() -> None:
    rules = ruleset(rule("a.test", binaries=["/usr/bin/git", "/opt/*/bin/**"]))
    assert code(rules, connection("a.test", caller=GIT)) == "allow"
    other = Caller(pid=1, executable="/opt/x/bin/y/z")
    assert code(rules, connection("a.test", caller=other)) == "allow"
    verdict = rules.judge(connection("a.test", caller=CURL))
    assert verdict.rule == "binary"
    assert '"/usr/bin/curl"' in verdict.remedy
    assert "git" not in verdict.remedy
    assert code(rules, connection("a.test", caller=None)) == "caller-unknown"
    child = attrs.evolve(CURL, ancestors=("/usr/bin/git",))
    assert code(rules, connection("a.test", caller=child)) == "binary"
    odd = Caller(pid=1, executable="usr/bin/git")
    assert code(rules, connection("a.test", caller=odd)) == "binary"


def test_a_digest_must_be_the_files() -> None:
    rules = ruleset(rule("a.test", binaries=[("/usr/bin/*", "a" * 64)]))
    assert (rules.wants_callers, rules.wants_digests) == (True, True)
    assert code(rules, connection("a.test", caller=GIT)) == "allow"
    assert code(rules, connection("a.test", caller=CURL)) == "binary"
    unread = attrs.evolve(GIT, sha256="")
    assert code(rules, connection("a.test", caller=unread)) == "binary"


def test_a_caller_who_is_not_known_may_be_one_to_whom_something_is_denied() -> None:
    rules = ruleset(
        rule("api.test", tls="passthrough"),
        rule("api.test", binaries=["/usr/bin/git"], deny=["* /admin/**"]),
    )
    verdict = rules.judge(connection("api.test", caller=None))
    assert (verdict.action, verdict.inspect, verdict.tls) == ("allow", True, "auto")
    assert code(rules, request("GET", "/admin/x", caller=None)) == "deny-http"
    assert not rules.judge(connection("api.test", caller=CURL)).inspect
    assert code(rules, request("GET", "/admin/x", caller=CURL)) == "allow"


# --- requests


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (("GET", "/repos/a/b"), "allow"),
        (("HEAD", "/repos/a/b"), "allow"),
        (("GET", "/repos/a/../b"), "allow"),
        (("GET", "/repos/%61"), "allow"),
        (("GET", "/repos/a%2Fb"), "allow"),
        (("GET", "/repos/a;v=1"), "allow"),
        (("POST", "/repos/a"), "method"),
        (("get", "/repos/a"), "method"),
        (("GET", "/repos"), "path"),
        (("GET", "/user"), "path"),
        (("GET", "/repos/../user"), "path"),
        (("GET", "/repos/%2e%2e/user"), "path"),
        (("GET", "/user/repos/a"), "path"),
        (("GET", "//repos/a"), "allow"),
        (("GET", "/repos%2Fa"), "path"),
        (("GET", "/repos;/a"), "path"),
        (("GET", "/repos/a%2f..%2f..%2fuser"), "malformed-path"),
        (("GET", "/repos/..;/user"), "malformed-path"),
        (("GET", "/repos/\\..\\user"), "malformed-path"),
        (("GET", "https://evil.test/repos/a"), "malformed-path"),
        (("OPTIONS", "*"), "malformed-path"),
    ],
)
def test_each_reading_of_a_request_must_be_allowed(asked: tuple[str, str], expected: str) -> None:
    rules = ruleset(rule("api.test", http=["GET /repos/**"]))
    assert code(rules, request(*asked)) == expected


@pytest.mark.parametrize(
    "path",
    [
        "/admin", "/admin/", "//admin", "/x/../admin", "/ADMIN", "/%61dmin", "/admin;x", "/admin?x",
        "/users%2F1/keys", "/users/1/keys", "/users/1/keys/", "/users/1;v=2/keys", "/a%21", "/a!",
        "/caf%C3%A9", "/CAF%C3%89", "/.%2F/admin", "/star%2A",
    ],
)  # fmt: skip
def test_a_denial_fires_for_any_reading(path: str) -> None:
    denied = ["* /admin", "GET /users/*/keys", "GET /a!", "GET /café", "GET /star%2A"]
    rules = ruleset(rule("api.test", deny=denied))
    assert code(rules, request("GET", path)) in ("deny-http", "malformed-path")
    assert code(rules, request("GET", "/other")) == "allow"


def test_a_denial_of_get_is_one_of_head_and_case_hides_no_method() -> None:
    rules = ruleset(rule("api.test", deny=["GET /a", "DELETE /**"]))
    for method in ("GET", "HEAD", "get", "DELETE", "delete"):
        assert code(rules, request(method, "/a")) == "deny-http"
    assert code(rules, request("POST", "/a")) == "allow"


def test_a_header_that_says_another_method_is_believed() -> None:
    rules = ruleset(rule("api.test", http=["GET,POST /**"], deny=["DELETE /**"]))
    assert code(rules, request("POST", "/a", X_HTTP_Method_Override="delete")) == "deny-http"
    assert code(rules, request("POST", "/a", X_HTTP_Method="PUT")) == "method"
    assert code(rules, request("POST", "/a", X_Method_Override="GET")) == "allow"
    anything = ruleset(rule("api.test", http=["* /**"], deny=["DELETE /**"]))
    for twice in ("DELETE, DELETE", "GET,delete", "delete, GET"):
        asked = request("POST", "/a", X_HTTP_Method_Override=twice)
        assert code(anything, asked) == "deny-http"


def test_underscores_hide_no_header() -> None:
    """To a server with CGI's names they are dashes."""
    rules = ruleset(rule("api.test", http=["GET,POST /**"]))
    for name in ("X_HTTP_Method_Override", "x-http_method-override"):
        http = HttpRequest(method="POST", path="/a", headers={name: "PUT"})
        asked = attrs.evolve(request("POST", "/a"), http=http)
        assert code(rules, asked) == "method"


def test_a_header_that_says_another_path_is_believed() -> None:
    rules = ruleset(rule("api.test", http=["GET /open/**", "GET /b"], deny=["* /b/c"]))
    for name in ("X_Original_URL", "X_Rewrite_URL"):
        for path, expected in {
            "/open/b": "allow",
            "/b": "allow",
            "/other": "path",
            "/open/%2e%2e/other": "path",
            "/B/C": "deny-http",
            "/open/b?admin=1": "malformed-path",
            "http://api.test/b": "malformed-path",
            "/b, /other": "malformed-path",
        }.items():
            assert (
                code(rules, request("GET", "/open/a", "api.test", CURL, **{name: path})) == expected
            ), path


def test_a_header_that_says_another_host_is_believed() -> None:
    rules = ruleset(rule("api.test", http=["GET /**"]))
    for name, value, expected in (
        ("X_Forwarded_Host", "api.test", "allow"),
        ("X_Forwarded_Host", "api.test:443, API.test.", "allow"),
        ("X_Forwarded_Host", "api.test, other.test", "host-mismatch"),
        ("X_Original_Host", "other.test", "host-mismatch"),
        ("X_Host", "other.test", "host-mismatch"),
        ("Forwarded", "for=192.0.2.1;proto=https", "allow"),
        ("Forwarded", 'for=192.0.2.1;HOST="api.test:443"', "allow"),
        ("Forwarded", "for=192.0.2.1, host=other.test", "host-mismatch"),
    ):
        assert code(rules, request("GET", "/a", "api.test", CURL, **{name: value})) == expected, (
            value
        )


def test_rules_for_one_host_add_up_and_any_denial_wins() -> None:
    reads = rule("api.test", name="reads", http=["GET /**"], deny=["* /secret/**"], line=1)
    all_of_it = rule("*.test", name="all", line=5)
    rules = ruleset(reads, all_of_it)
    assert rules.judge(request("GET", "/a")).rule == "reads"
    assert rules.judge(request("POST", "/a")).rule == "all"
    verdict = rules.judge(request("POST", "/secret/a"))
    assert (verdict.rule, verdict.origin) == ("deny-http", "policies.toml:1 network.allow")
    # Although one rule asks for no inspection: the other's denial has to be seen.
    assert rules.judge(connection("api.test")).inspect
    assert not rules.judge(connection("other.test")).inspect


@pytest.mark.parametrize(
    ("rules", "tls", "inspect"),
    [
        ([rule("a.test")], "auto", False),
        ([rule("a.test", tls="passthrough")], "passthrough", False),
        ([rule("a.test", tls="terminate")], "terminate", False),
        ([rule("a.test", tls="passthrough"), rule("a.test")], "auto", False),
        ([rule("a.test", tls="passthrough"), rule("*.test", tls="terminate")], "terminate", False),
        ([rule("a.test", http=["GET /"])], "auto", True),
        ([rule("a.test", deny=["GET /"])], "auto", True),
        ([rule("a.test", credential="c")], "auto", True),
        ([rule("a.test", tls="passthrough"), rule("a.test", http=["GET /"])], "auto", True),
    ],
)
def test_the_strictest_rule_says_how_tls_is_treated(
    rules: list[NetworkRule], tls: str, inspect: bool
) -> None:
    for order in (rules, rules[::-1]):
        verdict = ruleset(*order).judge(connection("a.test"))
        assert (verdict.tls, verdict.inspect) == (tls, inspect)


def test_only_rules_for_this_connection_lend_their_addresses() -> None:
    rules = ruleset(
        rule("a.test", addresses=("10.0.0.0/8",)),
        rule("a.test", addresses=("192.168.0.0/16",), binaries=["/usr/bin/git"]),
        rule("a.test", addresses=("172.16.0.0/12",), ports=(80,)),
    )
    assert rules.judge(connection("a.test")).addresses == ("10.0.0.0/8",)
    assert len(rules.judge(connection("a.test", caller=GIT)).addresses) == 2


@pytest.mark.parametrize(
    ("authority", "expected"),
    [
        ("api.test", "allow"),
        ("api.test:443", "allow"),
        ("API.test.", "allow"),
        ("api.test:80", "host-mismatch"),
        ("evil.test", "host-mismatch"),
        ("", "host-mismatch"),
        ("api.test@evil.test", "host-mismatch"),
        ("api.test, evil.test", "host-mismatch"),
        ("api.test:443:443", "host-mismatch"),
    ],
)
def test_the_requests_host_must_be_the_connections(authority: str, expected: str) -> None:
    assert code(ruleset(rule("api.test")), request("GET", "/", Host=authority)) == expected


def test_the_host_header_of_an_ipv6_address() -> None:
    rules = ruleset(rule("2001:4860::1"))
    for authority in ("[2001:4860::1]", "[2001:4860::1]:443"):
        asked = request("GET", "/", host="2001:4860::1", Host=authority)
        assert code(rules, asked) == "allow"
    assert code(rules, request("GET", "/", host="2001:4860::1", Host="[::1]")) == "host-mismatch"


# --- what is said


def test_an_allowed_request_says_by_which_rule_and_what_to_send() -> None:
    verdict = ruleset(GITHUB).judge(request("GET", "/repos//a/./b?q", host="API.github.com"))
    assert (verdict.rule, verdict.origin) == ("github", "policies.toml:12 network.allow")
    assert (verdict.host, verdict.path) == ("api.github.com", "/repos/a/b")


def test_a_remedy_is_what_the_policy_would_have_to_say() -> None:
    import tomli

    rules = ruleset(GITHUB)
    remedy = rules.judge(connection('a"b.test'.replace('"', ""), 8443)).remedy
    table: Any = tomli.loads(remedy)
    assert table["policy"]["default"]["network"]["allow"] == [{"host": "ab.test", "ports": [8443]}]
    remedy = rules.judge(request("POST", '/a"b', host="api.github.com")).remedy
    assert remedy.startswith('http = [{ methods = ["POST"], path = "/a%22b" }]')


def test_a_ruleset_is_not_made_from_what_was_not_checked() -> None:
    for broken in (rule("a b"), rule("a**.test"), rule("a.test", addresses=("x",))):
        with pytest.raises(ValueError, match=r"."):
            ruleset(broken)
    for broken in (rule("a.test", http=["GET /a**"]), rule("a.test", deny=["GET /a**"])):
        with pytest.raises(ValueError, match="whole segment"):
            ruleset(broken)


# --- properties

PATHS = st.sampled_from(["/", "/a", "/a/b", "/b", "/a%2fb", "/a;x/b", "/A", "/a//b", "/a/../b"])
ENTRIES = st.lists(
    st.sampled_from(["GET /**", "POST /a/**", "* /a", "GET /a/*", "DELETE /**", "* /b"]),
    max_size=3,
)
RULES = st.builds(
    rule,
    st.sampled_from(["api.test", "*.test", "**", "other.test", "10.0.0.1"]),
    http=ENTRIES,
    deny=ENTRIES,
    binaries=st.lists(st.sampled_from(["/usr/bin/git", "/usr/bin/*"]), max_size=1),
    ports=st.sampled_from([(443,), (80, 443), (80,)]),
    tls=st.sampled_from(["auto", "terminate"]),
)
ASKED = st.one_of(
    st.builds(connection, st.sampled_from(["api.test", "b.test", "10.0.0.1"])),
    st.builds(
        request,
        st.sampled_from(["GET", "HEAD", "POST", "DELETE"]),
        PATHS,
        caller=st.sampled_from([None, CURL, GIT]),
    ),
)


@CALM
@given(st.lists(RULES, max_size=4), st.data(), ASKED)
def test_taking_rules_away_or_adding_denials_never_allows_more(
    rules: list[NetworkRule], data: st.DataObject, asked: EgressRequest
) -> None:
    before = ruleset(*rules).judge(asked)
    if before.action == "allow" or not rules:
        return
    # A rule that denies something must stay, or what it denies may be allowed by another.
    at = data.draw(st.integers(0, len(rules) - 1))
    if not rules[at].deny_http:
        assert ruleset(*rules[:at], *rules[at + 1 :]).judge(asked).action != "allow"
    more = rule(rules[at].host, deny=["GET /a/**"]).deny_http
    denied = attrs.evolve(rules[at], deny_http=(*rules[at].deny_http, *more))
    assert ruleset(*rules[:at], denied, *rules[at + 1 :]).judge(asked).action != "allow"


@CALM
@given(st.lists(RULES, max_size=4), ASKED, st.randoms())
def test_the_order_of_rules_decides_nothing_but_the_name(
    rules: list[NetworkRule], asked: EgressRequest, random: Any
) -> None:
    shuffled = list(rules)
    random.shuffle(shuffled)
    one, other = ruleset(*rules).judge(asked), ruleset(*shuffled).judge(asked)
    assert (one.action, one.tls, one.inspect) == (other.action, other.tls, other.inspect)


@CALM
@given(st.text(max_size=60), st.integers(-1, 70000), st.text(max_size=40))
def test_no_request_crashes_it(host: str, port: int, path: str) -> None:
    rules = ruleset(rule("**", http=["GET /**"], ports=(443,)), rule("a.test"))
    for asked in (connection(host, port), request("GET", path), request(path, "/", Host=host)):
        verdict = rules.judge(asked)
        assert verdict.action == "deny" or asked.port == 443
    try:
        canonical(host)
    except NotAHost:
        assert not rules.resolvable(host)


def test_a_ruleset_is_made_from_a_policy_alone() -> None:
    assert Ruleset(NetworkPolicy()).judge(connection("a.test")).rule == "mode"
