"""Connect, outside the sandbox, to what a verdict allows: and to nothing else.

A name is looked up once, each address is held against the table, and only an address that was
checked is connected to: a name that leads somewhere else a moment later (DNS rebinding) finds no
second look-up. Connections are attempted as RFC 8305 has it (Happy Eyeballs, version 2).

Where the user's settings name a proxy of the company's (:mod:`.upstream`), it resolves names. What
this host resolves too is judged as ever, and a name that it cannot resolve is left to the proxy.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from nemoclaw_hookspecs.errors import EgressDenied, UpstreamError

from . import remedies
from .addresses import contains, exactly, of_socket, refused
from .hosts import Host, NotAHost, canonical
from .lookups import Lookups
from .tunnels import tunnel
from .upstream import Upstream

if TYPE_CHECKING:
    from nemoclaw_hookspecs.egress import EgressVerdict

    from .lookups import Resolve
    from .upstream import Proxy

    LeftOut = Callable[["EgressVerdict", str, str], None]

_DELAY = 0.25
"""Seconds until the next address is tried too (RFC 8305 section 5)."""
_MOST = 16
"""Addresses of a name that are tried."""
_PATIENCE = 1.0
"""Seconds that this host may take to resolve a name which a proxy will resolve anyway."""
_IMPATIENCE = 0.05
"""The same while its resolver is known to be silent, which it stays for"""
_SILENCE = 30.0
_OWN = "one of this machine's own"
_NOWHERE = "192.0.2.1"
"""RFC 5737: no machine's own address."""


class AddressDenied(EgressDenied):
    """All addresses that a name leads to are ones that no rule lets it lead to.

    :param left_out: pairs of address and category, for instance ``("10.0.0.1", "private")``.
    """

    def __init__(self, verdict: EgressVerdict, left_out: tuple[tuple[str, str], ...]) -> None:
        categories = dict.fromkeys(category for _, category in left_out)
        found = tuple(address for address, _ in left_out if _can_be_owned(address))
        super().__init__(
            f"{verdict.host} leads to {' and '.join(categories)} addresses alone",
            where=verdict.origin or None,
            remedy=remedies.addresses(found) if found else None,
        )
        self.left_out = left_out
        self.category = next(iter(categories), "")


class Dialer:
    """Makes connections for verdicts.

    :param resolve: from a name to addresses; the host's own resolver when None.
    :param left_out: told of each address that a name leads to beside ones that may be dialled:
        verdict, address, category.
    :param deadline: seconds for all of a connection, look-up included.
    :param timeout: seconds for the look-up.
    :param upstream: how this host reaches servers; directly when None.
    """

    def __init__(
        self,
        resolve: Resolve | None = None,
        *,
        left_out: LeftOut | None = None,
        deadline: float = 15.0,
        timeout: float = 5.0,
        upstream: Upstream | None = None,
    ) -> None:
        self._upstream = upstream or Upstream()
        self._silent_until = 0.0
        self._lookups = Lookups(resolve, timeout=timeout)
        self._left_out = left_out
        self._deadline = deadline

    async def connect(self, verdict: EgressVerdict) -> socket.socket:
        """A connected, non-blocking TCP socket.

        :raises AddressDenied: no address is one that the verdict lets the name lead to.
        :raises EgressDenied: the verdict allows nothing.
        :raises UpstreamError: the name cannot be resolved, or no address answers in time, or the
            proxy refuses.
        """
        if verdict.action != "allow":
            raise EgressDenied(verdict.reason, where=verdict.origin or None, remedy=verdict.remedy)
        until = asyncio.get_running_loop().time() + self._deadline
        where = f"{verdict.host} port {verdict.port}"
        host = canonical(verdict.host)
        proxy = self._upstream.proxy_for(host)
        if proxy is None:
            return await _race(await self.addresses(verdict), verdict.port, where, until)
        direct = await self._near(verdict)
        if direct:
            return await _race(direct, verdict.port, where, until)
        return await self._through(proxy, host, verdict.port, where, until)

    async def addresses(self, verdict: EgressVerdict) -> tuple[Host, ...]:
        """The addresses that a verdict's host leads to and that may be dialled, best first.

        :raises AddressDenied, UpstreamError: as for :meth:`connect`.
        """
        host = canonical(verdict.host)
        found = (host.text,) if host.packed else await self._lookups.addresses(host.text)
        usable: list[Host] = []
        left_out: list[tuple[str, str]] = []
        for text in dict.fromkeys(found):
            try:
                address = of_socket(text)
            except NotAHost:
                left_out.append((text, "malformed"))
                continue
            category = refused(address, verdict.addresses)
            if not category and not exactly(address, verdict.addresses) and _is_own(address):
                category = _OWN
            if category:
                left_out.append((address.text, category))
            elif address not in usable:
                usable.append(address)
        left_out = list(dict.fromkeys(left_out))
        if not usable:
            raise AddressDenied(verdict, tuple(left_out))
        if self._left_out is not None:
            for text, category in left_out:
                self._left_out(verdict, text, category)
        return _interleaved(usable)[:_MOST]

    async def _near(self, verdict: EgressVerdict) -> tuple[Host, ...]:
        """Addresses of a host that are to be reached without the proxy, as far as this host knows.

        :raises AddressDenied: all that this host knows of it must not be dialled.
        """
        loop = asyncio.get_running_loop()
        wait = _IMPATIENCE if loop.time() < self._silent_until else _PATIENCE
        try:
            found = await asyncio.wait_for(self.addresses(verdict), wait)
        except asyncio.TimeoutError:
            self._silent_until = loop.time() + _SILENCE
            return ()
        except UpstreamError:
            return ()  # the proxy may know better
        return tuple(each for each in found if contains(self._upstream.direct_ranges, each))

    async def _through(
        self, proxy: Proxy, host: Host, port: int, where: str, until: float
    ) -> socket.socket:
        """A tunnel. What goes wrong is told without a word of the proxy, which is the host's."""
        loop = asyncio.get_running_loop()
        at = canonical(proxy.host)
        try:
            found = (at.text,) if at.packed else await self._lookups.addresses(at.text)
            addresses = tuple(dict.fromkeys(map(of_socket, found)))
            connection = await _race(_interleaved(list(addresses)), proxy.port, "it", until)
        except (UpstreamError, NotAHost) as error:
            what = f"cannot connect to {where}: the upstream proxy cannot be reached"
            remedy = "see whether proxy in settings.toml is right, and no_proxy"
            raise UpstreamError(what, remedy=remedy) from error
        try:
            await asyncio.wait_for(tunnel(connection, proxy, host, port), until - loop.time())
        except BaseException as error:
            connection.close()
            if isinstance(error, asyncio.TimeoutError):
                what = f"cannot connect to {where}: the upstream proxy did not answer in time"
                raise UpstreamError(what) from None
            if isinstance(error, OSError) and not isinstance(error, UpstreamError):
                what = f"cannot connect to {where}: the upstream proxy broke the connection off"
                raise UpstreamError(what) from error
            raise
        return connection

    def close(self) -> None:
        """Look nothing up any more."""
        self._lookups.close()


def _can_be_owned(address: str) -> bool:
    try:
        return not refused(address, (address,))
    except ValueError:  # what a resolver gave is no address
        return False


def _interleaved(addresses: list[Host]) -> tuple[Host, ...]:
    """The families in turn, the first one's first (RFC 8305 section 4)."""
    first = [each for each in addresses if len(each.packed) == len(addresses[0].packed)]
    second = [each for each in addresses if each not in first]
    mixed: list[Host] = []
    for at in range(max(len(first), len(second))):
        mixed += first[at : at + 1] + second[at : at + 1]
    return tuple(mixed)


def _is_own(address: Host) -> bool:
    """Whether an address is on an interface of this machine: what listens there trusts the host.

    The kernel gives its own addresses as the source to reach them from. Where it does so for any
    address (a local route for everything, as in a sandbox of nemoclaw's), that says nothing.
    """
    return _reached_from(address) == address and _reached_from(canonical(_NOWHERE)) != canonical(
        _NOWHERE
    )


def _reached_from(address: Host) -> Host | None:
    """The address of ours that a packet to ``address`` would come from. None is sent."""
    try:
        with socket.socket(_family(address), socket.SOCK_DGRAM) as probe:
            probe.connect((address.text, 9))
            return of_socket(probe.getsockname()[0])
    except OSError:
        return None  # no way there: the attempt to connect tells why


def _family(address: Host) -> socket.AddressFamily:
    return socket.AF_INET if len(address.packed) == 4 else socket.AF_INET6


async def _race(addresses: tuple[Host, ...], port: int, where: str, until: float) -> socket.socket:
    """The first of staggered attempts that succeeds; the others are cut."""
    loop = asyncio.get_running_loop()
    pending: set[asyncio.Task[socket.socket]] = set()
    waiting = list(addresses)
    failure: OSError | None = None
    winner: socket.socket | None = None
    try:
        while waiting or pending:
            left = until - loop.time()
            if left <= 0:
                break
            if waiting:
                task = loop.create_task(_attempt(waiting.pop(0), port))
                pending.add(task)
            done, pending = await asyncio.wait(
                pending,
                timeout=min(left, _DELAY) if waiting else left,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for each in done:
                error = each.exception()
                if error is None and winner is None:
                    winner = each.result()
                elif error is None:
                    each.result().close()
                elif isinstance(error, OSError):
                    failure = error
                else:
                    raise error
            if winner is not None:
                return winner
    except BaseException:
        if winner is not None:
            winner.close()
        raise
    finally:
        for each in pending:
            each.add_done_callback(_close)
            each.cancel()
    if failure is None or waiting or pending:
        raise UpstreamError(f"cannot connect to {where}: no answer in time")
    clause = os.strerror(failure.errno) if failure.errno else str(failure)
    raise UpstreamError(f"cannot connect to {where}: {clause.lower()}") from failure


async def _attempt(address: Host, port: int) -> socket.socket:
    connection = socket.socket(_family(address), socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(connection, (address.text, port))
    except BaseException:
        connection.close()
        raise
    return connection


def _close(task: asyncio.Task[socket.socket]) -> None:
    """Close what an attempt made that was cut too late."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()
