"""Signatures for AWS: as AWS publishes them, and as its own SDK makes them."""

from __future__ import annotations

import hashlib
from datetime import datetime, timezone
from typing import Any

import pytest
from botocore import auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from nemoclaw_core.credentials import sigv4
from nemoclaw_core.credentials.injection import NotFit

from .conftest import headers_of, outgoing

NOW = datetime(2015, 8, 30, 12, 36, tzinfo=timezone.utc)
ID, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
TOKEN = "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267"
KEYS = sigv4.Keys(access_key_id=ID, secret_access_key=SECRET)
PUBLISHED = [
    ("/", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
    (
        "/?Param2=value2&Param1=value1",
        "",
        "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
    ),
    (
        "/?Param-3=Value3&Param=Value2&%E1%88%B4=Value1",
        "",
        "371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac",
    ),
    ("/?%E1%88%B4=bar", "", "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04"),
    ("/", TOKEN, "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8"),
]
"""Target, session token and signature, from AWS's test suite for Signature Version 4."""


@pytest.mark.parametrize(("target", "token", "signature"), PUBLISHED)
def test_the_published_signatures(target: str, token: str, signature: str) -> None:
    request = outgoing(target, b"", host="example.amazonaws.com")
    keys = sigv4.Keys(access_key_id=ID, secret_access_key=SECRET, session_token=token)
    signed = sigv4.sign(request, keys, region="us-east-1", service="service", now=NOW)
    value = headers_of(signed)["authorization"]
    names = "host;x-amz-date" + (";x-amz-security-token" if token else "")
    scope = "AKIDEXAMPLE/20150830/us-east-1/service/aws4_request"
    expected = f"Credential={scope}, SignedHeaders={names}, Signature={signature}"
    assert value == f"AWS4-HMAC-SHA256 {expected}"


def by_botocore(
    service: str, method: str, target: str, headers: dict[str, str], body: bytes, token: str
) -> str:
    """The Authorization field that the SDK makes."""
    signer = auth.S3SigV4Auth if service == "s3" else auth.SigV4Auth
    request = AWSRequest(method=method, url=f"https://api.test{target}", headers=headers, data=body)
    if service == "s3":
        request.context["client_config"] = None
        request.context["payload_signing_enabled"] = True
    signer(Credentials(ID, SECRET, token or None), service, "eu-west-1").add_auth(request)
    found: str = request.headers["Authorization"]
    return found


CASES = [
    ("dynamodb", "POST", "/", {"content-type": "application/x-amz-json-1.0",
                               "x-amz-target": "DynamoDB_20120810.GetItem"}, b'{"a": 1}'),
    ("bedrock", "POST", "/model/anthropic.claude%3A0/converse", {}, b"{}"),
    ("s3", "GET", "/bucket/a%20key/with%2Bplus?list-type=2&prefix=a%2Fb&delimiter=%2F", {}, b""),
    ("s3", "PUT", "/bucket/%C3%A4?acl", {"content-md5": "x=="}, b"data"),
    ("sts", "POST", "/", {"content-type": "application/x-www-form-urlencoded; charset=utf-8"},
     b"Action=GetCallerIdentity"),
    ("execute-api", "GET", "/stage/a~b/c%2Fd?x=1&x=0&empty=", {"x-amz-many": "a   b"}, b""),
]  # fmt: skip


@pytest.mark.parametrize("token", ["", TOKEN])
@pytest.mark.parametrize("case", CASES, ids=[f"{case[0]} {case[1]}" for case in CASES])
def test_the_sdk_makes_the_same_signature(
    case: tuple[str, str, str, dict[str, str], bytes], token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "get_current_datetime", lambda *_, **__: NOW)
    service, method, target, headers, body = case
    fields: dict[str, Any] = {name.replace("-", "_"): each for name, each in headers.items()}
    keys = sigv4.Keys(access_key_id=ID, secret_access_key=SECRET, session_token=token)
    signed = sigv4.sign(
        outgoing(target, body, method=method, **fields), keys, region="eu-west-1",
        service=service, now=NOW,
    )  # fmt: skip
    expected = by_botocore(service, method, target, headers, body, token)
    assert headers_of(signed)["authorization"] == expected


@given(
    st.text("ab/.~_-%+=&", max_size=12).map(lambda text: text.replace("%", "%2F")),
    st.lists(st.tuples(st.text("ab_.~", min_size=1), st.text("ab/+ äöü"))),
)
def test_any_path_and_query_has_the_sdks_signature(tail: str, query: list[tuple[str, str]]) -> None:
    from urllib.parse import quote

    path = "/" + tail.replace("/.", "/a").replace(".", "a").lstrip("/")
    pairs = "&".join(f"{quote(name)}={quote(value, safe='')}" for name, value in query)
    target = path + (f"?{pairs}" if pairs else "")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(auth, "get_current_datetime", lambda *_, **__: NOW)
        expected = by_botocore("sqs", "GET", target, {}, b"", "")
    signed = sigv4.sign(outgoing(target, b""), KEYS, region="eu-west-1", service="sqs", now=NOW)
    assert headers_of(signed)["authorization"] == expected


def agents(service: str = "s3", **more: str) -> dict[str, Any]:
    """What an SDK with a placeholder has put into the header."""
    scope = f"AKIAPLACEHOLDER/20150101/eu-north-1/{service}/aws4_request"
    value = f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=00"
    return {
        "authorization": value,
        "x_amz_date": "20150101T000000Z",
        "x_amz_security_token": "placeholder",
        **more,
    }


def test_what_the_agent_has_signed_is_dropped_and_its_scope_taken() -> None:
    signed = sigv4.sign(outgoing("/b/k", b"", **agents()), KEYS, region="", service="", now=NOW)
    headers = headers_of(signed)
    assert "/20150830/eu-north-1/s3/aws4_request, " in headers["authorization"]
    assert headers["x-amz-date"] == "20150830T123600Z"
    assert headers["x-amz-content-sha256"] == hashlib.sha256(b"").hexdigest()
    assert "PLACEHOLDER" not in str(signed.fields)
    assert "x-amz-security-token" not in headers
    assert SECRET not in str(signed.fields) + repr(signed) + repr(KEYS)
    wanted = sigv4.sign(
        outgoing("/", b"", **agents()), KEYS, region="us-west-2", service="ec2", now=NOW
    )
    assert "/20150830/us-west-2/ec2/aws4_request, " in headers_of(wanted)["authorization"]


def test_a_signed_url_is_signed_in_the_header() -> None:
    target = (
        "/b/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAPLACEHOLDER%2F20150101"
        "%2Feu-north-1%2Fs3%2Faws4_request&X-Amz-Date=20150101T000000Z&X-Amz-Expires=9"
        "&X-Amz-SignedHeaders=host&X-Amz-Signature=00&versionId=3"
    )
    assert not sigv4.needs_body({}, target)
    signed = sigv4.sign(outgoing(target), KEYS, region="", service="", now=NOW)
    assert signed.target == b"/b/k?versionId=3"
    assert headers_of(signed)["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"


@pytest.mark.parametrize(
    ("more", "body", "why"),
    [
        ({"x_amz_content_sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"}, None, "each chunk"),
        ({"x_amz_content_sha256": "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD"}, None, "each chunk"),
        ({"x_amz_content_sha256": "whatever"}, b"", "neither a digest"),
        ({}, None, "too large to be signed"),
        ({"authorization": "AWS4-ECDSA-P256-SHA256 Credential=a/b"}, b"", "SigV4a"),
        ({"authorization": "Bearer x"}, b"", "not known which AWS region"),
    ],
)
def test_what_cannot_be_signed_is_refused_with_a_reason(
    more: dict[str, Any], body: bytes | None, why: str
) -> None:
    request = outgoing("/", body, **{**agents(), **more})
    with pytest.raises(NotFit, match=why):
        sigv4.sign(request, KEYS, region="", service="", now=NOW)


@pytest.mark.parametrize(
    "declared", ["UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "ab" * 32]
)
def test_a_body_that_its_sender_describes_is_streamed(declared: str) -> None:
    assert not sigv4.needs_body({"x-amz-content-sha256": declared}, "")
    assert sigv4.needs_body({}, "")
    request = outgoing("/b/k", None, method="PUT", **agents(x_amz_content_sha256=declared))
    signed = sigv4.sign(request, KEYS, region="", service="", now=NOW)
    assert headers_of(signed)["x-amz-content-sha256"] == declared
