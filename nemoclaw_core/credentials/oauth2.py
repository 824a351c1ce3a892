"""Access tokens of OAuth 2.0 (RFC 6749): fetched outside, kept until they expire.

Grants: client credentials (section 4.4) and refresh token (section 6). The token server is reached
as any other: through the dialer, which checks every address, and with a verified certificate.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from nemoclaw_hookspecs import EgressVerdict
from nemoclaw_hookspecs.errors import EgressDenied, NemoclawError, UpstreamError

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Mapping

    from nemoclaw_hookspecs import CredentialPolicy

    Dial = Callable[[EgressVerdict], Awaitable[socket.socket]]

_LARGEST = 65536
"""Octets of an answer."""
_PATIENCE = 15.0
"""Seconds that a token server may take."""
_LIFETIME = 300.0
"""Seconds that a token is used whose server does not say how long it is good."""
_MARGIN = 30.0
"""Seconds before its end at which a token is fetched anew; a tenth of its time, if that is less."""
_RESPITE = 5.0
"""Seconds that a token server is left alone which gave none: an agent may ask without end."""


class Tokens:
    """Fetches tokens, one request at a time for each credential.

    :param dial: connects to what a verdict allows.
    :param authorities: PEM of authorities that servers may be signed by, besides the system's.
    :param clock: seconds, monotonic.
    """

    def __init__(
        self, dial: Dial, authorities: str = "", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._dial = dial
        self._authorities = authorities
        self._clock = clock
        self._locks: dict[str, asyncio.Lock] = {}
        self._kept: dict[str, tuple[tuple[object, ...], str, float]] = {}
        self._refreshed: dict[str, tuple[str, str]] = {}
        self._failed: dict[str, tuple[tuple[object, ...], type[NemoclawError], str, float]] = {}

    def __repr__(self) -> str:
        return "Tokens()"

    async def token(self, credential: CredentialPolicy, secrets: Mapping[str, str]) -> str:
        """An access token that is good for some time yet.

        :param secrets: by part, see ``vault``. A token that others gave is not used any more.
        :raises UpstreamError: the token server gives none.
        :raises EgressDenied: it leads to addresses that it may not lead to.
        """
        name = credential.name
        key = (credential, *sorted(secrets.items()))
        async with self._locks.setdefault(name, asyncio.Lock()):
            kept = self._kept.get(name)
            if kept is not None and kept[0] == key and self._clock() < kept[2]:
                return kept[1]
            self._kept.pop(name, None)
            failed = self._failed.pop(name, None)
            if failed is not None and failed[0] == key and self._clock() < failed[3]:
                self._failed[name] = failed
                raise failed[1](failed[2])
            try:
                return await self._fetch(credential, secrets, key)
            except (UpstreamError, EgressDenied) as error:
                self._failed[name] = (key, type(error), error.what, self._clock() + _RESPITE)
                raise

    async def _fetch(
        self, credential: CredentialPolicy, secrets: Mapping[str, str], key: tuple[object, ...]
    ) -> str:
        name = credential.name
        answer = await self._ask(credential, secrets)
        token, kind = answer.get("access_token"), answer.get("token_type", "bearer")
        if not isinstance(token, str) or not token or str(kind).lower() != "bearer":
            raise UpstreamError(f"the token server of {name!r} gives no bearer token")
        lifetime = answer.get("expires_in", _LIFETIME)
        try:
            seconds = float(lifetime)
        except (TypeError, ValueError):
            seconds = _LIFETIME
        until = self._clock() + seconds - min(_MARGIN, seconds / 10)
        self._kept[name] = (key, token, until)
        refreshed = answer.get("refresh_token")
        if credential.grant == "refresh_token" and isinstance(refreshed, str) and refreshed:
            # The old one may be good no more (section 6). It stands for the one in the source.
            self._refreshed[name] = (secrets["secret"], refreshed)
        return token

    async def _ask(
        self, credential: CredentialPolicy, secrets: Mapping[str, str]
    ) -> dict[str, Any]:
        form: dict[str, str] = {"grant_type": credential.grant}
        if credential.scope:
            form["scope"] = credential.scope
        client = secrets["secret"]
        if credential.grant == "refresh_token":
            source, newer = self._refreshed.get(credential.name, ("", ""))
            form["refresh_token"] = newer if source == secrets["secret"] else secrets["secret"]
            client = secrets.get("client_secret", "")
        headers = {}
        if client:
            # Section 2.3.1: each is encoded as in a form before they are joined.
            pair = f"{quote(credential.client_id, safe='')}:{quote(client, safe='')}"
            headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode("ascii")
        else:
            form["client_id"] = credential.client_id
        who = f"the token server of {credential.name!r}"
        try:
            status, body = await asyncio.wait_for(
                self._post(credential, headers, urlencode(form).encode("ascii")), _PATIENCE
            )
        except (asyncio.TimeoutError, TimeoutError):
            raise UpstreamError(f"{who} does not answer in time") from None
        except NemoclawError:
            raise
        except (OSError, EOFError, ValueError) as error:
            # The class alone: what the server has said may repeat what it was sent.
            raise UpstreamError(f"{who} cannot be used: {type(error).__name__}") from None
        if status != 200:
            raise UpstreamError(f"{who} answers {status}")
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise UpstreamError(f"{who} does not answer in JSON")
        return answer

    async def _post(
        self, credential: CredentialPolicy, headers: dict[str, str], body: bytes
    ) -> tuple[int, bytes]:
        url = urlsplit(credential.token_url)
        host, port = url.hostname or "", url.port or 443
        target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        verdict = EgressVerdict(
            action="allow",
            rule=credential.name,
            origin=str(credential.origin),
            host=host,
            port=port,
            addresses=credential.addresses,
        )
        context = ssl.create_default_context()
        if self._authorities:
            context.load_verify_locations(cadata=self._authorities)
        connection = await self._dial(verdict)
        try:
            reader, writer = await asyncio.open_connection(
                sock=connection, ssl=context, server_hostname=host, limit=_LARGEST
            )
        except BaseException:
            connection.close()
            raise
        try:
            name = f"[{host}]" if ":" in host else host
            lines = {
                "Host": name if port == 443 else f"{name}:{port}",
                "Accept": "application/json",
                "Content-Type": "application/x-www-form-urlencoded",
                "Content-Length": str(len(body)),
                "Connection": "close",
                **headers,
            }
            # HTTP/1.0: no server answers that in chunks.
            head = f"POST {target} HTTP/1.0\r\n" + "".join(
                f"{name}: {value}\r\n" for name, value in lines.items()
            )
            writer.write(head.encode("ascii") + b"\r\n" + body)
            await writer.drain()
            return await _answer(reader)
        finally:
            writer.transport.abort()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        raise ValueError("no HTTP") from None
    lines = head.decode("latin-1").split("\r\n")
    version, _, rest = lines[0].partition(" ")
    if not version.startswith("HTTP/1.") or not rest[:3].isdecimal():
        raise ValueError("no HTTP")
    length = -1
    for line in lines[1:]:
        name, _, value = line.partition(":")
        if name.lower() == "transfer-encoding":
            raise ValueError("a coding that was not asked for")
        if name.lower() == "content-length":
            length = int(value)
    if length > _LARGEST:
        raise ValueError("too large")
    if length >= 0:
        return int(rest[:3]), await reader.readexactly(length)
    body = b""
    while len(body) <= _LARGEST:
        piece = await reader.read(_LARGEST)
        if not piece:
            return int(rest[:3]), body
        body += piece
    raise ValueError("too large")
