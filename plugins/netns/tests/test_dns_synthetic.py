"""Addresses that stand for names: stable, bounded, and never soon another name's."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nemoclaw_plugin_netns.dns.synthetic import (
    IPV4,
    IPV6,
    AddressesExhausted,
    SyntheticAddresses,
    ipv4,
    ipv6,
    is_synthetic,
)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def text4(number: int) -> str:
    return str(ipaddress.IPv4Address(ipv4(number)))


def text6(number: int) -> str:
    return str(ipaddress.IPv6Address(ipv6(number)))


def test_a_name_keeps_its_address_and_leads_back() -> None:
    table = SyntheticAddresses()
    first, second = table.assign("a.example.org"), table.assign("b.example.org")
    assert (text4(first), text4(second)) == ("198.18.0.1", "198.18.0.2")
    assert text6(first) == "fd00:6e63:6c61:77::c612:1"
    assert table.assign("a.example.org") == first
    for address in (text4(first), text6(first), "::ffff:198.18.0.1"):
        assert table.lookup(address) == "a.example.org"
        assert is_synthetic(address)


@pytest.mark.parametrize(
    "address",
    [
        "198.18.0.0",
        "198.19.255.255",
        "198.20.0.1",
        "198.18.0.3",
        "127.0.0.1",
        "::1",
        "::c612:1",
        "fd00:6e63:6c61:77::1",
        "fd00:6e63:6c61:77:1::c612:1",
        "fd00:6e63:6c61:78::c612:1",
        "::ffff:127.0.0.1",
        "64:ff9b::c612:1",
        "no address",
        "",
    ],
)
def test_an_address_that_stands_for_nothing_leads_nowhere(address: str) -> None:
    table = SyntheticAddresses()
    table.assign("a.example.org")
    table.assign("b.example.org")
    assert table.lookup(address) is None


def test_ranges_are_known_also_where_nothing_was_assigned() -> None:
    assert is_synthetic("198.19.1.1")
    assert is_synthetic("fd00:6e63:6c61:77::1")
    assert not is_synthetic("198.20.0.0")
    assert not is_synthetic("fd00::1")
    assert not is_synthetic("x")


def test_a_full_table_lets_the_oldest_name_go_but_none_that_is_fresh(clock: Clock) -> None:
    table = SyntheticAddresses(capacity=4, floor=600, clock=clock)
    numbers = [table.assign(f"{label}.example{label}.org") for label in "abcd"]
    clock.now += 599
    with pytest.raises(AddressesExhausted):
        table.assign("e.examplee.org")
    assert [table.lookup(text4(number)) for number in numbers[1:]] == [
        "b.exampleb.org",
        "c.examplec.org",
        "d.exampled.org",
    ]
    clock.now += 1  # `a` alone was not used for 600 seconds
    fifth = table.assign("e.examplee.org")
    assert fifth not in numbers
    assert table.lookup(text4(numbers[0])) is None
    assert len(table) == 4


def test_dialling_keeps_a_name_in_use(clock: Clock) -> None:
    table = SyntheticAddresses(capacity=2, floor=600, clock=clock)
    first, second = table.assign("a.a"), table.assign("b.b")
    clock.now += 500
    assert table.lookup(text6(first)) == "a.a"
    clock.now += 500
    table.assign("c.c")
    assert table.lookup(text4(first)) == "a.a"
    assert table.lookup(text4(second)) is None


def test_one_domain_cannot_use_up_what_others_need(clock: Clock) -> None:
    table = SyntheticAddresses(capacity=1024, clock=clock)
    for index in range(768):
        table.assign(f"x{index}.y{index}.wild.example")
    for index in range(768, 5000):
        with pytest.raises(AddressesExhausted):
            table.assign(f"x{index}.y{index}.wild.example")
    assert len(table) == 768
    stolen = [table.assign(f"host{index}.example.org") for index in range(16)]
    assert len(set(stolen)) == 16
    assert table.lookup(text4(1)) == "x0.y0.wild.example"
    clock.now += 600
    clock.now += 1
    for index in range(5000, 5100):  # it makes room by itself, and for itself
        table.assign(f"x{index}.wild.example")
    assert len(table) == 784
    for index, number in enumerate(stolen):
        assert table.lookup(text4(number)) == f"host{index}.example.org"


def test_an_address_comes_round_only_after_all_the_others(clock: Clock) -> None:
    table = SyntheticAddresses(capacity=64, floor=1, clock=clock)
    last: dict[int, int] = {}
    for turn in range(131_070 * 2 + 5):
        clock.now += 2
        number = table.assign(f"n{turn}.d{turn}")
        assert ipaddress.IPv4Address(ipv4(number)) in IPV4
        assert turn - last.get(number, -(10**9)) >= 131_000
        last[number] = turn
    assert len(table) == 64
    assert len(last) == 131_070
    assert 0 not in last
    assert 131_071 not in last


def test_a_live_name_is_stepped_over_when_the_circle_closes(clock: Clock) -> None:
    table = SyntheticAddresses(capacity=8, floor=1, clock=clock)
    kept = table.assign("kept.example.org")
    for turn in range(131_080):
        clock.now += 2
        assert table.assign(f"n{turn}.d{turn}") != kept
        assert table.lookup(text4(kept)) == "kept.example.org"


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 40), st.sampled_from(["a.org", "b.org", "c.org"]), st.integers(0, 9)
        ),
        max_size=200,
    )
)
def test_both_ways_agree_whatever_is_asked(steps: list[tuple[int, str, int]]) -> None:
    clock = Clock()
    table = SyntheticAddresses(capacity=16, floor=20, clock=clock)
    answered: dict[int, tuple[str, float]] = {}
    for label, domain, wait in steps:
        clock.now += wait
        name = f"n{label}.{domain}"
        try:
            number = table.assign(name)
        except AddressesExhausted:
            continue
        previous, used = answered.get(number, (name, 0.0))
        assert previous == name or clock.now - used >= 20
        answered[number] = (name, clock.now)
        assert len(table) <= 16
        assert table.lookup(text4(number)) == table.lookup(text6(number)) == name
        assert ipaddress.IPv6Address(ipv6(number)) in IPV6
