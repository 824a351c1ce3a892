"""The promise: a policy that extends another and only denies, or makes islands that can only be
read, never permits more."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nemoclaw_hookspecs import Policy

from nemoclaw_core.policy import Context, permits
from nemoclaw_core.policy.diff import compare

from .conftest import CALM, resolved

SEGMENTS = ("a", "b", ".env")
DEPTH = 3


@pytest.fixture(scope="module")
def context() -> Iterator[Context]:
    """A work directory in which every path of up to three segments exists."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        for name in ("work", "home", "config"):
            (root / name).mkdir()
        for first in SEGMENTS:
            for second in SEGMENTS:
                for third in SEGMENTS:
                    (root / "work" / first / second / third).mkdir(parents=True)
        (root / "outside").symlink_to("work/a")
        yield Context(
            workdir=str(root / "work"),
            home=str(root / "home"),
            uid=os.geteuid(),
            gid=os.getegid(),
            cwd=str(root),
            config_dir=str(root / "config"),
        )


PATH = st.lists(st.sampled_from(SEGMENTS), max_size=DEPTH).map(
    lambda each: "/".join(["{workdir}", *each])
)
WILD = st.lists(st.sampled_from([*SEGMENTS, "*", "**", ".*", "missing"]), min_size=1, max_size=3)
PATTERN = st.one_of(PATH, WILD.map("/".join))
GRANTS = st.lists(PATH, max_size=4)


def possible(deny: list[str], write: list[str]) -> list[str]:
    """Denials that the same table does not grant: that would be refused."""
    granted = {each.removeprefix("{workdir}").lstrip("/") for each in write}
    return [each for each in deny if each.removeprefix("{workdir}").lstrip("/") not in granted]


def toml(read: list[str], write: list[str], deny: list[str]) -> str:
    return f"read = {read!r}\nwrite = {write!r}\ndeny = {deny!r}\n"


def everywhere(context: Context) -> list[str]:
    """Every path there is, one below each, and some that do not exist."""
    found = [context.workdir, f"{context.workdir}/missing/x", "/etc/passwd"]
    for folder, folders, _ in os.walk(context.workdir):
        found += [f"{folder}/{name}" for name in folders]
        found.append(f"{folder}/new")
    return found


RANK = {None: 0, "read": 1, "write": 2}


def no_more(first: Policy, second: Policy, paths: list[str]) -> bool:
    return all(RANK[permits(second, path)] <= RANK[permits(first, path)] for path in paths)


@settings(CALM, max_examples=80)
@given(GRANTS, GRANTS, st.lists(PATTERN, max_size=2), st.lists(PATTERN, max_size=3), st.data())
def test_denying_more_never_permits_more(
    context: Context,
    read: list[str],
    write: list[str],
    deny: list[str],
    added: list[str],
    data: st.DataObject,
) -> None:
    # Reading may be added only where it was possible: inside what the base lets read or write.
    islands = data.draw(st.lists(PATH, max_size=2))
    base = "version = 1\n[policy.base.filesystem]\ncompatibility = 'best-effort'\n"
    base += toml(read, write, possible(deny, write))
    first = resolved(base, context, "base")
    inside = [
        each
        for each in islands
        if permits(first, each.replace("{workdir}", context.workdir)) is not None
    ]
    text = f"{base}[policy.default]\nextends = ['base']\n[policy.default.filesystem]\n"
    second = resolved(text + toml(inside, [], added), context)
    paths = everywhere(context)
    assert no_more(first, second, paths)
    more = [each for each in compare(first, second) if each.direction == "more"]
    assert more == []
    for path in paths:
        if permits(second, path) != permits(first, path):
            assert any(each.direction == "less" for each in compare(first, second))
            break


@settings(CALM, max_examples=60)
@given(GRANTS, GRANTS, st.lists(PATTERN, max_size=3))
def test_the_rules_say_what_the_lists_say(
    context: Context, read: list[str], write: list[str], deny: list[str]
) -> None:
    """An oracle that looks at the written lists alone, path by path."""
    from nemoclaw_core.globs import matches

    deny = possible(deny, write)
    text = "version = 1\n[policy.default.filesystem]\n" + toml(read, write, deny)
    policy = resolved(text, context)

    def full(path: str) -> str:
        text = path.replace("{workdir}", context.workdir)
        return text if text.startswith("/") else f"{context.workdir}/{text}"

    for path in everywhere(context)[3:]:
        if path.endswith("/new"):
            continue
        above = [path]
        while above[-1] != "/":
            above.append(os.path.dirname(above[-1]))
        expected = None
        if not any(matches(full(each), up) for each in deny for up in above):
            for up in above:
                if up in map(full, write):
                    expected = "write"
                elif up in map(full, read):
                    expected = "read"
                if expected:
                    break
        assert permits(policy, path) == expected, path


LIMITS = st.fixed_dictionaries(
    {},
    optional={
        "process.max_processes": st.integers(1, 512),
        "process.max_open_files": st.integers(16, 4096),
        "process.max_memory": st.integers(1 << 20, 4 << 30),
        "process.timeout": st.integers(1, 10**6).map(lambda each: f"'{each}s'"),
        "network.mode": st.just("'none'"),
        "syscalls.deny": st.just("['ptrace', 'bpf']"),
        "syscalls.action": st.just("'kill'"),
        "filesystem.tmp": st.sampled_from(["'private'", "'none'"]),
        "filesystem.deny": st.just("['/etc', 'a', '**/.env']"),
    },
)


@settings(CALM, max_examples=40)
@given(LIMITS)
def test_tightening_the_shipped_default_never_permits_more(
    context: Context, limits: dict[str, object]
) -> None:
    text = "version = 1\n[policy.default]\nextends = ['default']\n"
    text += "".join(f"{key} = {value}\n" for key, value in limits.items())
    first = resolved("version = 1\n[policy.default]\nextends = ['default']\n", context)
    second = resolved(text, context)
    assert [each for each in compare(first, second) if each.direction != "less"] == []
    assert no_more(first, second, everywhere(context))
