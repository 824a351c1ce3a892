"""What the gate asks of the credentials of one policy: who may have them, and put them in.

A secret goes to the host, the port and the paths of the rule that names its credential, and nowhere
else. A placeholder that turns up anywhere else is a sign that somebody wants to carry the
credential off: what holds it is refused, also where nothing else would be.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import attrs
from nemoclaw_hookspecs.errors import NemoclawError, PluginError

from ..egress.hosts import NotAHost, canonical
from ..egress.requests import methods_of
from . import sigv4
from .injection import NotFit, inject, takes
from .marks import Marks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nemoclaw_hookspecs import (
        CredentialPolicy,
        EgressRequest,
        EgressVerdict,
        HttpRequest,
        OutgoingRequest,
    )

    from .oauth2 import Tokens
    from .vault import Vault

ELSEWHERE, BODY, REFUSED = "credential-elsewhere", "credential-body", "credential"
REASONS = {
    ELSEWHERE: "a credential's placeholder is where it has no business",
    BODY: "the rule's credential needs the body, which is too large, or cannot be shown to it",
    REFUSED: "the rule's credential cannot be had, or not be put into the request",
}
"""What ``EgressVerdict.rule`` is in a denial for a credential's sake, and what it means."""
BODY_LIMIT = 4 << 20
"""Octets of a body that a secret is put into, or that is signed."""
_PATIENCE = 10.0
"""Seconds that a plugin may take to fetch a secret."""
_ECHOES = frozenset({"TRACE", "TRACK"})
"""Methods by which a server sends back what it was sent (RFC 9110 section 9.3.8)."""


class Unusable(Exception):
    """A credential was not added.

    :param what: why, for the agent: nothing of the host is in it.
    :param detail: why, for the event.
    """

    def __init__(self, what: str, detail: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.detail = detail or what


class Broker:
    """The credentials of one generation of a policy. Does not change.

    :param encoded: the credentials by name, encoded as in the policy.
    :param credentials: the same, decoded.
    """

    def __init__(
        self,
        vault: Vault,
        encoded: Mapping[str, Mapping[str, Any]],
        credentials: Mapping[str, CredentialPolicy],
        tokens: Tokens,
    ) -> None:
        self._vault = vault
        self._encoded = encoded
        self._credentials = credentials
        self._tokens = tokens
        self._asked: dict[str, Future[dict[str, str]]] = {}
        self._made = {name: vault.placeholders(each) for name, each in encoded.items()}
        self._marks = Marks(vault.known())

    def __repr__(self) -> str:
        return "Broker()"

    @property
    def wants_bodies(self) -> bool:
        """Whether any credential needs to see a body."""
        return any(each.body or each.type == "aws" for each in self._credentials.values())

    def narrowed(self, request: EgressRequest, verdict: EgressVerdict) -> EgressVerdict:
        """The verdict, or a denial in its place."""
        http = request.http
        if http is None:
            return verdict
        found = self.misplaced(request, verdict)
        if found:
            name, place = found[0]
            return attrs.evolve(
                verdict,
                action="deny",
                rule=ELSEWHERE,
                reason=f"the placeholder of the credential {name!r} may not stand in {place} here",
                remedy="",
                credential="",
                needs_body=0,
            )
        if verdict.action == "allow" and self._lacks_body(http, verdict.credential):
            return attrs.evolve(
                verdict,
                action="deny",
                rule=BODY,
                reason=f"the credential {verdict.credential!r} needs the request's body, which may "
                f"have {BODY_LIMIT} octets",
                credential="",
                needs_body=BODY_LIMIT,
            )
        return verdict

    def misplaced(
        self, request: EgressRequest, verdict: EgressVerdict
    ) -> tuple[tuple[str, str], ...]:
        """Credentials whose placeholder is where it may not be, and in what: ``a header``."""
        if request.http is None:
            return ()
        name = verdict.credential if verdict.action == "allow" else ""
        allowed = self._credentials.get(name)
        found: dict[tuple[str, str], None] = {}
        for kind, where, owners in self._marks.places(request.http):
            for owner in sorted(owners):
                if allowed is None or owner != name or not takes(allowed, kind, where):
                    found[owner, _told(kind, where)] = None
        return tuple(found)

    async def add(self, verdict: EgressVerdict, request: OutgoingRequest) -> OutgoingRequest:
        """The request with the secret in it.

        :raises Unusable: it cannot be had, or not be put in.
        """
        name = verdict.credential
        credential = self._credentials.get(name)
        if credential is None or verdict.action != "allow" or not _same_server(verdict, request):
            raise Unusable(f"the credential {name!r} is not for this request")
        if not request.secure and not credential.plain:
            raise Unusable(f"the credential {name!r} is sent over TLS alone, and this is without")
        headers: dict[str, str] = {}
        for field, value in request.fields:  # one that is there twice is a list
            said, text = field.decode("latin-1").lower(), value.decode("latin-1")
            headers[said] = f"{headers[said]},{text}" if said in headers else text
        if not _ECHOES.isdisjoint(each.upper() for each in methods_of(request.method, headers)):
            raise Unusable(f"the credential {name!r} is not for a request that is sent back")
        missing = f"the credential {name!r} cannot be had"
        try:
            secrets = await self._secrets(name)
            if credential.type == "aws":
                return sigv4.sign(
                    request,
                    sigv4.Keys(**secrets),
                    region=credential.region,
                    service=credential.service,
                    now=datetime.now(timezone.utc),
                )
            secret = secrets["secret"]
            if credential.type == "oauth2":
                secret = await self._tokens.token(credential, secrets)
            return inject(credential, self._made[name]["secret"], secret, request)
        except NotFit as error:
            raise Unusable(str(error)) from None
        except asyncio.TimeoutError:
            raise Unusable(missing, f"{missing}: its plugin does not answer in time") from None
        except PluginError as error:
            # What it says may hold the secret.
            kind = type(error.__cause__ or error).__name__
            raise Unusable(missing, f"{missing}: plugin {error.plugin!r} failed: {kind}") from None
        except NemoclawError as error:
            raise Unusable(missing, f"{missing}: {error.what}") from None

    async def _secrets(self, name: str) -> dict[str, str]:
        """Those of a credential. A plugin is waited for beside the loop: one call at a time."""
        encoded = self._encoded[name]
        if not self._vault.waits(encoded):
            return self._vault.secrets(encoded)
        asked = self._asked.get(name)
        if asked is None or asked.done():
            asked = self._asked[name] = Future()
            # A daemon: one that never answers does not keep the process from ending.
            threading.Thread(target=self._ask, args=(encoded, asked), daemon=True).start()
        return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(asked)), _PATIENCE)

    def _ask(self, encoded: Mapping[str, Any], asked: Future[dict[str, str]]) -> None:
        try:
            asked.set_result(self._vault.secrets(encoded))
        except BaseException as error:
            asked.set_exception(error)

    def _lacks_body(self, http: HttpRequest, name: str) -> bool:
        credential = self._credentials.get(name)
        if credential is None or http.body is not None or http.message is not None:
            return False
        if credential.type == "aws":
            headers = {key.lower(): value for key, value in http.headers.items()}
            return sigv4.needs_body(headers, http.query)
        return credential.body


def _told(kind: str, where: str) -> str:
    return {
        "path": "the path",
        "query": "the query",
        "header": f"the header {where}",
        "body": "the body",
        "message": "a message",
    }[kind]


def _same_server(verdict: EgressVerdict, request: OutgoingRequest) -> bool:
    try:
        host = canonical(request.host).text
    except NotAHost:
        return False
    return (host, request.port) == (verdict.host, verdict.port)
