"""Who may have a credential: the rule's own server, over TLS, and in the place that is meant."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import attrs
import pytest
from nemoclaw_hookspecs import CredentialPolicy, EgressVerdict, SecretSource
from nemoclaw_hookspecs.errors import PluginError, UpstreamError

from nemoclaw_core import seal
from nemoclaw_core.credentials import broker as broker_module
from nemoclaw_core.credentials.broker import BODY, BODY_LIMIT, ELSEWHERE, Broker, Unusable
from nemoclaw_core.credentials.vault import Vault

from .conftest import KEY, allowed, asked, credential, headers_of, outgoing


class Tokens:
    """Gives one, or fails."""

    def __init__(self, token: str = "") -> None:
        self.value = token

    async def token(self, credential: CredentialPolicy, secrets: Any) -> str:
        if not self.value:
            raise UpstreamError("the token server of 'api' answers 401")
        return self.value


def broker_of(
    *credentials: CredentialPolicy, token: str = "", **environment: str
) -> tuple[Broker, Vault]:
    vault = Vault(environment or {"API_KEY": KEY})
    encoded = {each.name: seal.encode_value(each) for each in credentials}
    named = {each.name: each for each in credentials}
    return Broker(vault, encoded, named, Tokens(token)), vault  # type: ignore[arg-type]


def placeholder_of(vault: Vault, policy: CredentialPolicy, part: str = "secret") -> str:
    return vault.placeholders(seal.encode_value(policy))[part]


DENIED = EgressVerdict(action="deny", rule="no-rule", remedy="a rule for the host", host="api.test")


def test_a_placeholder_in_its_place_changes_nothing() -> None:
    broker, vault = broker_of(credential())
    mark = placeholder_of(vault, credential())
    request = asked(authorization=f"Bearer {mark}")
    assert broker.narrowed(request, allowed()) == allowed()
    assert broker.narrowed(asked(), DENIED) == DENIED


@pytest.mark.parametrize("verdict", [allowed(""), allowed("other"), DENIED])
def test_a_placeholder_where_there_is_no_such_credential_is_denied(verdict: EgressVerdict) -> None:
    broker, vault = broker_of(credential(), credential("other", variable="API_KEY"))
    mark = placeholder_of(vault, credential())
    found = broker.narrowed(asked(x_api_key=mark), verdict)
    assert (found.action, found.rule, found.remedy) == ("deny", ELSEWHERE, "")
    assert "'api'" in found.reason
    assert mark not in found.reason
    assert broker.misplaced(asked(x_api_key=mark), found) == (("api", "the header x-api-key"),)


def test_a_held_request_is_not_put_to_an_operator_with_a_placeholder_in_it() -> None:
    broker, vault = broker_of(credential())
    held = EgressVerdict(action="hold", rule="no-rule", host="new.test")
    mark = placeholder_of(vault, credential())
    assert broker.narrowed(asked("/a", f"k={mark}"), held).action == "deny"


def test_a_body_is_asked_for_where_the_credential_goes_into_it() -> None:
    broker, vault = broker_of(credential(body=True))
    assert broker.wants_bodies
    found = broker.narrowed(asked(), allowed())
    assert (found.action, found.rule, found.needs_body) == ("deny", BODY, BODY_LIMIT)
    mark = placeholder_of(vault, credential(body=True))
    assert broker.narrowed(asked(body=mark.encode()), allowed()).action == "allow"
    assert broker.narrowed(asked(message=b"x"), allowed()).action == "allow"
    assert not broker_of(credential())[0].wants_bodies


def test_an_aws_body_is_asked_for_unless_its_digest_is_there() -> None:
    policy, environment = aws()
    broker, _ = broker_of(policy, **environment)
    assert broker.narrowed(asked(), allowed()).needs_body == BODY_LIMIT
    named = asked(X_Amz_Content_Sha256="UNSIGNED-PAYLOAD")
    assert broker.narrowed(named, allowed()).action == "allow"


def aws() -> tuple[CredentialPolicy, dict[str, str]]:
    others = {
        part: SecretSource(kind="environment", name=f"AWS_{part.upper()}")
        for part in ("access_key_id", "session_token")
    }
    policy = credential(type="aws", variable="AWS_SECRET_ACCESS_KEY", others=others)
    return policy, {"AWS_SECRET_ACCESS_KEY": "s" * 40, "AWS_ACCESS_KEY_ID": "AKIAREALREALREALREAL"}


def test_an_aws_request_is_signed_anew() -> None:
    policy, environment = aws()
    broker, vault = broker_of(policy, **environment)
    mark = placeholder_of(vault, policy, "access_key_id")
    scope = f"{mark}/20150101/eu-north-1/s3/aws4_request"
    signed = f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=00"
    assert broker.narrowed(
        asked(authorization=signed, X_Amz_Content_Sha256="UNSIGNED-PAYLOAD"), allowed()
    ) == allowed()  # fmt: skip
    sent = asyncio.run(broker.add(allowed(), outgoing(body=b"", authorization=signed)))
    value = headers_of(sent)["authorization"]
    assert "Credential=AKIAREALREALREALREAL/" in value
    assert mark not in value
    secret = placeholder_of(vault, policy, "secret_access_key")
    assert broker.narrowed(asked(cookie=secret), allowed()).rule == ELSEWHERE


def test_the_secret_is_added_for_the_rules_own_server_alone() -> None:
    broker, _ = broker_of(credential(header="x-key"), credential("plain", header="k", plain=True))
    sent = asyncio.run(broker.add(allowed(), outgoing()))
    assert headers_of(sent) == {"x-key": KEY}
    assert KEY not in repr(sent)
    assert headers_of(asyncio.run(broker.add(allowed("plain"), outgoing(secure=False))))["k"] == KEY
    wrong = {
        "another host": (allowed(), outgoing(host="other.test")),
        "another port": (allowed(), attrs.evolve(outgoing(), port=80)),
        "denied": (attrs.evolve(allowed(), action="deny"), outgoing()),
        "another credential": (allowed("other"), outgoing()),
        "no TLS": (allowed(), outgoing(secure=False)),
        "sent back": (allowed(), outgoing(method="TRACE")),
        "sent back in other words": (allowed(), outgoing(X_HTTP_Method_Override="GET, trace")),
        "sent back with underscores": (
            allowed(),
            attrs.evolve(
                outgoing(), fields=((b"X_Http_Method", b"GET"), (b"x_http_method", b"TRACK"))
            ),
        ),
    }
    for what, (verdict, request) in wrong.items():
        with pytest.raises(Unusable) as error:
            asyncio.run(broker.add(verdict, request))
        assert KEY not in error.value.what + error.value.detail, what


def test_what_the_agent_is_told_holds_nothing_of_the_host() -> None:
    broker, _ = broker_of(credential(variable="GONE"), credential("oauth", type="oauth2"))
    for name, detail in (("api", "GONE is not set"), ("oauth", "answers 401")):
        with pytest.raises(Unusable) as error:
            asyncio.run(broker.add(allowed(name), outgoing()))
        assert error.value.what == f"the credential {name!r} cannot be had"
        assert detail in error.value.detail


def test_a_fetched_token_is_put_in() -> None:
    policy = credential(type="oauth2", header="authorization", scheme="Bearer")
    broker, vault = broker_of(policy, token="fresh")
    sent = asyncio.run(broker.add(allowed(), outgoing()))
    assert headers_of(sent) == {"authorization": "Bearer fresh"}
    assert placeholder_of(vault, policy).startswith("nemoclaw-")


def test_a_plugin_is_asked_beside_the_loop_once_and_not_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    policy = credential(source=SecretSource(kind="plugin", name="vault"), header="x-key")
    ready, asked = threading.Event(), []

    def answer(encoded: Any) -> str:
        asked.append(encoded["name"])
        ready.wait(5)
        return KEY

    async def use() -> None:
        vault = Vault({}, answer)
        vault._placeholders["api"] = {"secret": "placeholder"}
        encoded = {"api": seal.encode_value(policy)}
        broker = Broker(vault, encoded, {"api": policy}, Tokens())  # type: ignore[arg-type]
        waiting = [broker.add(allowed(), outgoing()) for _ in range(3)]
        found = await asyncio.gather(*waiting, return_exceptions=True)
        assert [str(each) for each in found] == ["the credential 'api' cannot be had"] * 3
        ready.set()
        for _ in range(2):
            assert headers_of(await broker.add(allowed(), outgoing())) == {"x-key": KEY}

    monkeypatch.setattr(broker_module, "_PATIENCE", 0.05)
    asyncio.run(use())
    assert asked == ["api"]


def test_a_plugins_own_words_go_nowhere() -> None:
    policy = credential(source=SecretSource(kind="plugin", name="vault"), header="x-key")

    def answer(encoded: Any) -> str:
        raise PluginError(f"plugin 'vault' failed: {KEY}", plugin="vault") from ValueError(KEY)

    encoded = {"api": seal.encode_value(policy)}
    broker = Broker(Vault({}, answer), encoded, {"api": policy}, Tokens())  # type: ignore[arg-type]
    with pytest.raises(Unusable) as error:
        asyncio.run(broker.add(allowed(), outgoing()))
    assert error.value.detail.endswith("plugin 'vault' failed: ValueError")
    assert KEY not in str(error.value) + error.value.detail
    assert error.value.__suppress_context__
