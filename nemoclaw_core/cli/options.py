"""A small option parser for the commands whose start must be quick.

``argparse`` costs 10 ms to import, a third of what `nemoclaw run` may take in all.
"""

from __future__ import annotations

from nemoclaw_hookspecs.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Options:
    """Parsed options: ``flags`` that were given, ``values`` by option, and the ``rest``."""

    def __init__(self) -> None:
        self.flags: set[str] = set()
        self.values: dict[str, list[str]] = {}
        self.rest: list[str] = []

    def last(self, name: str) -> str | None:
        """The value of an option, the last one if it was repeated."""
        return self.values.get(name, [None])[-1]


def parse(
    argv: list[str],
    flags: tuple[str, ...],
    valued: tuple[str, ...],
    short: Mapping[str, str],
    *,
    command: str,
    may_be_empty: tuple[str, ...] = ("--env",),
) -> Options:
    """Parse options up to ``--`` or the first word that is none; the rest is not touched.

    :param command: whose options they are, for messages.
    :param may_be_empty: options that check their values themselves.
    :raises UsageError: an unknown option, or one without its value.
    """
    options = Options()
    hint = f"`nemoclaw {command} --help` says what can be written"
    words = list(argv)
    while words:
        word = words[0]
        if word == "--":
            options.rest = words[1:]
            return options
        if not word.startswith("-") or word == "-":
            options.rest = words
            return options
        words.pop(0)
        name, equals, value = word.partition("=")
        name = short.get(name, name)
        if name in flags and not equals:
            options.flags.add(name)
        elif name in valued:
            if not equals:
                if not words:
                    raise UsageError(f"{name} needs a value", remedy=hint)
                value = words.pop(0)
            if not value and name not in may_be_empty:
                raise UsageError(
                    f"{name} was given an empty value",
                    remedy="name something; a variable of your shell may not be set",
                )
            options.values.setdefault(name, []).append(value)
        else:
            if name in flags:
                raise UsageError(f"{name} takes no value", remedy=hint)
            raise UsageError(
                f"there is no option {name}", remedy=did_you_mean(name, (*flags, *valued), hint)
            )
    return options


def did_you_mean(word: str, known: Iterable[str], hint: str) -> str:
    """A remedy for an unknown word: the nearest known one, and where to read on."""
    # Imported for a mistake alone: it takes a start's time.
    from difflib import get_close_matches

    near = get_close_matches(word, list(known), n=1)
    return f"did you mean {near[0]}? {hint}" if near else hint


def environment(given: Options) -> dict[str, str]:
    """The variables given by ``--env``.

    :raises UsageError: one of them has no name or no value.
    """
    found = {}
    for number, word in enumerate(given.values.get("--env", []), 1):
        name, equals, value = word.partition("=")
        problem = "" if equals else "has no `=`"
        problem = problem if name else "has no name before the `=`"
        problem = "holds a NUL byte" if "\0" in word else problem
        if problem:
            # The word itself is not shown: it may be a secret.
            raise UsageError(
                f"what was given {problem}",
                where=f"--env, number {number} of them",
                remedy='write --env NAME=VALUE, or --env NAME="$NAME" for a variable of your own',
            )
        found[name] = value
    return found


def check_path(environment: Mapping[str, str], program: str) -> None:
    """:raises UsageError: ``--env PATH=`` leaves no folder to find the command in."""
    if "/" not in program and environment.get("PATH") == "":
        raise UsageError(
            f"{program!r} cannot be found: --env sets PATH to nothing",
            remedy="name folders in it, or the command by its whole path; a variable of your shell "
            "may not be set",
        )
