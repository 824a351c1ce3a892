"""Claims about the one glob dialect."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemoclaw_core import globs
from nemoclaw_core.globs import expand, is_pattern, matches

from .conftest import CALM

PATHS = [
    # pattern, covered, not covered
    ("/a/b", ["/a/b"], ["/a", "/a/b/c", "/a/B", "/a/b/"]),
    ("/a/*", ["/a/b", "/a/.b", "/a/b.c"], ["/a", "/a/", "/a/b/c"]),
    ("/a/*.py", ["/a/x.py", "/a/.py"], ["/a/x.pyc", "/a/b/x.py"]),
    ("/a/x*y*z", ["/a/xyz", "/a/x1y2z", "/a/xyyz"], ["/a/xz", "/a/xzy", "/a/xy/z"]),
    ("/a/ab*ba", ["/a/abba", "/a/abxba"], ["/a/aba"]),
    ("/a/**", ["/a/b", "/a/b/c", "/a/"], ["/a", "/b/c"]),
    ("/**", ["/", "/a", "/a/b"], []),
    ("/a/**/z", ["/a/z", "/a/b/z", "/a/b/c/z"], ["/a", "/a/zz", "/a/z/b"]),
    ("**/.env", [".env", "x/.env", "x/y/.env"], ["x/.env.local", "x/.env/y", "xenv"]),
    ("/**/a/**/b", ["/a/b", "/x/a/y/b", "/a/a/b/b"], ["/a", "/b/a"]),
    ("/a/[bc]?", ["/a/[bc]?"], ["/a/b", "/a/bx"]),
    ("/a/***", None, None),
    ("/a/b**", None, None),
]

HOSTS = [
    ("api.example.com", ["api.example.com"], ["example.com", "x.api.example.com"]),
    ("*.example.com", ["a.example.com"], ["example.com", "a.b.example.com", ".example.com"]),
    ("**.example.com", ["a.example.com", "a.b.example.com"], ["example.com", ".example.com"]),
    ("api-*.example.com", ["api-1.example.com"], ["api.example.com", "api-1.x.example.com"]),
    ("*.com", ["example.com"], ["a.example.com", "com"]),
    ("**", ["com", "a.b.c"], ["", ".a", "a..b"]),
    ("**.example.com", [], ["evilexample.com", "example.com.evil", "a.example.com."]),
]


@pytest.mark.parametrize(("pattern", "covered", "other"), PATHS)
def test_paths_follow_the_dialect(
    pattern: str, covered: list[str] | None, other: list[str] | None
) -> None:
    if covered is None or other is None:
        with pytest.raises(ValueError, match="whole segment"):
            matches(pattern, "/a/b")
        return
    assert [path for path in covered if not matches(pattern, path)] == []
    assert [path for path in other if matches(pattern, path)] == []


@pytest.mark.parametrize(("pattern", "covered", "other"), HOSTS)
def test_hosts_follow_the_same_dialect_read_from_the_right(
    pattern: str, covered: list[str], other: list[str]
) -> None:
    assert [host for host in covered if not matches(pattern, host, ".")] == []
    assert [host for host in other if matches(pattern, host, ".")] == []


def reference(pattern: str) -> re.Pattern[str]:
    """The dialect, said once more as a regular expression."""
    segments = pattern.split("/")
    text = ""
    for at, segment in enumerate(segments):
        last = at == len(segments) - 1
        if segment == "**":
            text += r"[^/]*(?:/[^/]*)*" if last else r"(?:[^/]*/)*"
            continue
        body = "".join(r"[^/]*" if each == "*" else re.escape(each) for each in segment)
        text += (f"(?=[^/]){body}" if "*" in segment else body) + ("" if last else "/")
    return re.compile(text, re.DOTALL)


SEGMENT = st.text("ab.*", max_size=4).filter(lambda each: each == "**" or "**" not in each)
PATTERN = st.lists(st.one_of(st.just("**"), SEGMENT), min_size=1, max_size=5).map("/".join)
PATH = st.lists(st.text("ab.\n", max_size=3), min_size=1, max_size=5).map("/".join)


@CALM
@given(PATTERN, PATH)
def test_matching_agrees_with_a_regular_expression(pattern: str, path: str) -> None:
    assert matches(pattern, path) == bool(reference(pattern).fullmatch(path))


@CALM
@given(st.text("ab*/.", max_size=12), st.text("ab/.", max_size=12))
def test_a_pattern_matches_itself_when_it_has_no_wildcard(pattern: str, path: str) -> None:
    if not is_pattern(pattern):
        assert matches(pattern, path) == (pattern == path)


def test_matching_is_not_exponential() -> None:
    pattern = "/".join(["**", "a*a*a*a*b"] * 12)
    assert not matches(pattern, "/".join(["a" * 40] * 40))


def tree(root: Path) -> None:
    for name in ("a/b/c", "a/.hidden", "x", "deep/er/est"):
        (root / name).mkdir(parents=True)
    for name in (".env", "a/.env", "a/b/c/.env", "a/.hidden/.env", "x/file.py", "deep/er/n.py"):
        (root / name).write_text("")
    (root / "link").symlink_to("a")
    (root / "x/.env").symlink_to("/nowhere")


EXPANSIONS = ["**/.env", "*", "**", "*/*", "a/**/.env", "**/b/**", "*/b/*", "**/*.py", "*/er/est"]


@pytest.mark.parametrize("pattern", EXPANSIONS)
def test_expansion_finds_what_matches_and_enters_no_link(tmp_path: Path, pattern: str) -> None:
    tree(tmp_path)
    everything = [
        os.path.join(folder, name)
        for folder, folders, files in os.walk(tmp_path)
        for name in (*folders, *files)
    ]
    full = f"{tmp_path}/{pattern}"
    expected = sorted(path for path in everything if matches(full, path))
    assert expected
    assert expand(full) == expected
    assert not any("/link/" in path for path in expand(full))


def test_a_path_without_wildcard_expands_to_itself_if_it_is_there(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to("/nowhere")
    assert expand(f"{tmp_path}/dangling") == [f"{tmp_path}/dangling"]
    assert expand(f"{tmp_path}/missing") == []
    assert expand(f"{tmp_path}/missing/**") == []
    assert expand(f"{tmp_path}/dangling/*") == []


def test_a_relative_pattern_is_refused() -> None:
    with pytest.raises(ValueError, match="not an absolute pattern"):
        expand("**/.env")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every directory")
def test_a_directory_that_cannot_be_listed_is_reported(tmp_path: Path) -> None:
    tree(tmp_path)
    (tmp_path / "a").chmod(0)
    try:
        unlistable: list[str] = []
        found = expand(f"{tmp_path}/**/.env", unlistable)
        assert unlistable == [f"{tmp_path}/a"]
        assert found == [f"{tmp_path}/.env", f"{tmp_path}/x/.env"]
    finally:
        (tmp_path / "a").chmod(0o755)


def descend(root: Path, name: str, levels: int) -> None:
    """Make ``name/name/...`` below ``root`` step by step, as no single path could."""
    folder = os.open(root, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=folder)
        inner = os.open(name, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(os.open(".env", os.O_WRONLY | os.O_CREAT, dir_fd=folder))
    os.close(folder)


@pytest.mark.parametrize(("name", "levels"), [("n" * 250, 20), ("\u00e9" * 100, 30), ("d", 2500)])
def test_a_tree_deeper_than_any_path_is_reported_where_it_begins(
    tmp_path: Path, name: str, levels: int
) -> None:
    (tmp_path / "shallow").mkdir()
    (tmp_path / "shallow/.env").write_text("")
    descend(tmp_path, name, levels)
    try:
        unlistable: list[str] = []
        assert expand(f"{tmp_path}/**/.env", unlistable) == [f"{tmp_path}/shallow/.env"]
        (deep,) = unlistable
        assert globs.too_deep(deep)
        assert not globs.too_deep(os.path.dirname(deep))
        # The kernel takes it as a path, and a name more.
        assert os.path.isdir(deep)
        assert len(os.fsencode(deep)) + 256 < 4096
    finally:
        subprocess.run(["rm", "-rf", str(tmp_path / name)], check=True)


def test_a_walk_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(30):
        (tmp_path / f"d{number}").mkdir()
        (tmp_path / f"d{number}" / "x").write_text("")
    monkeypatch.setattr(globs, "MOST", 30)
    assert len(expand(f"{tmp_path}/**/x")) == 30
    monkeypatch.setattr(globs, "MOST", 29)
    for pattern in ("**/.env", "*/x", "*"):
        with pytest.raises(OSError, match="more than 29 places"):
            expand(f"{tmp_path}/{pattern}")
