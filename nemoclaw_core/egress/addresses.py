"""Which addresses are not the public internet, and what a rule has to say to reach them.

A name can be made to lead anywhere: into the host's own network, to the cloud's metadata service
that hands out keys. So every address that a name leads to is looked up in this table before it is
dialled. Sources:

- IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890, RFC 8190):
  https://www.iana.org/assignments/iana-ipv4-special-registry/ and iana-ipv6-special-registry/
- IANA IPv6 address space: global unicast is 2000::/3 (RFC 4291); everything else is reserved or
  listed here.
- what the clouds document about their metadata services, named in the table.
"""

from __future__ import annotations

from functools import lru_cache

from .hosts import Host, NotAHost, canonical

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    Grant = Literal["range", "address", "never"]

_IPV4: tuple[tuple[str, str, Grant], ...] = (
    ("0.0.0.0/8", "unspecified", "never"),  # RFC 791 3.2; Linux dials itself at 0.0.0.0
    ("10.0.0.0/8", "private", "range"),  # RFC 1918
    ("100.64.0.0/10", "carrier-grade NAT", "range"),  # RFC 6598
    ("127.0.0.0/8", "loopback", "address"),  # RFC 1122 3.2.1.3
    ("169.254.0.0/16", "link-local", "address"),  # RFC 3927
    ("172.16.0.0/12", "private", "range"),  # RFC 1918
    ("192.0.0.0/24", "protocol assignment", "address"),  # RFC 6890 2.1
    ("192.0.2.0/24", "documentation", "address"),  # RFC 5737
    ("192.31.196.0/24", "AS112", "address"),  # RFC 7535
    ("192.52.193.0/24", "multicast tunneling", "address"),  # RFC 7450
    ("192.88.99.0/24", "6to4", "never"),  # RFC 7526
    ("192.168.0.0/16", "private", "range"),  # RFC 1918
    ("192.175.48.0/24", "AS112", "address"),  # RFC 7534
    ("198.18.0.0/15", "benchmarking", "address"),  # RFC 2544; our own DNS answers from it
    ("198.51.100.0/24", "documentation", "address"),  # RFC 5737
    ("203.0.113.0/24", "documentation", "address"),  # RFC 5737
    ("224.0.0.0/4", "multicast", "never"),  # RFC 5771
    ("240.0.0.0/4", "reserved", "never"),  # RFC 1112 4
    ("255.255.255.255/32", "broadcast", "never"),  # RFC 919 7
)

_IPV6: tuple[tuple[str, str, Grant], ...] = (
    ("::/0", "reserved", "never"),  # RFC 4291: what is outside of 2000::/3 and not listed
    ("2000::/3", "", "range"),  # RFC 4291: global unicast
    ("::/96", "IPv4-compatible", "never"),  # RFC 4291 2.5.5.1, deprecated
    ("::/128", "unspecified", "never"),  # RFC 4291 2.5.2
    ("::1/128", "loopback", "address"),  # RFC 4291 2.5.3
    ("::ffff:0:0:0/96", "IPv4-translated", "never"),  # RFC 2765 2.1, RFC 7915
    ("64:ff9b:1::/48", "local NAT64", "range"),  # RFC 8215
    ("100::/64", "discard", "never"),  # RFC 6666
    ("100:0:0:1::/64", "dummy", "never"),  # RFC 9780
    ("2001::/23", "protocol assignment", "address"),  # RFC 2928
    ("2001::/32", "Teredo", "never"),  # RFC 4380
    ("2001:2::/48", "benchmarking", "address"),  # RFC 5180
    ("2001:10::/28", "ORCHID", "never"),  # RFC 4843
    ("2001:20::/28", "ORCHID", "never"),  # RFC 7343
    ("2001:30::/28", "remote ID", "never"),  # RFC 9374
    ("2001:db8::/32", "documentation", "address"),  # RFC 3849
    ("2002::/16", "6to4", "never"),  # RFC 3056, RFC 7526
    ("2620:4f:8000::/48", "AS112", "address"),  # RFC 7534
    ("3fff::/20", "documentation", "address"),  # RFC 9637
    ("5f00::/16", "segment routing", "never"),  # RFC 9602
    ("fc00::/7", "unique local", "range"),  # RFC 4193
    ("fe80::/10", "link-local", "address"),  # RFC 4291 2.5.6
    ("fec0::/10", "site-local", "range"),  # RFC 3879, deprecated
    ("ff00::/8", "multicast", "never"),  # RFC 4291 2.7
)

_METADATA = (
    "169.254.169.254",  # AWS, Azure, Google, Oracle, DigitalOcean, OpenStack, Hetzner, IBM ...
    "169.254.169.253",  # AWS: the resolver
    "169.254.169.123",  # AWS: time
    "169.254.170.2",  # AWS: credentials of ECS tasks
    "169.254.170.23",  # AWS: credentials of EKS pods
    "169.254.0.23",  # Tencent
    "169.254.42.42",  # Scaleway
    "100.100.100.200",  # Alibaba
    "168.63.129.16",  # Azure: the host's agent; looks public
    "192.0.0.192",  # Oracle, older
    "fd00:ec2::254",  # AWS
    "fd00:ec2::253",  # AWS: the resolver
    "fd00:ec2::123",  # AWS: time
    "fd00:ec2::23",  # AWS: credentials of EKS pods
    "fd20:ce::254",  # Google
    "fd00:c1::a9fe:a9fe",  # Oracle
    "fd00:42::42",  # Scaleway
    "fe80::a9fe:a9fe",  # OpenStack
)

METADATA_NAMES = frozenset(
    {
        "metadata",
        "metadata.google.internal",
        "metadata.goog",
        "instance-data",
        "instance-data.ec2.internal",
        "metadata.azure.internal",
        "metadata.tencentyun.com",
        "metadata.platformequinix.com",
        "metadata.packet.net",
        "api.metadata.cloud.ibm.com",
    }
)
"""Names of metadata services. A pattern never covers them; a rule for the very name does."""

Network = tuple[int, int, int]
"""Bytes of an address (4 or 16), its prefix as a number shifted to the right, bits to shift."""


def _network(text: str) -> Network:
    address, _, prefix = text.partition("/")
    if prefix and not prefix.isdecimal():
        raise ValueError(f"not a range of addresses: {text!r}")
    packed = _packed(address)
    bits = 8 * len(packed)
    length = int(prefix) if prefix else bits
    if ":" in address and len(packed) == 4:
        length -= 96  # ::ffff:10.0.0.0/104 is 10.0.0.0/8
    if not 0 <= length <= bits:
        raise ValueError(f"not a range of addresses: {text!r}")
    return len(packed), int.from_bytes(packed, "big") >> (bits - length), bits - length


def _packed(text: str) -> bytes:
    host = canonical(text)
    if not host.packed:
        raise ValueError(f"not an address: {text!r}")
    return host.packed


def _narrowest_first(
    table: tuple[tuple[str, str, Grant], ...],
) -> tuple[tuple[int, int, str, Grant], ...]:
    found = [(*_network(text)[1:], category, grant) for text, category, grant in table]
    return tuple(sorted(found, key=lambda each: each[1]))


_TABLE = {4: _narrowest_first(_IPV4), 16: _narrowest_first(_IPV6)}
_METADATA_PACKED = frozenset(map(_packed, _METADATA))
_NAT64 = _packed("64:ff9b::")[:12]
_LOCAL_NAT64 = _packed("64:ff9b:1::")[:6]


def refused(address: str | Host, owned: tuple[str, ...] = ()) -> str:
    """Why an address must not be dialled: a category such as ``private``, or ``""``.

    :param owned: addresses and ranges (``10.0.0.0/8``) that the rules for this connection name. A
        range gives private, carrier-grade NAT, unique local and site-local addresses. Loopback,
        link-local, metadata and other special addresses are given by the exact address alone.
        Nothing gives multicast, broadcast, reserved and transition addresses.
    :raises ValueError: ``address`` is a name, or an item of ``owned`` is no range.
    """
    host = canonical(address) if isinstance(address, str) else address
    if not host.packed:
        raise ValueError(f"not an address: {host.text!r}")
    return _refused(host.packed, _networks(owned))


def exactly(address: Host, owned: tuple[str, ...]) -> bool:
    """Whether ``owned`` names the very address, and not just a range that it lies in.

    :raises ValueError: an item of ``owned`` is no range.
    """
    value = int.from_bytes(address.packed, "big")
    return (len(address.packed), value, 0) in _networks(owned)


def contains(ranges: tuple[str, ...], address: Host) -> bool:
    """Whether an address lies in one of these ranges, or is one of these addresses.

    :raises ValueError: an item of ``ranges`` is no range.
    """
    value, size = int.from_bytes(address.packed, "big"), len(address.packed)
    return any(
        size == length and value >> shift == prefix for length, prefix, shift in _networks(ranges)
    )


def check_ranges(owned: tuple[str, ...]) -> None:
    """:raises ValueError: an item is neither an address nor a range."""
    _networks(owned)


def _refused(packed: bytes, owned: tuple[Network, ...]) -> str:
    value, size = int.from_bytes(packed, "big"), len(packed)
    category, grant = _look_up(packed, value)
    if not category:
        return ""
    if (size, value, 0) in owned and grant != "never":
        return ""
    if grant == "range" and any(
        size == length and value >> shift == prefix for length, prefix, shift in owned
    ):
        # Local NAT64 leads to an IPv4 address besides, which must be one that may be dialled.
        return _local_nat64(packed, owned) if category == "local NAT64" else ""
    return category


def _look_up(packed: bytes, value: int) -> tuple[str, Grant]:
    if packed in _METADATA_PACKED:
        return "metadata", "address"
    if packed.startswith(_NAT64):
        # RFC 6052 section 3.1: this prefix must not stand for what is not public.
        category, grant = _look_up(packed[12:], value & 0xFFFFFFFF)
        return category, "address" if grant == "range" else grant
    for prefix, shift, category, grant in _TABLE[len(packed)]:
        if value >> shift == prefix:
            return category, grant
    return "", "range"


def _local_nat64(packed: bytes, owned: tuple[Network, ...]) -> str:
    """RFC 6052 section 2.2: where the IPv4 address is depends on a prefix length that is not known
    here. Whatever can be read as one must be one that may be dialled."""
    readings = [packed[12:], packed[6:8] + packed[9:11]]
    embedded = [each for each in readings if any(each)]
    if not embedded:
        return "local NAT64"
    return next(filter(None, (_refused(each, owned) for each in embedded)), "")


@lru_cache(maxsize=1024)
def _networks(owned: tuple[str, ...]) -> tuple[Network, ...]:
    return tuple(map(_network, owned))


def of_socket(name: str) -> Host:
    """The address in a socket's name or in an answer of getaddrinfo(3), without its zone.

    :raises NotAHost: it is none.
    """
    host = canonical(name.partition("%")[0])
    if not host.packed:
        raise NotAHost("it is a name where an address was expected")
    return host
