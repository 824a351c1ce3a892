"""docs/errors.md against the classes: names, codes, exit codes, built-in bases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from nemoclaw_hookspecs import errors

if TYPE_CHECKING:
    from .conftest import Page


def test_the_table_of_errors_is_the_tree_of_classes(pages: Mapping[str, Page]) -> None:
    (table,) = pages["docs/errors.md"].tables()
    header, *rows = table
    assert header[:4] == ("class", "code", "exit", "also a")
    written = {row[0]: row[1:4] for row in rows}
    real = {}
    for each in vars(errors).values():
        if isinstance(each, type) and issubclass(each, errors.NemoclawError):
            other = next(base for base in reversed(each.__bases__) if base is not each)
            real[f"`{each.__name__}`"] = (
                f"`{each.code}`",
                str(each.exit_code),
                f"`{other.__name__}`",
            )
    assert written == real


def test_every_error_says_what_it_means_and_what_to_do(pages: Mapping[str, Page]) -> None:
    (table,) = pages["docs/errors.md"].tables()
    for row in table:
        assert all(len(cell) > 3 for cell in row[4:])
