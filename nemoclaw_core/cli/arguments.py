"""The argument parser of the commands that may take their time; see ``options`` for the others."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from nemoclaw_hookspecs.errors import UsageError


class Parser(argparse.ArgumentParser):
    """Tells a mistake as every command of nemoclaw does. Options cannot be shortened."""

    def __init__(self, prog: str, **options: Any) -> None:
        options.setdefault("allow_abbrev", False)
        super().__init__(prog=prog, **options)

    def error(self, message: str) -> NoReturn:
        """:raises UsageError: always."""
        raise UsageError(message, remedy=f"`{self.prog} --help` says what can be written")
