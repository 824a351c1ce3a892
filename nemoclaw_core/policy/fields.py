"""How a class of the policy document declares its keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from .problems import Misfit, Misfits


def key(doc: str) -> Any:
    """A key that may be left out."""
    return attrs.field(default=None, metadata={"doc": doc})


def members(doc: str) -> Any:
    """A table of patterns. It is compared, and hashed, by what is in it."""

    def content(written: Mapping[str, str] | None) -> frozenset[tuple[str, str]] | None:
        return None if written is None else frozenset(written.items())

    return attrs.field(default=None, metadata={"doc": doc}, eq=content)


def required(doc: str) -> Any:
    """A key that has to be written."""
    return attrs.field(metadata={"doc": doc})


def key_name(attribute: str) -> str:
    """The TOML key of a field: ``pass_`` is written ``pass``."""
    return attribute.rstrip("_")


def raise_found(found: list[Misfit]) -> None:
    """:raises Misfits: if there are any."""
    if found:
        raise Misfits(found)
