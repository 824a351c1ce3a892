"""A client's connection until it is clear what it carries: whom it is for, and whether it may.

Nothing is read that has to be handed on: first octets are looked at with MSG_PEEK and stay in the
kernel, so a relay, a TLS server or an HTTP session begins with an untouched socket.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from typing import TYPE_CHECKING, Literal

from nemoclaw_hookspecs.egress import EgressRequest, EgressVerdict
from nemoclaw_hookspecs.errors import EgressDenied

from . import replies, socks
from .channel import Channel, PlainChannel, TlsChannel
from .head import HeadError, find_end, read_request
from .hello import ClientHello
from .holding import attended, hung_up
from .http1 import Session
from .parting import hear_out, last_words
from .passing import HANDSHAKE, HTTPS, Passing, Refused, passes, read_named_hello
from .peeking import begins_with, peek
from .table import reset
from .target import MismatchError, Origin, read_authority

if TYPE_CHECKING:
    from nemoclaw_hookspecs import Caller, Egress

    from .gate import Gate

_USUAL = 2048
"""Octets of most first messages; looking at more costs an allocation of as much."""
HTTP2 = b"PRI "
"""How HTTP/2 begins in plaintext (RFC 9113 section 3.3)."""
_SO_ORIGINAL_DST = 80  # linux/netfilter_ipv4.h; IP6T_SO_ORIGINAL_DST is the same


class Opening:
    """One accepted socket. Ends when a relay or a session has taken over, or it is closed.

    :param kind: how the client says whom it wants: by the address it dialled, or as a proxy's.
    """

    def __init__(
        self, gate: Gate, client: socket.socket, kind: Literal["transparent", "proxy"]
    ) -> None:
        self.deadline = gate.table.now + gate.limits.first_bytes
        self._gate = gate
        self._loop = gate.loop
        self._client = client
        self._kind: Literal["transparent", "proxy", "connect", "socks"] = kind
        self._dialled: tuple[str, int] | None = None
        self._caller: Caller | None = None
        self._request: EgressRequest | None = None
        self._authorized = False
        self._established = kind == "transparent"
        self._dialling = False
        self._late = False
        self._cut = False
        self._handed = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Find out, in a task of its own."""
        self._gate.table.add(self)
        self._task = self._gate.spawn(self._run())

    # -- what the table asks

    def allowed(self, egress: Egress) -> bool:
        """See :class:`~.table.Entry`."""
        request = self._request
        return not self._authorized or request is None or egress.judge(request).action == "allow"

    def cut(self) -> None:
        """See :class:`~.table.Entry`."""
        self._cut = True
        if self._task is not None:
            self._task.cancel()

    def expire(self) -> None:
        """See :class:`~.table.Entry`."""
        self._late = self._dialling
        if self._task is not None:
            self._task.cancel()

    # -- the task

    async def _run(self) -> None:
        gate = self._gate
        try:
            if self._kind == "transparent":
                await self._transparent()
            else:
                await self._explicit()
        except HeadError as error:
            rule = "host-mismatch" if isinstance(error, MismatchError) else "malformed"
            self._tell(rule, error.reason)
            body = replies.malformed(error.reason)
            self._say(replies.reply(error.status, body, close=True))
        except Refused as refused:
            self._tell(refused.rule, refused.reason)
            self._refuse(403, replies.refusal(refused.rule, refused.reason), socks.NOT_ALLOWED)
        except (OSError, asyncio.CancelledError):
            # Gone, too slow, or cut: whoever is still there gets RST.
            if not self._handed:
                reset(self._client)
        finally:
            gate.table.remove(self)
            if not self._handed:
                self._client.close()

    async def _transparent(self) -> None:
        client = self._client
        host, port = original_destination(client)
        if (host, port) == client.getsockname()[:2]:
            raise Refused("proxy-loop", "a connection to the gate's own port")
        self._dialled = (host, port)
        await self._open(self._gate.addresses.lookup(host) or host, port)

    async def _explicit(self) -> None:
        client = self._client
        limit = self._gate.limits.header_bytes
        data = await peek(client, 0, _USUAL)
        if not data:
            return
        if data[0] in (4, 5):
            await self._socks()
            return
        while b"CONNECT ".startswith(data) and len(data) < 8:
            size = len(data)
            data = await peek(client, size, _USUAL)
            if len(data) <= size:
                return
        if not data.startswith(b"CONNECT "):
            if not data[:1].isalpha():
                raise HeadError("neither HTTP nor SOCKS")
            await self._session(None, None)
            return
        self._kind = "connect"
        end = find_end(data, limit)
        while not end:
            size = len(data)
            data = await peek(client, size, limit)
            if len(data) <= size:
                raise HeadError("the connection ended inside of a request head")
            end = find_end(data, limit)
        head = read_request(data[:end], self._gate.limits.header_count)
        if head.length:
            raise HeadError("CONNECT with a body")
        host, port = read_authority(head.target.decode("ascii"), 0)
        if head.host and read_authority(head.host, port) != (host, port):
            raise Refused("host-mismatch", "the Host field names another server than CONNECT")
        client.recv(end)
        await self._open(host, port)

    async def _socks(self) -> None:
        client = self._client
        server = socks.SocksServer()
        while server.state == "reading":
            # One octet at a time would be exact; but no client sends ahead of the answer, and one
            # that does is refused below.
            await peek(client, 0, 1)
            data = client.recv(1024)
            if not data:
                return
            answer = server.feed(data)
            if answer:
                client.send(answer)
        request = server.request
        if request is not None:
            self._request = self._to(request.host, request.port)
        if server.state == "refused" or request is None:
            self._tell("malformed", server.reason)
            self._close_politely()
            return
        self._kind = "socks"
        if server.rest:
            raise Refused("malformed", "octets sent before the proxy has answered")
        try:
            host, port = read_authority(
                f"[{request.host}]" if ":" in request.host else request.host, request.port
            )
        except HeadError as error:
            raise Refused("malformed", error.reason) from None
        await self._open(host, port)

    # -- once it is known whom the connection is for

    def _to(self, host: str, port: int) -> EgressRequest:
        return EgressRequest(
            sandbox=self._gate.sandbox,
            host=host,
            port=port,
            protocol="tls" if port == HTTPS else "tcp",
            caller=self._caller,
        )

    async def _open(self, host: str, port: int) -> None:
        gate = self._gate
        if gate.egress.wants_caller:
            self._caller = await self._identify()
        request = self._request = self._to(host, port)
        self.deadline = 0  # an operator may be asked: the core sets the time for that
        verdict = await attended(
            self._loop, lambda: hung_up(self._client), gate.egress.authorize(request)
        )
        if verdict.action == "allow" and verdict.generation != gate.egress.generation:
            verdict = gate.egress.judge(request)
        self._authorized = True
        if verdict.action != "allow":
            await self._turn_away(403, replies.denial(verdict), socks.NOT_ALLOWED)
            return
        self.deadline = gate.table.now + gate.limits.first_bytes
        name = verdict.host or host
        if verdict.inspect or verdict.tls == "terminate":
            self._establish()
            first = await peek(self._client, 0, 1)
            if not first:
                return
            if first[0] == HANDSHAKE:
                hello = await read_named_hello(self._client, name, gate.limits.hello_bytes)
                origin = Origin(name, port, True)
                if "h2" in hello.alpn:
                    await self._choose(origin, request, verdict, hello.alpn)
                else:
                    await self._session(origin, request)
                return
            if verdict.inspect:
                room = gate.http2_sessions < gate.limits.http2_sessions
                if room and await begins_with(self._client, HTTP2):
                    await self._serve2(self._plain(), Origin(name, port), request)
                else:
                    await self._session(Origin(name, port), request)
                return
        await self._pass(verdict, name, port)

    async def _identify(self) -> Caller | None:
        """Who has the connection. Asked where a rule depends on it: it means reading proc(5)."""
        identify = self._gate.identify
        if identify is None:
            return None
        client = self._client
        return await identify(client.getsockname(), client.getpeername(), self._dialled or ())

    async def _session(self, fixed: Origin | None, connection: EgressRequest | None) -> None:
        """Hand over to HTTP; with our own certificate where the client speaks TLS."""
        gate = self._gate
        if fixed is None or not fixed.tls:
            await self._serve(self._plain(), fixed, connection)
            return
        channel = await self._terminate(gate.authority.context(fixed.host))
        if channel is not None:
            await self._serve(channel, fixed, connection)

    def _plain(self) -> Channel:
        return PlainChannel(self._loop, self._client, self._gate.view)

    async def _terminate(self, context: ssl.SSLContext) -> Channel | None:
        """The client's end of TLS; ``None``: it does not like ours."""
        gate = self._gate
        channel = TlsChannel(self._loop)
        self.deadline = gate.table.now + gate.limits.first_bytes
        self._handed = True  # a transport closes its socket itself
        try:
            await self._loop.connect_accepted_socket(
                lambda: channel,
                self._client,
                ssl=context,
                ssl_handshake_timeout=float(gate.limits.first_bytes),
            )
        except ssl.SSLError as error:
            # Most often a client that does not trust the sandbox's authority: worth knowing.
            self._tell("tls-handshake", f"the client broke the handshake off: {error.reason}")
            return None
        return channel

    async def _choose(
        self,
        origin: Origin,
        connection: EgressRequest,
        verdict: EgressVerdict,
        offered: tuple[str, ...],
    ) -> None:
        """A client that speaks HTTP/2 over TLS: if its server does too, they both may."""
        from .alpn import H2, choose

        gate = self._gate
        self.deadline = 0  # connecting has a time of its own
        protocol, upstream = await choose(gate, verdict, origin, offered)
        if protocol != H2:
            await self._session(origin, connection)
            return
        channel = None
        try:
            channel = await self._terminate(gate.authority.context(origin.host, H2))
            if channel is not None and channel.protocol != H2:  # nor is it offered any more
                channel.reset()
                channel = None
        finally:
            if channel is None and upstream is not None:
                upstream.reset()
        if channel is not None:
            await self._serve2(channel, origin, connection, upstream)

    async def _serve2(
        self,
        channel: Channel,
        origin: Origin,
        connection: EgressRequest,
        upstream: Channel | None = None,
    ) -> None:
        from .http2 import Session as Session2

        self._handed = True
        self._gate.table.remove(self)
        session = Session2(
            self._gate, channel, origin, connection, self._caller, self._identify, upstream
        )
        await session.serve()

    async def _serve(
        self, channel: Channel, fixed: Origin | None, connection: EgressRequest | None
    ) -> None:
        self._handed = True
        self._gate.table.remove(self)
        session = Session(self._gate, channel, fixed, connection, self._caller, self._identify)
        await session.serve()

    async def _pass(self, verdict: EgressVerdict, name: str, port: int) -> None:
        """Hand over to a relay, which reads nothing; the hello is looked at on its way."""
        gate = self._gate
        passing = Passing(gate, self._client, name, port, self._tell)
        hello: ClientHello | None = None
        if self._kind == "transparent" and port == HTTPS:
            hello = await passing.hello()
        server = await self._dial(verdict)
        if server is None:
            return
        request = self._request
        assert request is not None
        if verdict.generation != gate.egress.generation and not passes(gate.egress, request):
            reset(server)
            raise Refused("reload", "the policy has changed")
        try:
            self._establish()
        except OSError:
            reset(server)
            raise
        self._handed = True
        gate.table.remove(self)
        passing.start(server, request, hello)

    async def _dial(self, verdict: EgressVerdict) -> socket.socket | None:
        gate = self._gate
        host = verdict.host
        self._dialling = True
        self.deadline = gate.table.now + gate.limits.dial
        try:
            return await gate.dial(verdict)
        except EgressDenied as error:
            body = replies.refusal("address", error.what)
            await self._turn_away(403, body, socks.NOT_ALLOWED)
        except asyncio.CancelledError:
            if self._cut or not self._late:
                raise
            body = replies.failure("upstream_timeout", host, "the server did not answer in time")
            await self._turn_away(504, body, socks.TTL_EXPIRED)
        except OSError as error:
            reason = getattr(error, "what", None) or error.strerror or "it cannot be reached"
            body = replies.failure("upstream_unreachable", host, str(reason))
            await self._turn_away(502, body, socks.HOST_UNREACHABLE)
        finally:
            self._dialling = False
        return None

    # -- small things on the socket

    def _establish(self) -> None:
        """Tell a proxy's client that it is connected."""
        if not self._established:
            self._established = True
            self._client.send(
                replies.ESTABLISHED if self._kind == "connect" else socks.reply(socks.SUCCEEDED)
            )

    async def _turn_away(self, status: int, body: dict[str, str], code: int) -> None:
        """The same for what the client has dialled: who speaks HTTP to somebody else hears it."""
        if self._kind == "transparent":
            self.deadline = 0  # this takes no time
            words = await last_words(self._client, status, body)
            if words:
                self._say(words)
                await hear_out(self._client)
                return
        self._refuse(status, body, code)

    def _refuse(self, status: int, body: dict[str, str], code: int) -> None:
        """Tell the client in its protocol. Who speaks none to us gets RST."""
        if self._established:
            reset(self._client)
        elif self._kind == "socks":
            self._say(socks.reply(code))
        else:
            self._say(replies.reply(status, body, close=True))

    def _say(self, data: bytes) -> None:
        try:
            self._client.send(data)
        except OSError:
            return
        self._close_politely()

    def _close_politely(self) -> None:
        try:
            self._client.shutdown(socket.SHUT_WR)
            # What was sent ahead would turn close(2) into RST, and take our words with it.
            for _ in range(16):
                if not self._client.recv(65536):
                    break
        except OSError:
            pass

    def _tell(self, rule: str, reason: str) -> None:
        request = self._request or self._to("", 0)
        self._gate.egress.denied(request, rule, reason)


def original_destination(client: socket.socket) -> tuple[str, int]:
    """What a redirected connection was dialled to (the kernel's connection tracking knows).

    :raises OSError: it was not redirected.
    """
    if client.family == socket.AF_INET6:
        raw = client.getsockopt(socket.IPPROTO_IPV6, _SO_ORIGINAL_DST, 28)
        return str(ipaddress.IPv6Address(raw[8:24])), int.from_bytes(raw[2:4], "big")
    raw = client.getsockopt(socket.SOL_IP, _SO_ORIGINAL_DST, 16)
    return socket.inet_ntoa(raw[4:8]), int.from_bytes(raw[2:4], "big")
