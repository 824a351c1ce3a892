"""Where a secret is put: what the policy says, once, and nothing else of the request changes."""

from __future__ import annotations

import base64
import json

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemoclaw_core.credentials.injection import NotFit, inject, takes
from nemoclaw_core.credentials.marks import Marks

from .conftest import KEY, asked, credential, headers_of, outgoing

PLACEHOLDER = "sk-test-00000000000000000000000000000000"
MARKS = Marks({PLACEHOLDER: "api", "nemoclaw-other-0123456789": "other"})


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_it_replaces_the_placeholder_where_the_agent_put_it() -> None:
    request = outgoing(
        authorization=f"Bearer {PLACEHOLDER}",
        x_api_key=PLACEHOLDER,
        cookie=f"k={PLACEHOLDER}",
        accept="*/*",
    )
    sent = headers_of(inject(credential(), PLACEHOLDER, KEY, request))
    assert sent == {
        "authorization": f"Bearer {KEY}",
        "x-api-key": KEY,
        "cookie": f"k={PLACEHOLDER}",
        "accept": "*/*",
    }


@pytest.mark.parametrize("pair", [f"me:{PLACEHOLDER}", f"{PLACEHOLDER}:", f"{PLACEHOLDER}:x"])
def test_it_is_replaced_inside_basic(pair: str) -> None:
    for word in ("Basic", "basic"):
        request = outgoing(authorization=f"{word} {b64(pair)}")
        sent = headers_of(inject(credential(), PLACEHOLDER, KEY, request))
        assert sent["authorization"] == f"Basic {b64(pair.replace(PLACEHOLDER, KEY))}"
    untouched = outgoing(authorization="Basic bWU6eA==")
    assert inject(credential(), PLACEHOLDER, KEY, untouched) == untouched


def test_a_header_is_set_whatever_the_agent_sent() -> None:
    policy = credential(header="X-Key", scheme="Token")
    for request in (outgoing(), outgoing(x_key="mine"), outgoing(X_KEY=PLACEHOLDER)):
        assert headers_of(inject(policy, PLACEHOLDER, KEY, request)) == {"x-key": f"Token {KEY}"}
    basic = credential(type="basic", header="authorization", scheme="Basic", username="me")
    sent = inject(basic, PLACEHOLDER, "pass:word", outgoing(authorization="Bearer mine"))
    assert headers_of(sent) == {"authorization": f"Basic {b64('me:pass:word')}"}
    pair = credential(type="basic", header="authorization", scheme="Basic")
    assert (
        headers_of(inject(pair, "", "me:x", outgoing()))["authorization"] == f"Basic {b64('me:x')}"
    )
    with pytest.raises(NotFit, match="USER:PASSWORD"):
        inject(pair, "", "no-colon", outgoing())


def test_the_agents_own_header_does_not_stand_beside_it_with_underscores() -> None:
    own = ((b"X_Api_Key", b"mine"), (b"x-api_KEY", b"mine"), (b"x-other", b"1"))
    request = attrs.evolve(outgoing(), fields=own)
    sent = headers_of(inject(credential(header="X-Api-Key"), PLACEHOLDER, KEY, request))
    assert sent == {"x-other": "1", "x-api-key": KEY}


@pytest.mark.parametrize(
    "name",
    ["x-ms-meta-token", "x-amz-meta-key", "x-goog-meta-auth", "X_Ms_Meta_Token", "X-Author",
     "X-Forwarded-Authority", "x-object-meta-secret", "x-keyboard", "x-tokenizer"],
)  # fmt: skip
def test_headers_that_a_server_may_give_back_get_none(name: str) -> None:
    request = attrs.evolve(outgoing(), fields=((name.encode(), PLACEHOLDER.encode()),))
    assert inject(credential(), PLACEHOLDER, KEY, request) == request
    assert not takes(credential(), "header", name.lower())
    assert takes(credential(header=name), "header", name.lower())


@pytest.mark.parametrize(
    ("target", "sent"),
    [
        ("/p", "/p?key=a%2Fb%26"),
        ("/p?x=1", "/p?x=1&key=a%2Fb%26"),
        ("/p?key=mine&x=1", "/p?key=a%2Fb%26&x=1"),
        ("/p?k%65y=mine&x=%20&key=twice", "/p?key=a%2Fb%26&x=%20"),
    ],
)
def test_a_parameter_is_set_and_the_others_stay_as_they_were(target: str, sent: str) -> None:
    found = inject(credential(query="key"), PLACEHOLDER, "a/b&", outgoing(target))
    assert found.target == sent.encode()
    assert found.fields == ()


@pytest.mark.parametrize(
    ("kind", "body", "sent"),
    [
        ("application/json", '{"k": "%s"}', json.dumps({"k": 'a"/b'})),
        ("application/x-www-form-urlencoded; charset=utf-8", "k=%s&x=1", "k=a%22%2Fb&x=1"),
        ("text/plain", "%s", 'a"/b'),
    ],
)
def test_a_body_is_written_as_its_type_asks(kind: str, body: str, sent: str) -> None:
    request = outgoing(body=(body % PLACEHOLDER).encode(), content_type=kind)
    found = inject(credential(body=True), PLACEHOLDER, 'a"/b', request)
    assert found.body == sent.encode()
    assert found.fields == request.fields


@pytest.mark.parametrize("secret", ["two\r\nlines: x", "ends ", "käse", "a\0b", "tab\there"])
def test_no_secret_breaks_a_header(secret: str) -> None:
    for policy in (credential(), credential(header="x-key")):
        with pytest.raises(NotFit) as error:
            inject(policy, PLACEHOLDER, secret, outgoing(x_key=PLACEHOLDER))
        assert secret not in str(error.value)


@given(st.text(st.characters(max_codepoint=255), max_size=40))
def test_what_has_no_placeholder_is_left_alone(text: str) -> None:
    request = outgoing()
    value = text.encode("latin-1").replace(b"\r", b"").replace(b"\n", b"")
    request = type(request)(
        method="GET", host="a", port=443, target=b"/", fields=((b"authorization", value),)
    )
    assert inject(credential(), PLACEHOLDER, KEY, request) == request


WRITTEN = {
    "plain": PLACEHOLDER,
    "in a word": f"x{PLACEHOLDER}y",
    "per cent": "".join(f"%{ord(char):02x}" for char in PLACEHOLDER),
    "twice per cent": PLACEHOLDER.replace("-", "%252D"),
    "base64": b64(f"u:{PLACEHOLDER}"),
    "base64 for URLs": base64.urlsafe_b64encode(f"?>{PLACEHOLDER}".encode()).decode().rstrip("="),
    "base64 per cent": b64(f"u:{PLACEHOLDER}xy").replace("=", "%3D"),
}


@pytest.mark.parametrize("text", WRITTEN.values(), ids=WRITTEN)
def test_a_placeholder_is_found_however_it_is_written(text: str) -> None:
    assert MARKS.find(text) == {"api"}
    assert Marks({PLACEHOLDER.replace("0", "1"): "api"}).find(text) == set()


@given(st.text(max_size=200))
def test_any_text_can_be_searched(text: str) -> None:
    assert MARKS.find(text) == set()


def test_where_each_is_found() -> None:
    request = asked(
        f"/a/{PLACEHOLDER}",
        f"x=1&k%65y={PLACEHOLDER}",
        f'{{"a":"{PLACEHOLDER}"}}'.encode(),
        message=PLACEHOLDER.encode(),
        X_Key="nemoclaw-other-0123456789",
    )
    assert request.http is not None
    found = [(kind, name, set(owners)) for kind, name, owners in MARKS.places(request.http)]
    assert found == [
        ("path", "", {"api"}),
        ("query", "key", {"api"}),
        ("header", "x-key", {"other"}),
        ("body", "", {"api"}),
        ("message", "", {"api"}),
    ]


@pytest.mark.parametrize(
    ("policy", "allowed"),
    [
        (credential(), {("header", "authorization"), ("header", "x-goog-api-key"),
                        ("header", "private-token"), ("header", "x-auth"), ("header", "x-key"),
                        ("header", "x-amz-security-token")}),
        (credential(header="X-Key"), {("header", "x-key")}),
        (credential(query="key"), {("query", "key")}),
        (credential(body=True), {("body", "")}),
        (credential(type="aws"), {("header", "authorization"), ("header", "x-amz-security-token"),
                                  ("query", "X-Amz-Credential")}),
    ],
)  # fmt: skip
def test_where_a_placeholder_may_stand(policy: object, allowed: set[tuple[str, str]]) -> None:
    places = {
        *(("header", name) for name in (
            "authorization", "x-goog-api-key", "private-token", "x-auth", "x-key", "cookie",
            "referer", "user-agent", "proxy-authorization", "x-amz-security-token", "x-forwarded",
        )),
        ("query", "key"), ("query", "other"), ("query", "X-Amz-Credential"),
        ("path", ""), ("body", ""), ("message", ""),
    }  # fmt: skip
    found = {place for place in places if takes(policy, *place)}  # type: ignore[arg-type]
    assert found == allowed
