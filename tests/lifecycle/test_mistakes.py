"""Mistakes in a command line are told in nemoclaw's words, with what may be meant."""

from __future__ import annotations

import pytest

from nemoclaw_core import cli


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("policy", "COMMAND is missing"),
        ("policy chek x", "there is no command 'chek'\n  remedy: did you mean check? "),
        ("policy check", "FILE is missing"),
        ("policy diff a", "B is missing"),
        ("policy explain --jsn", "there is no option --jsn\n  remedy: did you mean --json? "),
        ("policy explain a b", "'b' is one argument too many"),
        ("policy explain --workdir", "--workdir needs a value"),
        ("policy explain --json=1", "--json takes no value"),
        ("stop", "SANDBOX is missing"),
        ("logs --verify --output x", "--output says nothing beside --verify"),
        ("logs --prune x", "--prune: 'x' is not a number of days"),
        ("logs --folow", "there is no option --folow\n  remedy: did you mean --follow? "),
        ("doctor --polcy x", "there is no option --polcy\n  remedy: did you mean --policy? "),
        ("run --polcy x -- true", "there is no option --polcy\n  remedy: did you mean --policy? "),
    ],
)
def test_a_mistake(words: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words.split()) == 2
    out, err = capsys.readouterr()
    assert (out, err.startswith(f"nemoclaw: {told}")) == ("", True), err
    assert len(err.splitlines()) == 2


@pytest.mark.parametrize(
    "words",
    [
        ["run", "-p", "", "--", "true"],
        ["run", "-C", "", "--", "true"],
        ["run", "--workdir=", "--", "true"],
        ["run", "-n", "", "--", "true"],
        ["exec", "-C", "", "x", "--", "true"],
        ["doctor", "-p", ""],
        ["doctor", "-C", ""],
        ["plugins", "--policy="],
        ["policy", "explain", ""],
        ["policy", "check", "--workdir", "", "x.toml"],
        ["policy", "check", ""],
    ],
    ids=" ".join,
)
def test_an_empty_value_never_means_the_default(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == 2
    assert "a variable of your shell may not be set" in capsys.readouterr().err


def test_an_empty_path_finds_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "-e", "PATH=", "--", "ls"]) == 2
    assert "'ls' cannot be found: --env sets PATH to nothing" in capsys.readouterr().err
    assert cli.main(["exec", "-e", "PATH=", "box", "--", "ls"]) == 2
    assert "--env sets PATH to nothing" in capsys.readouterr().err
