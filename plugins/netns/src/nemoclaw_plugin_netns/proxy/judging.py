"""From a request that was read to one that may be sent: asked of the core, for every HTTP version.

What is sent is what was judged: the canonical path, a body that a rule looked at, and a credential
where the rule has one. A session reads and writes; it decides nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import attrs
from nemoclaw_hookspecs import EgressRequest, HttpRequest, OutgoingRequest
from nemoclaw_hookspecs.errors import EgressDenied

from .head import Fields
from .target import Headers, Origin

if TYPE_CHECKING:
    from nemoclaw_hookspecs import Caller, Egress, EgressVerdict

    from .gate import Gate

ReadBody = Callable[[int], Awaitable["bytes | None"]]
"""Reads a request's whole body, if it has no more octets than a limit; ``None``: it has more."""


@attrs.frozen(slots=True, kw_only=True)
class Judged:
    """What may become of a request."""

    verdict: EgressVerdict
    request: EgressRequest
    """What was judged."""
    target: bytes = attrs.field(default=b"", repr=False)
    """Path and query to send; only of an allowed one."""
    fields: Fields = attrs.field(factory=list, repr=False)
    """Header fields to send; only of an allowed one."""
    body: bytes | None = attrs.field(default=None, repr=False)
    """The body to send, where it was read to be judged; else it is still with the client."""


class Judging:
    """Asks for one client's requests.

    :param caller: whose connection it is, if that was looked up already.
    :param identify: looks it up.
    """

    __slots__ = ("_caller", "_egress", "_identify", "_sandbox")

    def __init__(
        self, gate: Gate, caller: Caller | None, identify: Callable[[], Awaitable[Caller | None]]
    ) -> None:
        self._egress: Egress = gate.egress
        self._sandbox = gate.sandbox
        self._caller = caller
        self._identify = identify

    def request(self, origin: Origin, http: HttpRequest | None) -> EgressRequest:
        """A request as the core knows it; ``None``: the connection that it would need."""
        return EgressRequest(
            sandbox=self._sandbox,
            host=origin.host,
            port=origin.port,
            protocol="tcp" if http is None else "http",
            caller=self._caller,
            http=http,
        )

    async def judge(
        self,
        origin: Origin,
        method: str,
        target: bytes,
        fields: Fields,
        read_body: ReadBody,
        *,
        websocket: bool = False,
    ) -> Judged:
        """Whether a request may be sent to its origin, and how. One event is written.

        :param target: path and query as the client sent them.
        :param fields: without hop-by-hop fields and what frames the body.
        :param websocket: it asks to become one.
        """
        egress = self._egress
        path, _, query = target.partition(b"?")
        http = HttpRequest(
            method=method,
            path=path.decode("ascii"),
            query=query.decode("ascii"),
            headers=Headers(fields),
            websocket=websocket,
        )
        if self._caller is None and egress.wants_caller:
            self._caller = await self._identify()
        request = self.request(origin, http)
        body = None
        if egress.wants_bodies:
            limit = egress.judge(request).needs_body
            if limit:
                body = await read_body(limit)
                if body is not None:
                    request = attrs.evolve(request, http=attrs.evolve(http, body=body))
        verdict = await egress.authorize(request)
        if verdict.action == "allow" and verdict.generation != egress.generation:
            verdict = egress.judge(request)
        if verdict.action != "allow":
            return Judged(verdict=verdict, request=request, body=body)
        if verdict.path:  # what was judged is what is sent
            canonical = verdict.path.encode("ascii")
            if canonical != path:
                target = canonical + target[len(path) :]
        if verdict.credential:
            sending = OutgoingRequest(
                method=method,
                host=origin.host,
                port=origin.port,
                target=target,
                fields=tuple(fields),
                body=body,
                secure=origin.tls,
            )
            try:
                sent = await egress.add_credential(verdict, sending)
            except EgressDenied as error:  # the event of it was written
                verdict = attrs.evolve(
                    verdict, action="deny", rule="credential", reason=error.what, credential=""
                )
                return Judged(verdict=verdict, request=request, body=body)
            target, fields, body = sent.target, list(sent.fields), sent.body
        return Judged(verdict=verdict, request=request, target=target, fields=fields, body=body)

    async def message(self, opened: EgressRequest, message: bytes) -> EgressVerdict:
        """Whether a text message may be sent on the WebSocket that a request has opened. One event
        is written."""
        assert opened.http is not None, "it was a request that opened it"
        egress = self._egress
        request = attrs.evolve(opened, http=attrs.evolve(opened.http, message=message))
        verdict = await egress.authorize(request)
        if verdict.action == "allow" and verdict.generation != egress.generation:
            verdict = egress.judge(request)
        return verdict
