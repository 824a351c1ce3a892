"""Tokens of OAuth 2.0, from a token server on loopback that speaks TLS."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import ssl
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import attrs
import pytest
from nemoclaw_hookspecs import EgressVerdict
from nemoclaw_hookspecs.errors import EgressDenied, UpstreamError

from nemoclaw_core.credentials.oauth2 import Tokens

from .conftest import credential

HOST = "token.test"
POLICY = credential(
    type="oauth2",
    header="authorization",
    scheme="Bearer",
    token_url=f"https://{HOST}:8443/oauth/token?tenant=1",
    client_id="my client",
    scope="read write",
)
SECRETS = {"secret": "client/secret"}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("token")
    key, found = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-keyout", key, "-out", found, "-days", "2", "-subj", f"/CN={HOST}",
         "-addext", f"subjectAltName=DNS:{HOST}"],
        check=True, capture_output=True,
    )  # fmt: skip
    return found, key


@attrs.define
class TokenServer:
    """Answers in turn, and keeps what it was asked."""

    answers: list[bytes]
    asked: list[tuple[str, dict[str, str], dict[str, str]]] = attrs.field(factory=list)
    port: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        raw = dict(line.split(": ", 1) for line in head[1:] if line)
        body = await reader.readexactly(int(headers["content-length"]))
        self.asked.append((head[0], raw, dict(parse_qsl(body.decode()))))
        await asyncio.sleep(0.01)
        writer.write(self.answers.pop(0) if self.answers else b"")
        writer.close()

    async def dial(self, verdict: EgressVerdict) -> socket.socket:
        assert (verdict.action, verdict.host, verdict.port) == ("allow", HOST, 8443)
        connection = socket.create_connection(("127.0.0.1", self.port))
        connection.setblocking(False)
        return connection


def answer(status: int = 200, **members: Any) -> bytes:
    body = json.dumps({"access_token": "t1", "token_type": "Bearer", **members}).encode()
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


def served(
    certificate: tuple[Path, Path],
    answers: list[bytes],
    use: Callable[[Tokens, TokenServer, list[float]], Awaitable[None]],
    trusted: bool = True,
) -> TokenServer:
    """Run ``use`` beside a token server. The list is the clock's time."""
    server = TokenServer(answers)

    async def main() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=context)
        server.port = listening.sockets[0].getsockname()[1]
        now = [1000.0]
        authorities = certificate[0].read_text() if trusted else ""
        await use(Tokens(server.dial, authorities, lambda: now[0]), server, now)
        listening.close()

    asyncio.run(main())
    return server


def test_client_credentials_are_exchanged_once_until_the_token_ends(
    certificate: tuple[Path, Path],
) -> None:
    async def use(tokens: Tokens, server: TokenServer, now: list[float]) -> None:
        found = await asyncio.gather(*(tokens.token(POLICY, SECRETS) for _ in range(5)))
        assert found == ["t1"] * 5
        now[0] += 3569
        assert await tokens.token(POLICY, SECRETS) == "t1"
        now[0] += 2
        assert await tokens.token(POLICY, SECRETS) == "t2"
        assert await tokens.token(POLICY, {"secret": "rotated"}) == "t3"
        assert "t3" not in repr(tokens)

    answers = [answer(expires_in=3600), answer(access_token="t2"), answer(access_token="t3")]
    server = served(certificate, answers, use)
    line, headers, form = server.asked[0]
    assert line == "POST /oauth/token?tenant=1 HTTP/1.0"
    assert headers["Host"] == "token.test:8443"
    assert base64.b64decode(headers["Authorization"].split()[1]) == b"my%20client:client%2Fsecret"
    assert form == {"grant_type": "client_credentials", "scope": "read write"}
    assert len(server.asked) == 3


def test_a_refresh_token_is_exchanged_and_its_successor_used(
    certificate: tuple[Path, Path],
) -> None:
    policy = attrs.evolve(POLICY, grant="refresh_token")

    async def use(tokens: Tokens, server: TokenServer, now: list[float]) -> None:
        for secrets in ({"secret": "r1"}, {"secret": "r1"}, {"secret": "r9", "client_secret": "c"}):
            await tokens.token(policy, secrets)
            now[0] += 4000

    server = served(certificate, [answer(refresh_token="r2"), answer(), answer()], use)
    assert [form["refresh_token"] for _, _, form in server.asked] == ["r1", "r2", "r9"]
    assert server.asked[0][2]["client_id"] == "my client"
    assert "Authorization" not in server.asked[0][1]
    assert "Authorization" in server.asked[2][1]


BAD = {
    "answers 401": answer(401, error="invalid_client"),
    "no bearer token": answer(token_type="mac"),
    "gives no": answer(access_token=7),
    "in JSON": b"HTTP/1.0 200 OK\r\n\r\nclient/secret",
    "cannot be used: ValueError": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "used: ValueError": b"HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n",
    "used: IncompleteReadError": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
    "be used: ValueError": b"SSH-2.0-x\r\n\r\n",
    "cannot be used": b"",
}


@pytest.mark.parametrize("why", BAD)
def test_a_server_that_gives_none_is_told_without_what_it_said(
    certificate: tuple[Path, Path], why: str
) -> None:
    async def use(tokens: Tokens, server: TokenServer, now: list[float]) -> None:
        with pytest.raises(UpstreamError, match=why) as error:
            await tokens.token(POLICY, SECRETS)
        assert "secret" not in str(error.value)
        for _ in range(3):  # kept for a moment: an agent cannot make it hammer the server
            with pytest.raises(UpstreamError, match=why):
                await tokens.token(POLICY, SECRETS)
        assert len(server.asked) == 1
        now[0] += 5
        assert await tokens.token(POLICY, SECRETS) == "t1"

    served(certificate, [BAD[why], answer()], use)


def test_other_secrets_are_tried_at_once_after_a_failure(certificate: tuple[Path, Path]) -> None:
    async def use(tokens: Tokens, server: TokenServer, now: list[float]) -> None:
        with pytest.raises(UpstreamError, match="401"):
            await tokens.token(POLICY, SECRETS)
        assert await tokens.token(POLICY, {"secret": "rotated"}) == "t1"

    served(certificate, [answer(401), answer()], use)


def test_a_server_that_is_not_trusted_is_given_nothing(certificate: tuple[Path, Path]) -> None:
    async def use(tokens: Tokens, server: TokenServer, now: list[float]) -> None:
        with pytest.raises(UpstreamError, match="SSLCertVerificationError"):
            await tokens.token(POLICY, SECRETS)

    assert served(certificate, [answer()], use, trusted=False).asked == []


def test_an_address_that_may_not_be_dialled_is_a_denial() -> None:
    async def dial(verdict: EgressVerdict) -> socket.socket:
        assert verdict.addresses == ("10.0.0.0/8",)
        raise EgressDenied("token.test leads to private addresses alone")

    policy = attrs.evolve(POLICY, addresses=("10.0.0.0/8",))
    with pytest.raises(EgressDenied, match="private"):
        asyncio.run(Tokens(dial).token(policy, SECRETS))
