"""One request and its response over HTTP/2, from its header block to the end of both bodies."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from nemoclaw_hookspecs.errors import EgressDenied

from . import http2_guard as guard
from . import replies
from .head import Fields, HeadError
from .http2_answers import send_grpc, send_json
from .http2_bodies import BodyReader
from .http2_fields import Request, write_request
from .http2_outlet import Outlet, ignore
from .http2_upstream import Upstream
from .reaching import UpstreamFailed

if TYPE_CHECKING:
    from nemoclaw_hookspecs import EgressRequest

    from .http2 import Session
    from .judging import Judged

_TRIES = 3
"""Connections to a server that leaves before it has been asked anything."""
_CONTINUE: Fields = [(b":status", b"100")]


class Exchange:
    """See :class:`.http2_upstream.Exchange`.

    :param stream: its number on the client's connection.
    """

    __slots__ = (
        "_answered",
        "_bare",
        "_judged",
        "_late",
        "_moved",
        "_number",
        "_reader",
        "_request",
        "_session",
        "_task",
        "_upstream",
        "deadline",
        "down",
        "judged_as",
        "stream",
        "up",
    )

    def __init__(self, session: Session, stream: int, request: Request, *, ended: bool) -> None:
        self.stream = stream
        self.deadline = 0
        """On the table's clock; 0: none."""
        self.judged_as: EgressRequest | None = None
        """What was allowed."""
        self.up = Outlet(self._sent_up, request.length)
        self.down = Outlet(self._sent_down, 0 if request.method == "HEAD" else -1)
        self._session = session
        self._request = request
        self._judged: Judged | None = None
        self._upstream: Upstream | None = None
        self._number = 0
        self._answered = False
        self._bare = ended
        self._moved = False
        self._late = False
        self._reader = BodyReader(session.gate)
        if ended:
            self.up.finish()
        self._task: asyncio.Task[None] | None = session.gate.spawn(self._run())

    def touch(self) -> None:
        """Put the deadline off."""
        self.deadline = self._session.gate.table.now + self._session.gate.limits.idle

    # -- from the client

    def receive(self, data: bytes, size: int, *, end: bool) -> None:
        """A piece of the request's body."""
        if self._upstream is not None:
            self.touch()
        self.up.write(data, size, end=end)
        self._reader.wake()
        self._settle()

    def end(self) -> None:
        """The request's body has ended. What came behind it was not judged, and goes nowhere."""
        self.up.finish()
        self._reader.wake()
        self._settle()

    def cancel(self, code: int) -> None:
        """The client has given it up.

        :param code: for the server.
        """
        if self._task is not None:
            self._task.cancel()
        self._leave(code)

    def cut(self) -> None:
        """The policy forbids it now."""
        self._session.client.reset_stream(self.stream, guard.CANCEL)
        self.cancel(guard.CANCEL)

    def expire(self) -> None:
        """Its deadline has passed."""
        self.deadline = 0
        if self._task is not None:
            self._late = True
            self._task.cancel()
        else:
            self.failed(
                UpstreamFailed(504, "upstream_timeout", "the server did not answer in time")
            )

    # -- to the server

    async def _run(self) -> None:
        session = self._session
        request = self._request
        try:
            judged = self._judged
            if judged is None:
                judged = self._judged = await session.judging.judge(
                    session.origin, request.method, request.target, request.fields, self._read_body
                )
                if judged.verdict.action != "allow":
                    self.answer(403, replies.denial(judged.verdict))
                    return
                self.judged_as = judged.request
            await self._forward(judged)
        except EgressDenied as error:
            self.answer(403, replies.refusal("address", error.what))
        except HeadError as error:
            session.malformed(self.judged_as, error)
            self.answer(error.status, replies.malformed(error.reason))
        except UpstreamFailed as error:
            self.failed(error)
        except asyncio.CancelledError:
            if self._late:
                self.answer(408, replies.malformed("the request did not arrive in time"))
        except BaseException:
            self._break_off(guard.INTERNAL_ERROR)
            raise
        finally:
            self._task = None

    async def _forward(self, judged: Judged) -> None:
        session = self._session
        self.touch()
        session.hurry(self.deadline)
        for _ in range(_TRIES):
            upstream = await session.reach(judged.verdict)
            await upstream.room()
            if upstream.usable:
                break
        else:
            reason = "the server closed without a response"
            raise UpstreamFailed(502, "upstream_closed", reason)
        egress = session.gate.egress
        if judged.verdict.generation != egress.generation:
            again = egress.judge(judged.request)
            if again.action != "allow":
                self.answer(403, replies.denial(again))
                return
        body = judged.body
        bare = not body and self._request.length <= 0
        fields = judged.fields
        if body is not None:
            fields = [field for field in fields if field[0].lower() != b"expect"]
            self.up = Outlet(ignore)
            self.up.write(body, len(body), end=True)
        head = write_request(
            self._request.method,
            session.origin,
            judged.target,
            fields,
            self._request.length if body is None or bare else len(body),
            bool(judged.verdict.credential),
        )
        end = not body if body is not None else self.up.ended and self.up.empty
        self._upstream = upstream
        self._number = upstream.begin(self, head, end=end)

    async def _read_body(self, limit: int) -> bytes | None:
        """All of the body, for the core to look at; ``None``: it has more than ``limit``."""
        session = self._session
        self.deadline = session.gate.table.now + session.gate.limits.first_bytes
        session.hurry(self.deadline)
        if not self.up.ended and any(name == b"expect" for name, _ in self._request.fields):
            session.client.send_headers(self.stream, _CONTINUE)
        body = await self._reader.read(self.up, self._request.length, limit)
        self.deadline = 0
        return body

    def _sent_up(self, size: int) -> None:
        self._session.client.acknowledge(size, self.stream)
        self._settle()

    # -- from the server

    def respond(self, fields: Fields, *, final: bool, end: bool) -> None:
        """See :class:`.http2_upstream.Exchange`."""
        self._session.client.send_headers(self.stream, fields, end=end)
        if final:
            self._answered = True
            self.down.attach(self._session.client, self.stream, done=end)
            self._settle()

    def failed(self, error: UpstreamFailed) -> None:
        """See :class:`.http2_upstream.Exchange`."""
        if self._answered:
            self._break_off(guard.INTERNAL_ERROR)
        else:
            host = self._session.origin.host
            self.answer(error.status, replies.failure(error.error, host, error.reason))

    def abandoned(self, code: int) -> None:
        """See :class:`.http2_upstream.Exchange`."""
        if code == guard.NO_ERROR and self.down.ended:  # it wants no more of the request
            self.up.done = True
            self.up.drop()
            self._settle()
        else:
            if code == guard.HTTP_1_1_REQUIRED:
                self._session.forget_protocol()
            self._break_off(code)

    def untouched(self) -> None:
        """See :class:`.http2_upstream.Exchange`: sent once more, where that takes nothing but what
        is still here; else the client is told that it may."""
        judged = self._judged
        whole = self._bare or (judged is not None and judged.body is not None)
        if self._answered or self._moved or not whole:
            self._break_off(guard.REFUSED_STREAM)
            return
        self._moved = True
        self._upstream = None
        if self._bare:
            self.up = Outlet(ignore)
            self.up.finish()
        self._task = self._session.gate.spawn(self._run())

    def _sent_down(self, size: int) -> None:
        if self._upstream is not None:
            self.touch()
            self._upstream.acknowledge(size, self._number)
        self._settle()

    # -- the end

    def answer(self, status: int, body: dict[str, str]) -> None:
        """Answer the client in place of the server, in the way that its protocol shows."""
        if self._answered:
            self._break_off(guard.INTERNAL_ERROR)
            return
        client = self._session.client
        if self._request.grpc:
            send_grpc(client, self.stream, status, body)
        else:
            send_json(client, self.stream, status, body, head_only=self._request.method == "HEAD")
        if not self.up.ended and self.stream not in client.outlets:
            client.reset_stream(self.stream, guard.NO_ERROR)
        self._leave(guard.CANCEL)

    def _break_off(self, code: int) -> None:
        self._session.client.reset_stream(self.stream, code)
        self._leave(guard.CANCEL)

    def _settle(self) -> None:
        """Both bodies have ended: so has the exchange."""
        if self.down.done and self.up.done and self._upstream is not None:
            client = self._session.client
            if not self.up.ended:
                client.reset_stream(self.stream, guard.NO_ERROR)
            client.guard.answered()
            self._leave(None)

    def _leave(self, code: int | None) -> None:
        """Nothing of it stays.

        :param code: for the server, if it is to give it up.
        """
        self._session.forget(self)
        self._reader.release()
        self.up.drop()
        self.down.drop()
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.forget(self._number, code)
        if self._session.client.outlets.get(self.stream) is self.down:
            del self._session.client.outlets[self.stream]
