"""Inspected HTTP/1.1: every request is judged, and both directions are written anew (RFC 9112).

A session is one client connection and the upstream connections that its requests need. Requests are
served one after the other; bodies are streamed, bounded by what the other side takes.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from nemoclaw_hookspecs.errors import EgressDenied

from . import replies
from .bodies import Bodies
from .channel import Channel
from .head import Fields, HeadError, RequestHead, ResponseHead, read_request, write_response
from .holding import attended
from .http1_client import CLOSE, DIAL, HEAD, IDLE, LINGER, SERVE, ClientSide
from .http1_server import ServerSide, UpstreamFailed
from .judging import Judged, Judging
from .target import MismatchError, Origin, Target, read_target

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from nemoclaw_hookspecs import Caller, Egress, EgressRequest

    from .gate import Gate

_EXTENSIONS = b"sec-websocket-extensions"


class Session:
    """Serves one client until either side ends it.

    :param fixed: the server that the connection was made for; ``None``: an explicit proxy.
    :param connection: what was authorized when the connection was made.
    :param caller: whose connection it is, if that was looked up already.
    :param identify: looks it up.
    """

    def __init__(
        self,
        gate: Gate,
        client: Channel,
        fixed: Origin | None,
        connection: EgressRequest | None,
        caller: Caller | None,
        identify: Callable[[], Awaitable[Caller | None]],
    ) -> None:
        self.deadline = 0
        self.late = False
        """The deadline has passed, and what was waited for is given up."""
        self._gate = gate
        self._egress = gate.egress
        self._fixed = fixed
        self._connection = connection
        self._judging = Judging(gate, caller, identify)
        self._bodies = Bodies(self, gate.table, gate.limits.idle)
        self._channel = client
        self._client = ClientSide(gate, client, self, self._bodies)
        self._servers = ServerSide(gate, self._client, self, self._bodies)
        self._request: EgressRequest | None = None
        self._watched = False
        self._state = IDLE
        self._cut = False
        self._task: asyncio.Task[Any] | None = None

    async def serve(self) -> None:
        """Serve until the end. The task that calls this is the session's from now on."""
        self._gate.table.add(self)
        self._task = asyncio.current_task()
        await self._run()

    def enter(self, state: int, seconds: int) -> None:
        """Wait for something else from now on, for a time; 0: for as long as it takes."""
        self._state = state
        self.deadline = self._gate.table.now + seconds if seconds else 0

    # -- what the table asks

    def allowed(self, egress: Egress) -> bool:
        """See :class:`~.table.Entry`."""
        if self._connection is not None and egress.judge(self._connection).action != "allow":
            return False
        if self._request is not None:
            verdict = egress.judge(self._request)
            if verdict.action != "allow" or (verdict.watch and not self._watched):
                return False
        if self._fixed is None:
            kept, serving = self._servers.kept, self._servers.serving
            for origin, upstream in tuple(kept.items()):
                action = egress.judge(self._judging.request(origin, None)).action
                if action != "allow":
                    if upstream is serving:
                        if action == "hold" and self._request is not None:
                            continue  # an operator has approved this request, and no other
                        return False
                    del kept[origin]
                    upstream.reset()
        return True

    def cut(self) -> None:
        """See :class:`~.table.Entry`."""
        self._cut = True
        self._gate.table.remove(self)
        self._channel.reset()
        self._servers.reset()
        if self._task is not None:
            self._task.cancel()

    def expire(self) -> None:
        """See :class:`~.table.Entry`."""
        serving = self._servers.serving
        if self._state == IDLE:
            self._channel.finish()
            self.enter(CLOSE, LINGER)
        elif self.late or self._task is None:
            self.cut()
        elif self._state in (HEAD, DIAL):
            self.late = True
            self.enter(SERVE, LINGER)
            self._task.cancel()
        elif self._state == SERVE and serving is not None:
            self.late = True
            self.enter(SERVE, LINGER)
            serving.reset()
        else:
            self.cut()

    # -- the loop

    async def _run(self) -> None:
        channel = self._channel
        try:
            while await self._exchange():
                pass
        except HeadError as error:
            self._deny_malformed(error)
            await self._client.linger()
        except OSError:  # one side has gone in the middle of a message
            if not self._cut:
                channel.reset()
        except asyncio.CancelledError:
            if not self._cut:
                channel.reset()
        finally:
            self._servers.finish()
            self._client.release()
            channel.finish()
            if not self._cut:
                self.enter(CLOSE, LINGER)
                try:
                    await channel.gone()
                finally:
                    self._gate.table.remove(self)

    async def _exchange(self) -> bool:
        """One request and its response. False: the connection ends here."""
        raw = await self._client.read_head()
        if raw is None:
            return False
        head = read_request(raw, self._gate.limits.header_count)
        if head.method == "CONNECT":
            raise HeadError("CONNECT inside of a connection")
        if head.websocket and (head.method != "GET" or head.length):
            raise HeadError("a WebSocket is asked for by GET, without a body")
        target = read_target(head, self._fixed)
        # An operator may be asked: the core sets the time for that.
        self.enter(SERVE, 0)
        self.late = False

        async def read_body(limit: int) -> bytes | None:
            return await self._client.read_body(head, limit)

        try:
            judged = await attended(
                self._gate.loop,
                self._left,
                self._judging.judge(
                    target.origin,
                    head.method,
                    target.path,
                    head.fields,
                    read_body,
                    websocket=head.websocket,
                ),
            )
            self._request = judged.request
            if judged.verdict.action != "allow":
                body = replies.denial(judged.verdict)
                keep = await self._client.answer(head, 403, body)
            else:
                keep = await self._forward(_sent(head, judged), target.origin, judged)
        except EgressDenied as error:
            keep = await self._instead(head, 403, replies.refusal("address", error.what))
        except UpstreamFailed as error:
            failed = replies.failure(error.error, target.origin.host, error.reason)
            keep = await self._instead(head, error.status, failed)
        self._request = None
        return keep

    def _left(self) -> bool:
        return self._channel.ended or self._channel.lost

    async def _forward(self, head: RequestHead, origin: Origin, judged: Judged) -> bool:
        if self._client.spent:
            raise HeadError("the policy has changed while the request arrived")
        self._watched = judged.verdict.watch
        response, upstream = await self._servers.exchange(
            head, Target(origin, judged.target), judged
        )
        if response.status == 101:
            return await self._switch(response, upstream, judged)
        keep = await self._client.relay(head, response, upstream, sending=self._servers.sending())
        self._servers.settle(origin, response, upstream)
        return keep

    async def _instead(self, head: RequestHead, status: int, body: dict[str, str]) -> bool:
        """Answer a request that was allowed in the server's place."""
        sent = await self._servers.stop_sending()
        return await self._client.answer(head, status, body, sent=sent)

    async def _switch(self, response: ResponseHead, upstream: Channel, judged: Judged) -> bool:
        """A WebSocket from here on, until both have said their last."""
        if judged.verdict.watch:
            from .watching import Watching

            if any(name.lower() == _EXTENSIONS for name, _ in response.fields):
                raise UpstreamFailed(
                    502, "upstream_malformed", "an extension of WebSocket that nobody asked for"
                )
            self._client.answered = True
            self._channel.write(write_response(response, False, False))
            watching = Watching(self, self._gate, self._judging, judged.request)
            if await watching.run(self._channel, upstream):
                await self._client.linger()
        else:
            self._client.answered = True
            self._channel.write(write_response(response, False, False))
            pump = self._gate.spawn(self._bodies.pour(self._channel, upstream))
            try:
                await self._bodies.pour(upstream, self._channel)
                await pump
            finally:
                pump.cancel()
        self._servers.serving = None
        upstream.finish()
        return False

    def _deny_malformed(self, error: HeadError) -> None:
        request = self._request or self._connection
        if request is None:
            request = self._judging.request(self._fixed or Origin("", 0), None)
        mismatch = isinstance(error, MismatchError)
        rule = "host-mismatch" if mismatch else "malformed"
        self._egress.denied(request, rule, error.reason)
        if mismatch:
            self._client.refuse(403, replies.refusal(rule, error.reason))
        else:
            self._client.refuse(error.status, replies.malformed(error.reason))


def _sent(head: RequestHead, judged: Judged) -> RequestHead:
    """The head of an allowed request as it is sent."""
    if judged.body is not None:
        return head._replace(length=len(judged.body), fields=_without(judged.fields, b"expect"))
    if judged.verdict.watch:  # messages are to be seen as they are, not compressed
        return head._replace(fields=_without(judged.fields, _EXTENSIONS))
    return head._replace(fields=judged.fields)


def _without(fields: Fields, unwanted: bytes) -> Fields:
    return [field for field in fields if field[0].lower() != unwanted]
