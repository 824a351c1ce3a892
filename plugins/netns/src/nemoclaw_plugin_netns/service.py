"""The network service of one sandbox: DNS and proxy on the sockets that were born inside it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

    from nemoclaw_hookspecs import Caller, Egress

    from .dns.server import DnsServer
    from .identity.identifier import Identifier
    from .proxy.authority import Authority
    from .proxy.gate import Gate, Identify
    from .proxy.limits import Limits
    from .proxy.listener import Listener


class Service:
    """See :class:`nemoclaw_hookspecs.egress.NetworkService`."""

    def __init__(
        self,
        egress: Egress,
        sockets: Mapping[str, socket.socket],
        *,
        limits: Limits | None = None,
        extra_ca: str = "",
        authority: Authority | None = None,
        identify: Identify | None = None,
    ) -> None:
        self._egress = egress
        self._sockets = sockets
        self._limits = limits
        self._extra_ca = extra_ca
        self._authority = authority
        self._identify = identify
        self._identifier: Identifier | None = None
        self._gate: Gate | None = None
        self._dns: DnsServer | None = None
        self._listeners: list[Listener] = []

    @property
    def ca_certificate(self) -> bytes:
        """PEM of the authority that the agent has to trust. Makes it, if nobody has yet."""
        if self._gate is not None:
            return self._gate.authority.ca_certificate
        if self._authority is None:
            from .proxy.authority import Authority

            self._authority = Authority(self._egress.sandbox)
        return self._authority.ca_certificate

    @property
    def connections(self) -> int:
        """Open at the moment, DNS not counted."""
        return 0 if self._gate is None else len(self._gate.table)

    async def start(self) -> None:
        """Begin to accept. What waits in a backlog was sent before."""
        from .dns.responder import Responder
        from .dns.server import DnsServer
        from .dns.synthetic import SyntheticAddresses
        from .proxy.gate import Gate
        from .proxy.listener import Listener

        sockets = self._sockets
        extra_ca = self._egress.authorities
        if self._extra_ca:
            with open(self._extra_ca, encoding="ascii", errors="replace") as file:
                extra_ca += file.read()
        addresses = SyntheticAddresses()
        gate = self._gate = Gate(
            self._egress,
            addresses,
            asyncio.get_running_loop(),
            limits=self._limits,
            extra_ca=extra_ca,
            authority=self._authority,
            identify=self._identify or (self._look_up if "diag" in sockets else None),
        )
        responder = Responder(self._egress, addresses, with_ipv6="tcp6" in sockets)
        self._dns = DnsServer(
            responder,
            [sockets[name] for name in ("dns-udp", "dns-udp6") if name in sockets],
            [sockets[name] for name in ("dns-tcp", "dns-tcp6") if name in sockets],
        )
        await self._dns.start()
        for name in ("tcp", "tcp6"):
            if name in sockets:
                self._listeners.append(Listener(gate, sockets[name], "transparent"))
        if "proxy" in sockets:
            self._listeners.append(Listener(gate, sockets["proxy"], "proxy"))
        for listener in self._listeners:
            listener.start()

    async def _look_up(
        self, accepted: tuple[Any, ...], peer: tuple[Any, ...], dialled: tuple[Any, ...]
    ) -> Caller | None:
        if self._identifier is None:
            from .identity.identifier import Identifier

            sockets = self._sockets
            self._identifier = Identifier(
                sockets["diag"], self._egress.init, sockets.get("conntrack")
            )
        wanted = self._egress.wants_digest
        return await self._identifier.look_up(accepted, peer, dialled, digest=wanted)

    async def reload(self) -> None:
        """A new policy is in force: cut every open connection that it denies; leave the others."""
        if self._gate is not None:
            self._gate.table.recheck(self._egress)

    async def close(self) -> None:
        """The sandbox is gone: let go of everything."""
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        if self._dns is not None:
            await self._dns.close()
            self._dns = None
        if self._gate is not None:
            await self._gate.close()
            self._gate = None
        if self._identifier is not None:
            self._identifier.close()
            self._identifier = None


def open_service(
    egress: Egress,
    sockets: Mapping[str, socket.socket],
    *,
    limits: Limits | None = None,
    extra_ca: str = "",
    authority: Authority | None = None,
    identify: Identify | None = None,
) -> Service:
    """The network service of one sandbox. Nothing heavy is imported before it starts.

    :param sockets: by the names of :mod:`.ports`; what is missing is not served.
    :param limits: what clients may take; the default is :class:`.proxy.limits.Limits`.
    :param extra_ca: PEM file of authorities that servers may be signed by, besides the system's.
        One that cannot be read stops the start.
    :param authority: the sandbox's own, if its certificate was put into the sandbox already.
    :param identify: who owns a connection, see :class:`.proxy.gate.Gate`; by default that is found
        out with the ``diag`` socket, if there is one.
    """
    return Service(
        egress,
        sockets,
        limits=limits,
        extra_ca=extra_ca,
        authority=authority,
        identify=identify,
    )


def make_authority() -> Authority:
    """The certificate authority of a sandbox that is about to be built; takes 0.1 s."""
    from .proxy.authority import Authority

    return Authority("own")
