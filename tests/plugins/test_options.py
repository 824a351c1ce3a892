"""Claims about the options of a plugin: its own table, which it judges itself."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest
from nemoclaw_hookspecs import PolicyError

from nemoclaw_core.checking import check_file
from nemoclaw_core.plugins import PluginManager

from .conftest import FS, Install, answers, enabling, loaded, refusal

VALIDATING = (
    FS
    + """
def validate_options(options):
    if not isinstance(options.get("size"), int):
        raise PolicyError("size must be a number", remedy="size = 1")
"""
)


def test_a_plugin_judges_its_own_table(install: Install) -> None:
    install("sized", VALIDATING)
    assert loaded("sized", sized={"size": 1}).loaded == ("sized",)
    wrongs: tuple[dict[str, object], ...] = ({"size": "x"}, {})
    for wrong, where in zip(
        wrongs, ("policies.toml:7 plugins.sized.size", "plugins.sized"), strict=True
    ):
        with pytest.raises(PolicyError, match="size must be a number") as caught:
            loaded("sized", sized=wrong)
        assert caught.value.where == where
        assert caught.value.exit_code == 3


def test_a_plugin_names_its_keys_and_the_core_their_lines(install: Install) -> None:
    source = """
        def validate_options(options):
            raise PolicyError(
                "two problems",
                where="second" if len(options) == 2 else None,
                problems=("second: too large (at most 3)", "unrelated: words", "first"),
            )
    """
    install("sized", FS + textwrap.dedent(source))
    cases: tuple[tuple[dict[str, object], str], ...] = (
        ({"first": 1, "second": 9}, "policies.toml:7 plugins.sized.second"),
        ({"first": 1}, "policies.toml:7 plugins.sized.first"),
    )
    for options, where in cases:
        with pytest.raises(PolicyError) as caught:
            loaded("sized", sized=options)
        assert caught.value.where == where
    with pytest.raises(PolicyError) as caught:
        loaded("sized", sized={"first": 1, "second": 9})
    assert caught.value.problems == (
        "policies.toml:7 plugins.sized.second: too large (at most 3)",
        "unrelated: words",
        "first",
    )


def test_a_check_of_the_file_finds_what_is_wrong_in_the_table(
    install: Install, tmp_path: Path
) -> None:
    source = """
        def validate_options(options):
            problems = [f"{key}: unknown key (there is size)" for key in options if key != "size"]
            if problems:
                raise PolicyError("unknown keys", problems=tuple(problems))
    """
    install("sized", FS + textwrap.dedent(source))
    file = tmp_path / "policies.toml"
    names = '["mounts", "landlock", "seccomp", "netns", "sized"]'
    file.write_text(
        "version = 1\n[policy.a]\nextends = ['base']\nsyscalls.deny = ['opnat']\n"
        f"[plugins]\nenable = {names}\n[plugins.sized]\nsize = 1\nsizes = 2\nseize = 3\n"
    )
    with pytest.raises(PolicyError) as caught:
        check_file(str(file))
    assert [each.removeprefix(f"{file}:") for each in caught.value.problems] == [
        "4 policy.a.syscalls.deny[0]: unknown system call 'opnat' (did you mean openat?)",
        "9 plugins.sized.sizes: unknown key (there is size)",
        "10 plugins.sized.seize: unknown key (there is size)",
    ]


def test_a_refused_table_leaves_the_plugin_out(install: Install) -> None:
    install("sized", VALIDATING)
    manager = PluginManager()
    manager.attempt(enabling("sized"))
    assert manager.loaded == ()
    assert answers(manager) == []


def test_options_of_a_plugin_that_takes_none_are_an_error(install: Install) -> None:
    install("plain", FS)
    assert loaded("plain", plain={}).loaded == ("plain",)
    with pytest.raises(PolicyError, match="takes no options"):
        loaded("plain", plain={"size": 1})


def test_options_of_a_plugin_that_is_not_installed_are_an_error(install: Install) -> None:
    install("plain", FS)
    with pytest.raises(PolicyError, match="not installed") as caught:
        loaded("plain", plian={"size": 1})
    assert "did you mean 'plain'?" in str(caught.value)


def test_a_table_of_a_plugin_that_is_off_is_left_alone(install: Install) -> None:
    install("plain", FS)
    module = install("off", FS)
    loaded("plain", off={"size": 1})
    assert module not in sys.modules


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("return False", "must return None or raise PolicyError"),
        ("raise KeyError('size')", "failed in validate_options: KeyError"),
        ("options['size'] = 2", "failed in validate_options: TypeError"),
    ],
)
def test_a_validator_that_breaks_its_contract_is_an_error(
    body: str, told: str, install: Install
) -> None:
    install("odd", f"{FS}\ndef validate_options(options):\n    {body}\n")
    assert told in refusal("odd", odd={"size": 1}).what
