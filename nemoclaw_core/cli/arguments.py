"""The argument parser of the commands that may take their time; see ``options`` for the others."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from nemoclaw_hookspecs.errors import UsageError

from .options import did_you_mean

_MISSING = re.compile(r"the following arguments are required: (?P<names>.+)")
_CHOICE = re.compile(r"argument (?P<name>\S+): invalid choice: '(?P<word>.*?)' \(choose from .*")
_UNKNOWN = re.compile(r"unrecognized arguments: (?P<words>.+)", re.DOTALL)
_VALUE = re.compile(r"argument (?P<name>.+?): expected (?:one|at least one) argument")
_NO_VALUE = re.compile(r"argument (?P<name>.+?): ignored explicit argument .*", re.DOTALL)
_EXCLUSIVE = re.compile(r"argument (?P<name>.+?): not allowed with argument (?P<other>.+)")
_BAD = re.compile(r"argument (?P<name>.+?): (?P<what>.+)", re.DOTALL)


class Parser(argparse.ArgumentParser):
    """Tells a mistake as every command of nemoclaw does. Options cannot be shortened."""

    def __init__(self, prog: str, **options: Any) -> None:
        options.setdefault("allow_abbrev", False)
        super().__init__(prog=prog, **options)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does.

        :raises UsageError: a mistake, or an empty value: mostly a variable that is not set, and
            never a wish for what holds when nothing is written.
        """
        words: Sequence[str] = args or ()
        if "" in words or any(each.startswith("--") and each.endswith("=") for each in words):
            raise UsageError(
                "an argument is empty",
                remedy="name something, or leave it out; a variable of your shell may not be set",
            )
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            # The parser of the subcommand that they were given to knows what is near.
            (getattr(found, "parser", None) or self).refuse_unknown(unknown)
        return found

    def refuse_unknown(self, words: Sequence[str]) -> NoReturn:
        """:raises UsageError: always, for words that mean nothing to this parser."""
        word = words[0].partition("=")[0]
        if not word.startswith("-"):
            raise UsageError(f"{word!r} is one argument too many", remedy=self._hint())
        known = [name for name in self._option_string_actions if name.startswith("--")]
        raise UsageError(
            f"there is no option {word}", remedy=did_you_mean(word, known, self._hint())
        )

    def _hint(self) -> str:
        return f"`{self.prog} --help` says what can be written"

    def error(self, message: str) -> NoReturn:
        """Say in nemoclaw's words what argparse says in its own.

        :raises UsageError: always.
        """
        if found := _MISSING.fullmatch(message):
            raise UsageError(f"{found['names'].upper()} is missing", remedy=self._hint())
        if found := _CHOICE.fullmatch(message):
            known = [str(choice) for action in self._actions for choice in (action.choices or ())]
            raise UsageError(
                f"there is no {found['name'].lower()} {found['word']!r}",
                remedy=did_you_mean(found["word"], known, self._hint()),
            )
        if found := _UNKNOWN.fullmatch(message):
            self.refuse_unknown(found["words"].split())
        if found := _VALUE.fullmatch(message):
            raise UsageError(f"{_last(found['name'])} needs a value", remedy=self._hint())
        if found := _NO_VALUE.fullmatch(message):
            raise UsageError(f"{_last(found['name'])} takes no value", remedy=self._hint())
        if found := _EXCLUSIVE.fullmatch(message):
            what = f"{_last(found['name'])} says nothing beside {_last(found['other'])}"
            raise UsageError(what, remedy=f"leave one of them out; {self._hint()}")
        if found := _BAD.fullmatch(message):
            raise UsageError(found["what"], where=_last(found["name"]), remedy=self._hint())
        raise UsageError(message, remedy=self._hint())


def _last(name: str) -> str:
    """``--prune`` of ``-x/--prune``."""
    return name.rpartition("/")[2]
