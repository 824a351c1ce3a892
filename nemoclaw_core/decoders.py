"""Readers of encoded values, one for each declared type, made once.

A reader takes builtins and gives the value that was encoded, or raises :class:`Misfit`. It is as
strict as a check after the fact could be: no other type, no missing and no unknown field.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Literal, NoReturn, Union, get_args, get_origin

import attrs

Reader = Callable[[object], Any]


class Misfit(Exception):
    """What is wrong, and where in the value: ``.allow[3].host``."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.path = ""

    def inside(self, part: str) -> Misfit:
        """The same, of what is around it."""
        self.path = part + self.path
        return self


def fields_of(kind: type) -> Mapping[str, Any]:
    """Names of an attrs class's fields and their resolved types."""
    return _fields_of(kind)


@cache
def _fields_of(kind: Any) -> Mapping[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in attrs.fields(kind)}


@cache
def reader(kind: Any) -> Reader:
    """The reader of a declared type.

    :raises TypeError: it is one that a plan cannot carry.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return _literal(arguments)
    if origin in (Union, types.UnionType):
        (other,) = (each for each in arguments if each is not type(None))
        return _optional(reader(other))
    if origin is tuple:
        if arguments[1:] == (Ellipsis,):
            return _items(reader(arguments[0]))
        return _row(tuple(map(reader, arguments)))
    if origin is Mapping:
        return _mapping(reader(arguments[0]), reader(arguments[1]))
    if attrs.has(kind):
        return _table(kind)
    if kind not in (str, int, float, bool, bytes):
        raise TypeError(f"{kind!r} is nothing that a plan can carry")
    return _number if kind is float else _scalar(kind)


def _misfit(data: object, expected: str) -> NoReturn:
    raise Misfit(f"is {type(data).__name__}, expected {expected}")


def _literal(allowed: tuple[object, ...]) -> Reader:
    def read(data: object) -> object:
        for choice in allowed:
            if type(data) is type(choice) and data == choice:
                return choice
        raise Misfit(f"is not one of {', '.join(map(repr, allowed))}")

    return read


def _optional(inner: Reader) -> Reader:
    return lambda data: None if data is None else inner(data)


def _items(inner: Reader) -> Reader:
    def read(data: object) -> tuple[Any, ...]:
        if type(data) is not list:
            _misfit(data, "list")
        found: list[Any] = []
        try:
            for item in data:
                found.append(inner(item))
        except Misfit as misfit:
            raise misfit.inside(f"[{len(found)}]") from None
        return tuple(found)

    return read


def _row(inner: tuple[Reader, ...]) -> Reader:
    def read(data: object) -> tuple[Any, ...]:
        if type(data) is not list:
            _misfit(data, "list")
        if len(data) != len(inner):
            raise Misfit(f"has {len(data)} items, expected {len(inner)}")
        found: list[Any] = []
        try:
            for one, item in zip(inner, data, strict=True):
                found.append(one(item))
        except Misfit as misfit:
            raise misfit.inside(f"[{len(found)}]") from None
        return tuple(found)

    return read


def _mapping(key_reader: Reader, item_reader: Reader) -> Reader:
    def read(data: object) -> dict[Any, Any]:
        if type(data) is not dict:
            _misfit(data, "dict")
        found = {}
        for key, item in data.items():
            name = key_reader(key)
            try:
                found[name] = item_reader(item)
            except Misfit as misfit:
                raise misfit.inside(f"[{key!r}]") from None
        return found

    return read


def _table(kind: type) -> Reader:
    readers: dict[str, Reader] = {}

    def read(data: object) -> Any:
        if not readers:
            # Not before it is needed: a class may hold others of its own.
            readers.update((name, reader(each)) for name, each in fields_of(kind).items())
        if type(data) is not dict:
            _misfit(data, "dict")
        if data.keys() != readers.keys():
            check_names(data, readers)
        values = {}
        name = ""
        try:
            for name, one in readers.items():
                values[name] = one(data[name])
        except Misfit as misfit:
            raise misfit.inside(f".{name}") from None
        return kind(**values)

    return read


def check_names(data: Mapping[str, object], names: typing.Collection[str]) -> None:
    """:raises Misfit: a field is missing, or not one of these."""
    for name in names:
        if name not in data:
            raise Misfit(f"lacks the field {name!r}")
    for name in data:
        if name not in names:
            raise Misfit(f"has the unknown field {name!r}")


def _scalar(kind: type) -> Reader:
    def read(data: object) -> object:
        # Exactly: True is no number here, and marshal cannot write a subclass of str.
        if type(data) is not kind:
            _misfit(data, kind.__name__)
        return data

    return read


def _number(data: object) -> object:
    if type(data) is not float:
        _misfit(data, "float")
    if not math.isfinite(data):
        raise Misfit("is not a finite number")
    return data
