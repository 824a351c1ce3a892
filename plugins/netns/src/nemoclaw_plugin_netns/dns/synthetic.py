"""Addresses that stand for names inside a sandbox, both ways.

IPv4: 198.18.0.0/15, the benchmark range (RFC 2544), which nobody routes. IPv6: a /64 of our own
whose lower half is the IPv4 address, so ``fd00:6e63:6c61:77::c612:1`` is 198.18.0.1 once more.

A name keeps its address for as long as the table knows it. The table is bounded, because an agent
that a wildcard rule lets ask for any label could fill the memory of its supervisor otherwise. Three
things keep an address that a program still remembers from meaning another name:

* the oldest name goes first, and asking for a name or dialling its address makes it young again;
* no name goes that was used within ``floor`` seconds, ten times the TTL of our answers;
* addresses are dealt in a circle of 131,070, so that one comes round again only after all others.

Whoever fills the table fills it for the names beside those that he asked for: the last quarter is
kept for domains that have few names in it. A connection to an address that has been let go is a
connection to a literal address, which the policy denies.
"""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable

IPV4 = ipaddress.IPv4Network("198.18.0.0/15")
IPV6 = ipaddress.IPv6Network("fd00:6e63:6c61:77::/64")

_BASE = int(IPV4.network_address)
_SPAN = IPV4.num_addresses - 1  # not the last one, and not the first: numbers begin with 1
_PREFIX = IPV6.network_address.packed[:8] + bytes(4)


class AddressesExhausted(Exception):
    """Every address is in use by a name that was asked for a moment ago."""


class SyntheticAddresses:
    """The table of one sandbox. For one thread: the loop of its network service.

    :param capacity: names at once; one costs about 500 bytes.
    :param floor: seconds without use before a name may lose its address.
    :param clock: seconds that never go backwards.
    """

    def __init__(
        self,
        *,
        capacity: int = 16384,
        floor: float = 600.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not 0 < capacity < _SPAN:
            raise ValueError(f"capacity must be between 1 and {_SPAN - 1}")
        self._capacity = capacity
        self._floor = floor
        self._clock = clock
        self._few = max(1, capacity // 64)
        self._used: OrderedDict[str, float] = OrderedDict()  # name -> last use, oldest first
        self._domains: dict[str, OrderedDict[str, None]] = {}  # the same names by domain
        self._numbers: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._next = 1

    def __len__(self) -> int:
        return len(self._used)

    def assign(self, name: str) -> int:
        """The number of a canonical name; a new one if it has none.

        :raises AddressesExhausted: no address is free, and none may be taken from its name yet.
        """
        number = self._numbers.get(name)
        if number is not None:
            self._touch(name)
            return number
        self._make_room(_domain(name))
        while self._next in self._names:  # at most `capacity` times
            self._next = self._next % (_SPAN - 1) + 1
        number = self._next
        self._next = number % (_SPAN - 1) + 1
        self._numbers[name] = number
        self._names[number] = name
        self._used[name] = self._clock()
        self._domains.setdefault(_domain(name), OrderedDict())[name] = None
        return number

    def lookup(self, address: str) -> str | None:
        """The name that an address stands for: one that was dialled, or is asked for by PTR.

        :param address: as getpeername(2) and SO_ORIGINAL_DST give it; IPv4-mapped is understood.
        """
        number = _number(address)
        name = self._names.get(number) if number else None
        if name is not None:
            self._touch(name)
        return name

    def _touch(self, name: str) -> None:
        self._used[name] = self._clock()
        self._used.move_to_end(name)
        self._domains[_domain(name)].move_to_end(name)

    def _make_room(self, domain: str) -> None:
        """Let the oldest name go if there is no room for one more of this domain."""
        count = len(self._used)
        if count < self._capacity - self._capacity // 4:
            return
        siblings = self._domains.get(domain, ())
        if len(siblings) >= self._few:
            # This domain has had its share of what is scarce by now: it makes room by itself.
            oldest = next(iter(siblings))
        elif count >= self._capacity:
            oldest = next(iter(self._used))
        else:
            return
        if self._clock() - self._used[oldest] < self._floor:
            raise AddressesExhausted(domain)
        self._forget(oldest)

    def _forget(self, name: str) -> None:
        del self._names[self._numbers.pop(name)]
        del self._used[name]
        domain = _domain(name)
        del self._domains[domain][name]
        if not self._domains[domain]:
            del self._domains[domain]


def ipv4(number: int) -> bytes:
    """The four octets of a number's IPv4 address."""
    return (_BASE + number).to_bytes(4, "big")


def ipv6(number: int) -> bytes:
    """The sixteen octets of a number's IPv6 address."""
    return _PREFIX + ipv4(number)


def is_synthetic(address: str) -> bool:
    """Whether an address is from our ranges, be it in use or not."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        mapped = parsed.ipv4_mapped
        return parsed in IPV6 if mapped is None else mapped in IPV4
    return parsed in IPV4


def _number(address: str) -> int:
    """0 for an address that is none of ours."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return 0
    packed = parsed.packed
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is None and packed[:12] != _PREFIX:
            return 0
        packed = packed[12:]
    number = int.from_bytes(packed, "big") - _BASE
    return number if 0 < number < _SPAN else 0


def _domain(name: str) -> str:
    """The last two labels: whose names they are, near enough to share what is scarce."""
    return ".".join(name.rsplit(".", 2)[-2:])
