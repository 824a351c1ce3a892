"""Values that travel through ``authorize_egress``, and what the core and a network service share.

The core decides where the agent may connect. A plugin's network service speaks the protocols: it
serves the sockets that were born in the sandbox's network namespace, and asks the core.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, Protocol

import attrs

if TYPE_CHECKING:
    import socket


@attrs.frozen(slots=True, kw_only=True)
class Caller:
    """The process inside the sandbox that owns a connection."""

    pid: int
    """In the supervisor's PID namespace."""
    executable: str
    sha256: str = ""
    ancestors: tuple[str, ...] = ()


@attrs.frozen(slots=True, kw_only=True)
class HttpRequest:
    """The part of an inspected request that is judged."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    body: bytes | None = attrs.field(default=None, repr=False)
    """The whole body without its framing, if a verdict has asked for it (``needs_body``)."""
    websocket: bool = False
    """It asks to become a WebSocket."""
    message: bytes | None = attrs.field(default=None, repr=False)
    """A whole text message (UTF-8) that the client sends on the WebSocket that this request has
    opened; the request is judged anew for each."""


@attrs.frozen(slots=True, kw_only=True)
class OutgoingRequest:
    """An allowed request as it is about to be sent: what credentials are put into."""

    method: str
    host: str
    port: int
    target: bytes = attrs.field(repr=False)
    """Path and query, as they stand in the request line."""
    fields: tuple[tuple[bytes, bytes], ...] = attrs.field(repr=False)
    """Header fields, without those that frame the message or name its host."""
    body: bytes | None = attrs.field(default=None, repr=False)
    """``None``: it is streamed, and nothing may depend on it."""
    secure: bool = False
    """Whether it is sent over TLS."""


@attrs.frozen(slots=True, kw_only=True)
class EgressRequest:
    """A connection, or a request inside one, that wants to leave the sandbox."""

    sandbox: str
    host: str
    port: int
    protocol: Literal["tcp", "tls", "http"]
    caller: Caller | None = None
    http: HttpRequest | None = None


@attrs.frozen(slots=True, kw_only=True)
class EgressDecision:
    """allow, deny, or hold for an operator, and the rule that says so."""

    action: Literal["allow", "deny", "hold"]
    rule: str
    reason: str = ""


@attrs.frozen(slots=True, kw_only=True)
class EgressVerdict:
    """The core's answer to a request, with what a network service must know to act on it."""

    action: Literal["allow", "deny", "hold"]
    rule: str
    """Name of the rule that decided, or a short reason code such as ``no-rule``."""
    reason: str = ""
    """For people: why. Holds nothing of the host's that the agent may not know."""
    origin: str = ""
    """``FILE:LINE KEY`` of the rule; not for the agent."""
    remedy: str = ""
    """What the policy would have to say to allow it."""
    host: str = ""
    """Canonical name or address."""
    port: int = 0
    tls: Literal["auto", "terminate", "passthrough"] = "auto"
    inspect: bool = False
    """Each request inside the connection must be authorized by itself."""
    addresses: tuple[str, ...] = ()
    """Ranges that the rule lets this name resolve to although they are not public."""
    generation: int = 0
    """Of the policy that was asked."""
    needs_body: int = 0
    """Only in a denial: the policy cannot say before it has seen the request's body, which may have
    this many octets. A service that cannot show it denies, as the verdict says."""
    watch: bool = False
    """Of an allowed request that opens a WebSocket: each message of the client must be authorized
    by itself; what is not text is refused."""
    credential: str = ""
    """Of an allowed request: the credential that must be added to it, see
    ``Egress.add_credential``."""
    path: str = ""
    """Of an allowed request: the canonical path, which was judged and has to be sent on in the
    place of the one that was asked for. The query is sent on as it is."""


class Egress(Protocol):
    """What the core offers to a network service. Every method may be called from any thread."""

    @property
    def sandbox(self) -> str:
        """The sandbox's name."""

    @property
    def init(self) -> int:
        """Process id of the sandbox's init, where the service runs."""

    @property
    def authorities(self) -> str:
        """PEM of certificate authorities that servers may be signed by, besides the system's; as
        the user's settings say. Mostly empty."""

    @property
    def wants_caller(self) -> bool:
        """Whether a rule in force is for certain executables, or an operator is asked who wants to
        know: requests should name theirs."""

    @property
    def wants_digest(self) -> bool:
        """Whether one of them is told by its digest."""

    @property
    def wants_bodies(self) -> bool:
        """Whether a rule in force looks into bodies: a verdict may ask for one."""

    @property
    def generation(self) -> int:
        """Of the policy in force; grows with each reload."""

    def changed(self, host: str) -> bool:
        """Whether the last reload may have changed what is said of a host. If not, what was allowed
        before it still is, in the same way."""

    def resolvable(self, name: str) -> bool:
        """Whether a rule lets the agent connect to a name, on whatever port."""

    def judge(self, request: EgressRequest) -> EgressVerdict:
        """The policy's own answer, with what an operator has said before. Nobody is asked, and no
        event is written."""

    async def authorize(self, request: EgressRequest) -> EgressVerdict:
        """The answer that counts: the policy's, then every plugin's, then one event. It may be held
        for an operator: cancel it when the client has gone. What is approved once is this very
        object: :meth:`judge` it, and no copy, when the policy has changed."""

    async def dial(self, verdict: EgressVerdict) -> socket.socket:
        """Connect to what a verdict allows: resolve outside, check each address, connect.

        :returns: a connected, non-blocking TCP socket.
        :raises EgressDenied: an address is not one that the rule owns. The event was written.
        :raises UpstreamError: it cannot be resolved or reached.
        """

    async def add_credential(
        self, verdict: EgressVerdict, request: OutgoingRequest
    ) -> OutgoingRequest:
        """The request with the credential of a verdict in it. What comes back is secret: it may be
        sent to the verdict's host and port, and nowhere else.

        :raises EgressDenied: there is none to be had, or the request puts it where it may not be.
            The event was written.
        """

    def denied(self, request: EgressRequest, rule: str, reason: str) -> None:
        """Tell that the service itself has refused something: malformed, or not what it claims."""


class NetworkService(Protocol):
    """Serves the sockets of one sandbox, in an event loop that the core runs."""

    async def start(self) -> None:
        """Begin to accept. What waits in a backlog was sent before."""

    async def reload(self) -> None:
        """A new policy is in force: cut every open connection that it denies; leave the others."""

    async def close(self) -> None:
        """The sandbox is gone: let go of everything."""
