"""Claims about single values: amounts, hosts, and what they are turned into."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemoclaw_core.policy.hosts import exact_host, host_pattern, network
from nemoclaw_core.policy.problems import Misfit, dotted, quoted
from nemoclaw_core.policy.quantities import duration, show_duration, show_size, size

from .conftest import CALM


@pytest.mark.parametrize(
    ("written", "amount"),
    [
        (0, 0),
        (12345, 12345),
        ("0", 0),
        ("7B", 7),
        ("512MiB", 512 << 20),
        ("4GiB", 4 << 30),
        ("4 GiB", 4 << 30),
        ("1TiB", 1 << 40),
    ],
)
def test_sizes_are_bytes(written: object, amount: int) -> None:
    assert size(written) == amount


@pytest.mark.parametrize(
    "written",
    [
        "",
        "4GB",
        "4G",
        "4gib",
        "GiB",
        "-1",
        "1.5GiB",
        " 4GiB",
        "4GiB\n",
        "٤GiB",
        "9" * 30,
        1 << 63,
        -1,
        True,
        1.0,
        None,
        ["4GiB"],
        "1e9",
        "0x10",
        "8388608TiB",
    ],
)
def test_what_is_not_a_size_is_refused(written: object) -> None:
    with pytest.raises(Misfit):
        size(written)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("0s", 0),
        ("30s", 30),
        ("5m", 300),
        ("1h", 3600),
        ("2d", 172800),
        ("250ms", 0.25),
        ("1.5h", 5400),
        ("3 s", 3),
    ],
)
def test_durations_are_seconds(written: str, seconds: float) -> None:
    assert duration(written) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "written",
    [
        "",
        "0",
        "s",
        "-1s",
        "1S",
        "1h30m",
        "1e3s",
        "infs",
        "nans",
        "٣s",
        " 1s",
        "1s\n",
        "99999d",
        "1." * 30 + "s",
        "9" * 50 + "s",
        30,
        1.5,
        True,
        None,
    ],
)
def test_what_is_not_a_duration_is_refused(written: object) -> None:
    with pytest.raises(Misfit):
        duration(written)


@CALM
@given(st.integers(0, (1 << 63) - 1))
def test_a_size_that_is_shown_can_be_read_again(amount: int) -> None:
    assert size(show_size(amount)) == amount


@CALM
@given(st.integers(0, 10**8))
def test_a_duration_that_is_shown_can_be_read_again(seconds: int) -> None:
    assert duration(show_duration(float(seconds))) == seconds


@pytest.mark.parametrize(
    ("written", "host"),
    [
        ("api.github.com", "api.github.com"),
        ("API.GitHub.com", "api.github.com"),
        ("*.example.com", "*.example.com"),
        ("**.example.com", "**.example.com"),
        ("api-*.example.com", "api-*.example.com"),
        ("localhost", "localhost"),
        ("_dmarc.example.com", "_dmarc.example.com"),
        ("10.0.0.5", "10.0.0.5"),
        ("::1", "::1"),
        ("[2001:DB8::0:1]", "2001:db8::1"),
        ("xn--mnchen-3ya.de", "xn--mnchen-3ya.de"),
        ("a" * 63 + ".com", "a" * 63 + ".com"),
    ],
)
def test_hosts_are_read_in_one_spelling(written: str, host: str) -> None:
    assert host_pattern(written) == host


@pytest.mark.parametrize(
    "written",
    [
        "",
        ".",
        "a..b",
        ".a",
        "a.",
        "a b",
        "a\0.com",
        "a\n",
        "münchen.de",
        "https://a.b",
        "a.b/c",
        "a.b:443",
        "[::1]:443",
        "[::1",
        "::1%eth0",
        "1.2.3",
        "127.1",
        "0x7f.1",
        "010.0.0.1",
        "256.1.1.1",
        "1.2.3.4.5",
        "0x7f000001",
        "2130706433",
        "a.**",
        "a.**.b",
        "x**.b",
        "-a.b",
        "a-.b",
        "a" * 64,
        "a." * 127 + "ab",
        "user@a.b",
        "a.b?",
        "a.b#c",
        "a\\b",
        "%61.com",
    ],
)
def test_what_another_parser_could_read_otherwise_is_no_host(written: str) -> None:
    with pytest.raises(Misfit):
        host_pattern(written)


@CALM
@given(st.text(max_size=40))
def test_any_text_is_a_host_or_a_misfit(text: str) -> None:
    try:
        host = host_pattern(text)
    except Misfit:
        return
    assert host_pattern(host) == host
    assert host == host.lower()
    assert not set(host) & set(" /\\@?#%\0\n[]")


def test_an_exact_host_is_no_pattern() -> None:
    assert exact_host("API.openai.com") == "api.openai.com"
    with pytest.raises(Misfit):
        exact_host("*.openai.com")


def test_networks_are_ranges_without_host_bits() -> None:
    assert network("10.0.0.0/8") == "10.0.0.0/8"
    assert network("192.168.1.7") == "192.168.1.7/32"
    assert network("FD00::/8") == "fd00::/8"
    for wrong in ("10.0.0.1/8", "10/8", "a", "", "1.2.3.4/33", "1.2.3.4 "):
        with pytest.raises(Misfit):
            network(wrong)


def test_keys_and_values_are_shown_on_one_line() -> None:
    assert dotted(("policy", "a b", "x.y", "read", 2)) == 'policy."a b"."x.y".read[2]'
    assert quoted('a"b\\c\n\x1b[31m') == '"a\\"b\\\\c\\n\\x1b[31m"'
    assert len(quoted("x" * 500)) < 100
