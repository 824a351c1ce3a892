"""The attack: a running agent swaps the policy file between the user's look at it and the vouching.
So ``policy trust`` shows what it vouches for, and asks."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from nemoclaw_hookspecs import UsageError

from nemoclaw_core import trust
from nemoclaw_core.cli import policy as command
from nemoclaw_core.observe import digest

from .conftest import Ground
from .test_trust import MINE, PLANTED, plant

Answer = Callable[[str], None]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Answer:
    """Puts somebody who types a line in front of a terminal."""
    return lambda line: monkeypatch.setattr(sys, "stdin", Terminal(line))


@pytest.fixture
def path(ground: Ground) -> Path:
    return plant(ground.work / "below", PLANTED)


@pytest.mark.parametrize("line", ["y\n", "Y\n", "yes\n"])
def test_it_shows_the_file_and_asks(
    path: Path, answer: Answer, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(line)
    assert command.main(["trust", str(path)]) == 0
    told = capsys.readouterr().out
    assert told.index("  | process.max_processes = 999") < told.index("[y/N]")
    assert trust.trusted() == {str(path): digest(PLANTED.encode())}


@pytest.mark.parametrize("line", ["", "\n", "n\n", "no\n", "yes please\n"])
def test_anything_else_is_no(path: Path, answer: Answer, line: str) -> None:
    answer(line)
    assert command.main(["trust", str(path)]) == 1
    assert trust.trusted() == {}


def test_what_is_swapped_while_it_asks_is_not_vouched_for(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Swapping(Terminal):
        def readline(self, size: int | None = -1, /) -> str:  # type: ignore[override]
            plant(path.parent, MINE)
            return "y\n"

    monkeypatch.setattr(sys, "stdin", Swapping())
    assert command.main(["trust", str(path)]) == 0
    assert trust.trusted() == {str(path): digest(PLANTED.encode())}


def test_without_a_terminal_it_takes_a_digest_or_yes(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for stdin in (io.StringIO("y\n"), None):
        monkeypatch.setattr(sys, "stdin", stdin)
        with pytest.raises(UsageError, match="--digest"):
            command.main(["trust", str(path)])
    with pytest.raises(UsageError, match="another BLAKE2b-256 digest"):
        command.main(["trust", "--digest", digest(MINE.encode()), str(path)])
    assert trust.trusted() == {}
    assert command.main(["trust", "--digest", digest(PLANTED.encode()), str(path)]) == 0
    plant(path.parent, MINE)
    capsys.readouterr()
    assert command.main(["trust", "--yes", str(path)]) == 0
    assert "  | process.max_processes = 7" in capsys.readouterr().out
    assert trust.trusted() == {str(path): digest(MINE.encode())}


def test_nothing_in_the_file_reaches_the_terminal_as_it_is(
    ground: Ground, capsys: pytest.CaptureFixture[str]
) -> None:
    path = plant(ground.work / "below", f"{MINE}# \x7f\u202e\r\tend\n".replace("\x7f", "\u200b"))
    # A carriage return alone is no TOML; the others may stand in a comment.
    path.write_bytes(path.read_bytes().replace(b"\r", b""))
    assert command.main(["trust", "--yes", str(path)]) == 0
    told = capsys.readouterr().out
    assert "\\u200b\\u202e" in told
    assert all(line.isprintable() for line in told.split("\n"))


def test_forgetting(path: Path) -> None:
    with pytest.raises(UsageError, match="nothing is noted"):
        command.main(["trust", "--forget", str(path)])
    command.main(["trust", "--yes", str(path)])
    assert command.main(["trust", "--forget", str(path)]) == 0
    assert trust.trusted() == {}
    command.main(["trust", "--yes", str(path)])
    assert trust.trusted() == {str(path): digest(PLANTED.encode())}


def test_the_end_of_the_file_is_not_the_last_that_is_shown(
    ground: Ground, answer: Answer, capsys: pytest.CaptureFixture[str]
) -> None:
    """The attack: what it permits is scrolled away by blank lines in a string, and a harmless
    policy follows."""
    paths = "".join(f"'/usr/lib{' ' * 200}/{number}?', " for number in range(9))
    path = plant(
        ground.work / "below",
        f"version = 1\n[policy.default]\nextends = ['default']\n[policy.default.filesystem]\n"
        f"write = [{paths}'{ground.home}']\n[policy.default.network]\nmode = 'proxy'\n"
        f"[[policy.default.network.allow]]\nhost = '**.example'\n"
        f'[policy.other.process.environment.set]\nX = """{chr(10) * 60}"""\n'
        "[policy.readonly]\nextends = ['readonly']\n",
    )
    answer("n\n")
    assert command.main(["trust", str(path)]) == 1
    shown, _, last = capsys.readouterr().out.partition("That is all of ")
    assert shown.count("\n  | \n") > 25
    assert last.startswith(f"{len(path.read_text().splitlines())} lines.")
    assert f"+ filesystem: {ground.home}: nothing -> write" in last
    assert "+ network: allows **.example" in last
    assert '"readonly", compared with the "readonly" that ships: permits nothing besides' in last
    assert last.rstrip().endswith("[y/N] not trusted")
    lines = last.split("\n")
    assert len(lines) < 24
    assert max(map(len, lines)) < 130
    assert lines[1].startswith('  "default"')


def test_what_cannot_be_told_is_said(
    ground: Ground, answer: Answer, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "version = 1\n[policy.default.filesystem]\nread = ['/nowhere']\n"
    answer("n\n")
    assert command.main(["trust", str(plant(ground.work / "below", text))]) == 1
    assert "cannot be told here" in capsys.readouterr().out


def test_the_weightiest_grant_is_shown_first(
    ground: Ground, answer: Answer, capsys: pytest.CaptureFixture[str]
) -> None:
    """The attack: names that sort before it, so that it is one of those that are only counted."""
    crowd = [ground.root / f"a{number:02}" for number in range(50)]
    for each in crowd:
        each.mkdir()
    reads = ", ".join(f"'{each}'" for each in crowd)
    body = f"read = [{reads}]\nwrite = ['{ground.home}']\n"
    text = f"version = 1\n[policy.default.filesystem]\n{body}"
    answer("n\n")
    command.main(["trust", str(plant(ground.work / "below", text))])
    told = capsys.readouterr().out
    grants = [line for line in told.splitlines() if "+ filesystem:" in line and "->" in line]
    assert "nothing -> write" in grants[0]
