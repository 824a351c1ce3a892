"""Claims about the table of addresses, against the standard library's and by hand."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemoclaw_core.egress.addresses import refused

from .conftest import CALM

CATEGORIES = [
    ("0.0.0.0", "unspecified"),
    ("0.1.2.3", "unspecified"),
    ("10.1.2.3", "private"),
    ("100.64.0.1", "carrier-grade NAT"),
    ("100.127.255.255", "carrier-grade NAT"),
    ("127.0.0.1", "loopback"),
    ("127.255.255.255", "loopback"),
    ("169.254.1.1", "link-local"),
    ("172.16.0.1", "private"),
    ("172.31.255.255", "private"),
    ("192.0.0.1", "protocol assignment"),
    ("192.0.2.1", "documentation"),
    ("192.88.99.1", "6to4"),
    ("192.168.0.1", "private"),
    ("198.18.0.1", "benchmarking"),
    ("198.19.255.255", "benchmarking"),
    ("198.51.100.1", "documentation"),
    ("203.0.113.1", "documentation"),
    ("224.0.0.1", "multicast"),
    ("239.255.255.255", "multicast"),
    ("240.0.0.1", "reserved"),
    ("255.255.255.255", "broadcast"),
    ("::", "unspecified"),
    ("::1", "loopback"),
    ("::ffff:10.0.0.1", "private"),
    ("::10.0.0.1", "IPv4-compatible"),
    ("::ffff:0:127.0.0.1", "IPv4-translated"),
    ("64:ff9b::10.0.0.1", "private"),
    ("64:ff9b::169.254.169.254", "metadata"),
    ("64:ff9b:1::8.8.8.8", "local NAT64"),
    ("100::1", "discard"),
    ("2001::1", "Teredo"),
    ("2001:2::1", "benchmarking"),
    ("2001:10::1", "ORCHID"),
    ("2001:20::1", "ORCHID"),
    ("2001:db8::1", "documentation"),
    ("2002:0a00:0001::1", "6to4"),
    ("2002:0808:0808::1", "6to4"),
    ("3fff::1", "documentation"),
    ("4000::1", "reserved"),
    ("5f00::1", "segment routing"),
    ("fc00::1", "unique local"),
    ("fdff::1", "unique local"),
    ("fe80::1", "link-local"),
    ("fec0::1", "site-local"),
    ("ff02::1", "multicast"),
    ("169.254.169.254", "metadata"),
    ("100.100.100.200", "metadata"),
    ("168.63.129.16", "metadata"),
    ("192.0.0.192", "metadata"),
    ("fd00:ec2::254", "metadata"),
    ("fd20:ce::254", "metadata"),
    ("fe80::a9fe:a9fe", "metadata"),
]

PUBLIC = [
    "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0",
    "126.255.255.255", "128.0.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.0", "198.17.255.255",
    "198.20.0.0", "223.255.255.255", "168.63.129.15", "2606:4700::1111", "2a00::1", "2001:4860::1",
    "64:ff9b::8.8.8.8",
]  # fmt: skip

EVERYTHING = ("0.0.0.0/0", "::/0")


@pytest.mark.parametrize(("address", "category"), CATEGORIES)
def test_what_is_not_public_is_refused(address: str, category: str) -> None:
    assert refused(address) == category


@pytest.mark.parametrize("address", PUBLIC)
def test_what_is_public_is_not(address: str) -> None:
    assert refused(address) == ""


@pytest.mark.parametrize(
    ("address", "owned"),
    [
        ("10.1.2.3", "10.0.0.0/8"),
        ("10.1.2.3", "10.1.2.3"),
        ("10.1.2.3", "::ffff:10.0.0.0/104"),
        ("172.16.0.1", "172.16.0.0/12"),
        ("100.64.0.1", "100.64.0.0/10"),
        ("fd00::1", "fd00::/8"),
        ("fec0::1", "fec0::/10"),
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "127.0.0.1/32"),
        ("::1", "::1/128"),
        ("169.254.1.1", "169.254.1.1/32"),
        ("169.254.169.254", "169.254.169.254"),
        ("198.18.0.1", "198.18.0.1"),
        ("64:ff9b::10.0.0.1", "64:ff9b::10.0.0.1"),
    ],
)
def test_a_rule_can_own_it(address: str, owned: str) -> None:
    assert refused(address)
    assert refused(address, (owned,)) == ""


@pytest.mark.parametrize(
    ("address", "owned"),
    [
        ("10.1.2.3", "10.1.2.4"),
        ("10.1.2.3", "192.168.0.0/16"),
        ("10.1.2.3", "::/0"),
        ("127.0.0.1", "127.0.0.0/8"),
        ("127.0.0.1", "127.0.0.0/31"),
        ("127.0.0.1", "::1"),
        ("169.254.1.1", "169.254.0.0/16"),
        ("169.254.169.254", "169.254.0.0/16"),
        ("100.100.100.200", "100.64.0.0/10"),
        ("fd00:ec2::254", "fd00::/8"),
        ("192.0.0.192", "192.0.0.0/24"),
        ("168.63.129.16", "168.63.0.0/16"),
        ("64:ff9b::10.0.0.1", "10.0.0.0/8"),
        ("64:ff9b::10.0.0.1", "64:ff9b::/96"),
        ("64:ff9b:1::127.0.0.1", "64:ff9b:1::/48"),
        ("64:ff9b:1:a9fe:a9:fe00::", "64:ff9b:1::/48"),
        ("0.0.0.0", "0.0.0.0"),
        ("224.0.0.1", "224.0.0.1"),
        ("2002:808:808::1", "2002:808:808::1"),
    ],
)
def test_a_rule_does_not_own_it(address: str, owned: str) -> None:
    assert refused(address, (owned,)) != ""


def test_local_nat64_is_judged_by_what_it_leads_to() -> None:
    prefix = ("64:ff9b:1::/48",)
    assert refused("64:ff9b:1::8.8.8.8", prefix) == ""
    assert refused("64:ff9b:1::10.0.0.1", prefix) == "private"
    assert refused("64:ff9b:1::10.0.0.1", (*prefix, "10.0.0.0/8")) == ""
    assert refused("64:ff9b:1:a00:0:100::", prefix) == "private"


@CALM
@given(st.ip_addresses())
def test_it_refuses_whatever_the_standard_library_does_not_call_global(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if not address.is_global or address.is_multicast or address.is_reserved:
        # NAT64 is "reserved" there; here it is judged by the address in it.
        assert refused(str(address)) or str(address).startswith("64:ff9b::")


@CALM
@given(st.ip_addresses(), st.lists(st.sampled_from(["10.0.0.0/8", "::/0", "0.0.0.0/0", "::1"])))
def test_what_is_owned_never_makes_it_stricter(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, owned: list[str]
) -> None:
    if not refused(str(address)):
        assert refused(str(address), tuple(owned)) == ""


def test_names_and_nonsense_are_no_addresses() -> None:
    for address, owned in (("example.com", ()), ("1.1.1.1", ("x",)), ("1.1.1.1", ("1.0.0.0/33",))):
        with pytest.raises(ValueError, match=r"not a|holds|ends like"):
            refused(address, owned)
        # Ranges are read only when they matter, and then all of them.
    assert refused("1.1.1.1", EVERYTHING) == ""
