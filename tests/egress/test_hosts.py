"""Claims about the one spelling of hosts."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemoclaw_core.egress.hosts import Host, NotAHost, canonical

from .conftest import CALM

NAMES = [
    ("api.example.com", "api.example.com"),
    ("API.Example.COM", "api.example.com"),
    ("api.example.com.", "api.example.com"),
    ("localhost", "localhost"),
    ("_dmarc.example.com", "_dmarc.example.com"),
    ("r3---sn-x.example.com", "r3---sn-x.example.com"),
    ("1and1.com", "1and1.com"),
    ("x.0xg", "x.0xg"),
    ("münchen.example", "xn--mnchen-3ya.example"),
    ("MÜNCHEN.example", "xn--mnchen-3ya.example"),
    ("mu\u0308nchen.example", "xn--mnchen-3ya.example"),
    ("XN--MNCHEN-3YA.example", "xn--mnchen-3ya.example"),
    ("xn--fa-hia.de", "xn--fa-hia.de"),
    ("例え.テスト", "xn--r8jz45g.xn--zckzah"),
    ("a" * 63 + ".example", "a" * 63 + ".example"),
]

ADDRESSES = [
    ("127.0.0.1", "127.0.0.1"),
    ("127.0.0.1.", "127.0.0.1"),
    ("127.1", "127.0.0.1"),
    ("127.0.1", "127.0.0.1"),
    ("2130706433", "127.0.0.1"),
    ("0x7f000001", "127.0.0.1"),
    ("0X7F.0.0.0x1", "127.0.0.1"),
    ("017700000001", "127.0.0.1"),
    ("0177.0.0.01", "127.0.0.1"),
    ("127.0x0.0.1", "127.0.0.1"),
    ("0", "0.0.0.0"),
    ("1.65535", "1.0.255.255"),
    ("4294967295", "255.255.255.255"),
    ("::1", "::1"),
    ("[::1]", "::1"),
    ("0:0:0:0:0:0:0:1", "::1"),
    ("[2001:DB8::A]", "2001:db8::a"),
    ("2001:db8:0:0:0:0:0:a", "2001:db8::a"),
    ("::ffff:127.0.0.1", "127.0.0.1"),
    ("[::ffff:7f00:1]", "127.0.0.1"),
]

NEITHER = [
    "", ".", "..", "a..b", ".a", "a..", "a b", "a\tb", "a\nb", "a\0.example.com",
    "127.0.0.1\0.example.com", "127.0.0.1%00.example.com", "user@example.com", "a:b@example.com",
    "example.com:443", "http://example.com", "example.com/", "example.com#x", "example.com\\x",
    "-a.example", "a-.example", "a*.example", "*.example.com", "a" * 64 + ".example",
    ".".join(["a" * 60] * 5), "a" * 100_000, "1" * 100_000, "08", "09.1.1.1", "1.2.3.256",
    "1.2.3.4.5", "256.1", "1.16777216", "4294967296", "0x", "1.0x", "0x1g.0x1", "foo.1", "1_0.1",
    "+1.1", "1.-1", "fe80::1%eth0", "[fe80::1%25eth0]", "[::1", "::1]", "[::1]:443", "[127.0.0.1]",
    "1::2::3", "[v1.x]", "faß.de", "βόλος.com", "a\u200db.com", "a\u3002b", "１２７.0.0.1",
    "ex\u2100mple.com", "\u212aelvin.example", "xn--ü.example", "xn--.example", "xn--a.example",
    "xn--a-.example", "xn--\u212a.example", "a\u00ad.example", "\ud800.example", "💩.example",
    "a\u00b7b.example", "a\u202e.example",
]  # fmt: skip


@pytest.mark.parametrize(("text", "one"), NAMES)
def test_a_name_has_one_spelling(text: str, one: str) -> None:
    assert canonical(text) == Host(one)


@pytest.mark.parametrize(("text", "one"), ADDRESSES)
def test_an_address_has_one_spelling(text: str, one: str) -> None:
    host = canonical(text)
    assert (host.text, host.is_address) == (one, True)
    assert host == canonical(one)


@pytest.mark.parametrize("text", NEITHER, ids=lambda text: ascii(text[:24]))
def test_what_is_read_in_two_ways_is_refused(text: str) -> None:
    with pytest.raises(NotAHost):
        canonical(text)


NUMBER = "(0x[0-9a-f]{1,8}|[0-9]{1,11})"
LIKELY = st.one_of(
    st.text(max_size=40),
    st.text("abcxn-0189.:[]%@/*\u3002üß _", max_size=40),
    st.from_regex(r"[0-9a-fx]{1,6}(\.[0-9a-fx]{1,6}){0,4}\.?", fullmatch=True),
    st.from_regex(r"(xn--)?[a-z0-9-]{1,12}\.(xn--)?[a-z0-9-]{1,12}", fullmatch=True),
    st.ip_addresses().map(str),
)


@CALM
@given(LIKELY)
def test_no_text_crashes_it_and_its_answer_is_its_own_spelling(text: str) -> None:
    try:
        host = canonical(text)
    except NotAHost:
        return
    assert canonical(host.text) == host
    assert canonical(host.text.upper()) == host
    assert host.text.isascii()
    assert host.text == host.text.lower()


@CALM
@given(st.from_regex(rf"{NUMBER}(\.{NUMBER}){{0,4}}", fullmatch=True))
def test_numbers_are_read_as_the_c_library_reads_them(text: str) -> None:
    try:
        expected = socket.inet_aton(text)
    except OSError:
        with pytest.raises(NotAHost):
            canonical(text)
    else:
        assert canonical(text).packed == expected


def test_the_rules_import_nothing_that_is_slow() -> None:
    code = "import sys; import nemoclaw_core.egress.rules; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"asyncio", "ssl", "json", "socket", "ipaddress"} & set(done.stdout.split())
