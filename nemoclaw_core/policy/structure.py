"""TOML values into document classes, with cattrs; every misfit with its key path.

cattrs converts where it can (``1`` to ``"1"``, ``"abc"`` to ``("a", "b", "c")``). In a policy a
value of another type is a slip, so each hook here checks first and converts nothing.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import attrs
import cattrs
from cattrs.errors import (
    AttributeValidationNote,
    BaseValidationError,
    ClassValidationError,
    ForbiddenExtraKeysError,
    IterableValidationError,
    IterableValidationNote,
)
from cattrs.gen import make_dict_structure_fn, override

from .document import BinaryTable, OpenTable
from .fields import key_name
from .patterns import PathPattern
from .problems import Key, Misfit, Misfits, nearest, quoted, shown_kind
from .values import KINDS, Kind, Text, text

T = TypeVar("T")
Hook = Callable[[Any, Any], Any]


def structure(value: object, kind: type[T]) -> T:
    """Turn a TOML value into ``kind``.

    :raises Exception: see :func:`misfits`, which lists what is wrong.
    """
    found: T = _converter().structure(value, kind)
    return found


MISFITS: tuple[type[Exception], ...] = (BaseValidationError, Misfit, Misfits)
"""What :func:`structure` raises for a value that does not fit."""


def misfits(error: BaseException, kind: Any, at: Key = ()) -> Iterator[Misfit]:
    """Every misfit in an error of :func:`structure`, placed relative to the value given to it."""
    if isinstance(error, Misfit):
        yield Misfit(error.what, error.remedy, at=at + error.at)
    elif isinstance(error, Misfits):
        for each in error.found:
            yield Misfit(each.what, each.remedy, at=at + each.at)
    elif isinstance(error, ForbiddenExtraKeysError):
        known = [key_name(field.name) for field in attrs.fields(error.cl)]
        for name in sorted(error.extra_fields):
            yield unknown_key(name, known, at)
    elif isinstance(error, (ClassValidationError, IterableValidationError)):
        for inner in error.exceptions:
            step, missing = _step(inner)
            if isinstance(inner, KeyError) and missing:
                yield Misfit(f"the key `{missing}` is missing", at=at)
            else:
                yield from misfits(inner, kind, at + step)
    else:
        raise TypeError(f"not a misfit of {kind}") from error


def unknown_key(name: str, known: list[str], at: Key) -> Misfit:
    """The misfit of a key that does not exist, with the nearest one that does."""
    near = nearest(name, known)
    if near:
        hint = f"did you mean {near}?"
    else:
        home = _elsewhere(name)
        hint = f"it is a key of {home}" if home else f"known here: {', '.join(known)}"
    return Misfit(f"unknown key {quoted(name)}", hint, at=(*at, name))


def _elsewhere(name: str) -> str | None:
    """The table of a policy in which a key of that name exists: it may just be misplaced."""
    from .document import PolicyTable

    for section in attrs.fields(attrs.resolve_types(PolicyTable)):
        for table in get_args(section.type):
            if attrs.has(table) and name in map(key_name, attrs.fields_dict(table)):
                return f"[policy.NAME.{section.name}]"
    return None


def _step(error: BaseException) -> tuple[Key, str]:
    """Where cattrs noted that an error arose: its step, and the attribute's key if it is one."""
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, AttributeValidationNote):
            name = key_name(note.name)
            return (name,), name
        if isinstance(note, IterableValidationNote):
            return (note.index,), ""
    return (), ""


@cache
def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True, detailed_validation=True)
    makers: tuple[tuple[Callable[[Any], bool], Callable[[cattrs.Converter, Any], Hook]], ...] = (
        (attrs.has, _table),
        (lambda kind: get_origin(kind) is tuple, _list),
        (lambda kind: get_origin(kind) is Mapping, _mapping),
        (lambda kind: get_origin(kind) in (Union, types.UnionType), _union),
        (lambda kind: get_origin(kind) is Literal, lambda _, kind: _choice),
        (lambda kind: _is_kind(kind), lambda _, kind: _value(KINDS[kind])),
        (lambda kind: kind is OpenTable, lambda _, kind: _open_table),
        (lambda kind: kind is object, lambda _, kind: lambda value, _: value),
    )
    for asked, make in makers:
        # Later registrations are asked first.
        converter.register_structure_hook_factory(asked, partial(make, converter))
    for primitive in (bool, str):
        # cattrs finds its own hooks for these before it asks a predicate.
        converter.register_structure_hook(primitive, _value(KINDS[primitive]))
    return converter


def _is_kind(kind: Any) -> bool:
    return any(kind is each for each in KINDS)


def _value(kind: Kind) -> Hook:
    return lambda value, _: kind.read(value)


def _table(converter: cattrs.Converter, kind: Any) -> Hook:
    renamed: dict[str, Any] = {
        field.name: override(rename=key_name(field.name))
        for field in attrs.fields(kind)
        if key_name(field.name) != field.name
    }
    build = make_dict_structure_fn(kind, converter, **renamed)

    def read(value: object, _: object) -> Any:
        if not isinstance(value, dict):
            raise Misfit(f"is {shown_kind(value)}, not a table")
        try:
            return build(value, kind)
        except ClassValidationError as error:
            bad = {step[0] for each in error.exceptions if (step := _step(each)[0])}
            bad |= {name for each in error.exceptions for name in getattr(each, "extra_fields", ())}
            if not bad:
                raise
            # What is wrong with the rest as a whole, beside these keys? The class says.
            try:
                build({key: each for key, each in value.items() if key not in bad}, kind)
            except ClassValidationError as more:
                found = [each for each in more.exceptions if not isinstance(each, KeyError)]
                raise ClassValidationError("", [*error.exceptions, *found], kind) from None
            raise

    return read


def _list(converter: cattrs.Converter, kind: Any) -> Hook:
    item = get_args(kind)[0]
    build = converter.get_structure_hook(item)

    def read(value: object, _: object) -> Any:
        if not isinstance(value, list):
            raise Misfit(
                f"is {shown_kind(value)}, not a list",
                "write it in [ ]" if isinstance(value, str) else None,
            )
        found, errors = [], []
        for index, each in enumerate(value):
            try:
                found.append(build(each, item))
            except MISFITS as error:
                _note(error, index, item)
                errors.append(error)
        if errors:
            raise IterableValidationError("in a list", errors, kind)
        return tuple(found)

    return read


def _mapping(converter: cattrs.Converter, kind: Any) -> Hook:
    name_kind, item = get_args(kind)
    read_name = converter.get_structure_hook(name_kind)
    build = converter.get_structure_hook(item)

    def read(value: object, _: object) -> Any:
        if not isinstance(value, dict):
            raise Misfit(f"is {shown_kind(value)}, not a table")
        found, errors = {}, []
        for name, each in value.items():
            for hook, given, asked in ((read_name, name, name_kind), (build, each, item)):
                try:
                    found[name] = hook(given, asked)
                except MISFITS as error:
                    _note(error, name, item)
                    errors.append(error)
        if errors:
            raise IterableValidationError("in a table", errors, kind)
        return found

    return read


def _union(converter: cattrs.Converter, kind: Any) -> Hook:
    """``X | None`` (a key that may be left out: TOML has no null), and path or table."""
    kinds = [each for each in get_args(kind) if each is not type(None)]
    if len(kinds) == 1:
        build = converter.get_structure_hook(kinds[0])
        return lambda value, _: build(value, kinds[0])
    if set(kinds) != {PathPattern, BinaryTable}:
        raise TypeError(f"no way to read {kind}")
    hooks = {each: converter.get_structure_hook(each) for each in kinds}

    def read(value: object, _: object) -> Any:
        if not isinstance(value, (str, dict)):
            raise Misfit(f"is {shown_kind(value)}, not a path or a table")
        chosen = BinaryTable if isinstance(value, dict) else PathPattern
        return hooks[chosen](value, chosen)

    return read


def _choice(value: object, kind: Any) -> Any:
    choices = list(get_args(kind))
    if value in choices and isinstance(value, str):
        return value
    listed = ", ".join(f'"{each}"' for each in choices)
    if not isinstance(value, str):
        raise Misfit(f"is {shown_kind(value)}, not one of {listed}")
    near = nearest(value, choices)
    raise Misfit(
        f"{quoted(value)} is not one of {listed}", f'did you mean "{near}"?' if near else None
    )


def _open_table(value: object, _: object) -> OpenTable:
    if not isinstance(value, dict):
        raise Misfit(f"is {shown_kind(value)}, not a table")
    if "type" not in value:
        raise Misfit("the key `type` is missing")
    try:
        kind = Text(text(value["type"]))
    except Misfit as error:
        raise Misfit(error.what, error.remedy, at=("type",)) from None
    return OpenTable(type=kind, options={key: each for key, each in value.items() if key != "type"})


def _note(error: Exception, index: int | str, kind: Any) -> None:
    # PEP 678's add_note is not there in Python 3.10; cattrs reads the attribute alone.
    notes = [*getattr(error, "__notes__", ())]
    error.__notes__ = [  # type: ignore[attr-defined,unused-ignore]
        IterableValidationNote(f"at {index!r}", index, kind),
        *notes,
    ]
