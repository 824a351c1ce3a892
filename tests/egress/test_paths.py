"""Claims about the one spelling of request paths, and about what is refused as ambiguous."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemoclaw_core.egress.paths import SLASH, NotAPath, canonical, pattern

from .conftest import CALM

SPELLINGS = [
    ("/a/b", "/a/b"),
    ("", "/"),
    ("/", "/"),
    ("//", "/"),
    ("/a//b///c", "/a/b/c"),
    ("/a/./b/", "/a/b/"),
    ("/a/b/..", "/a/"),
    ("/a/.", "/a/"),
    ("/a/..", "/"),
    ("/a/../b", "/b"),
    ("/a/%2e%2E/b", "/b"),
    ("/%61%7e%2D", "/a~-"),
    ("/.well-known/..x/x..", "/.well-known/..x/x.."),
    ("/a%c3%a9", "/a%C3%A9"),
    ("/a%21b!c", "/a%21b!c"),
    ('/a"{b}|', "/a%22%7Bb%7D%7C"),
    ("/@scope%2fname", "/@scope%2Fname"),
    ("/a;v=1/b", "/a;v=1/b"),
    ("/a%2520b", "/a%2520b"),
    ("/100%25", "/100%25"),
]

REFUSED = [
    "a", "*", "http://x/", "/..", "/../a", "/a/../../b", "/%2e%2e/a", "/a/.%2e/../..", "/a#b",
    "/a\\b", "/a%5cb", "/a%5Cb", "/a%00", "/a%0d%0aX:y", "/a%7f", "/a\0", "/a b", "/a\tb", "/a\r\n",
    "/é", "/a%", "/a%2", "/a%zz", "/%u0041", "/a%c0%afb", "/%ff", "/%e0%80%af", "/a%252fb",
    "/a%25%32%66b", "/%252e%252e/", "/a%2f..%2fb", "/a%2f%2e%2e/b", "/..;/b", "/a/..;x=1/b",
    "/a/.;x/b", "/a/..%3b/b", "/a%2f..;x%2fb", "/a//../b", "/" + "a" * 9000, "/a?b#c", "/a?b c",
    "/a?é", "/a?\r\n",
]  # fmt: skip


@pytest.mark.parametrize(("path", "one"), SPELLINGS)
def test_a_path_has_one_spelling(path: str, one: str) -> None:
    assert canonical(path).path == one
    assert canonical(one).path == one


@pytest.mark.parametrize("path", REFUSED, ids=lambda path: ascii(path[:24]))
def test_what_is_read_in_two_ways_is_refused(path: str) -> None:
    with pytest.raises(NotAPath):
        canonical(path)


@pytest.mark.parametrize(
    ("path", "readings"),
    [
        ("/a/b", {"/a/b"}),
        ("/a%21%40", {"/a!@"}),
        ("/caf%C3%A9/x%20y", {"/café/x y"}),
        ("/@s%2Fn", {f"/@s{SLASH}n", "/@s/n"}),
        ("/a;x=1/b;y", {"/a;x=1/b;y", "/a/b"}),
        ("/a%3bx/b", {"/a;x/b", "/a/b"}),
        ("/a;x%2Fb", {f"/a;x{SLASH}b", "/a", "/a;x/b", "/a/b"}),
        ("/;x/a", {"/;x/a", "/a"}),
    ],
)
def test_every_reading_of_a_server_is_listed(path: str, readings: set[str]) -> None:
    assert set(canonical(path).readings) == readings


def test_the_query_is_parted_and_kept_as_it_is() -> None:
    target = canonical("/a?x=%2F..&y={1}\\?")
    assert (target.path, target.query) == ("/a", "x=%2F..&y={1}\\?")
    assert canonical("/a", "x=1").query == "x=1"
    with pytest.raises(NotAPath):
        canonical("/a?x", "y")


@pytest.mark.parametrize(
    ("text", "one", "wide"),
    [
        ("/a/**", "/a/**", "/a/**"),
        ("/café/a%20b", "/café/a b", "/café/a b"),
        ("/caf%c3%a9", "/café", "/café"),
        ("/@s%2fn", f"/@s{SLASH}n", f"/@s{SLASH}n"),
        ("/a%2a", "/a%2A", "/a*"),
        ("//a//b", "/a/b", "/a/b"),
        ("/100%", "/100%", "/100%"),
    ],
)
def test_patterns_are_written_as_readings_are(text: str, one: str, wide: str) -> None:
    assert (pattern(text), pattern(text, wide=True)) == (one, wide)


ANY = st.one_of(
    st.text(max_size=30),
    st.lists(
        st.sampled_from(
            ["/", "//", "a", "B", ".", "..", "%2e", "%2F", "%5c", "%25", "%c3%a9", ";", "?", "!"]
        ),
        max_size=10,
    ).map(lambda parts: "/" + "".join(parts)),
)


@CALM
@given(ANY)
def test_no_text_crashes_it_and_its_answer_is_its_own_spelling(path: str) -> None:
    try:
        target = canonical(path)
    except NotAPath:
        return
    assert canonical(target.path, target.query) == target
    assert "//" not in target.path
    for reading in target.readings:
        assert reading.startswith("/")
        assert not {".", ".."} & set(reading.split("/"))
