"""JSON that every reader reads alike (RFC 8259 and the stricter RFC 7493); the rest is refused.

Where two readers may differ, an agent can show one thing to the policy and another to the server:
a member that is there twice, or twice but for its case (Go's ``encoding/json`` takes either),
encodings that are guessed, numbers that are none, half a surrogate pair.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

DEEPEST = 64
"""Levels of arrays and objects in each other."""
_CONTAINERS = 50_000
"""Arrays and objects. (Each takes a microsecond or two.)"""
_LONG = 128
"""Characters of a pointer that count as one name more."""
_HALVES = ("\\ud", "\\uD")


class NotJson(ValueError):
    """It cannot be read, or in more than one way. Its message is a clause."""


def read(data: bytes) -> object:
    """One JSON text in UTF-8.

    :raises NotJson: it is none.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise NotJson("it is not UTF-8") from None
    if text.startswith("\ufeff"):
        raise NotJson("it begins with a byte order mark")
    containers = text.count("[") + text.count("{")
    if containers > _CONTAINERS:
        raise NotJson("it holds too many arrays and objects")
    try:
        found: object = json.loads(
            text, object_pairs_hook=_object, parse_float=_number, parse_constant=_constant
        )
    except NotJson:
        raise
    except RecursionError:
        raise NotJson("it is too deep") from None
    except ValueError as error:  # also an integer of thousands of digits
        what = error.msg if isinstance(error, json.JSONDecodeError) else "a number is too long"
        raise NotJson(f"it is not JSON: {what[:1].lower()}{what[1:]}") from None
    if containers > DEEPEST and _depth(found) > DEEPEST:
        raise NotJson("it is too deep")
    if any(half in text for half in _HALVES):
        _check_surrogates(found)
    return found


def scalar(value: object) -> str:
    """A string, number or other end of a JSON value as patterns see it."""
    if isinstance(value, str):
        return value
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "{}" if value == {} else str(value)


def leaves(value: object, spend: Callable[[int], None]) -> list[tuple[str, str]]:
    """Everything in a value that has nothing below it, by its JSON pointer (RFC 6901).

    :param spend: told, before they are made, how many names there will be; long ones count more.
    """
    found: list[tuple[str, str]] = []
    waiting: list[tuple[str, object]] = [("", value)]
    while waiting:
        pointer, each = waiting.pop()
        if isinstance(each, (dict, list)) and each:
            spend(len(each) * (1 + pointer.count("/") + len(pointer) // _LONG))
        if isinstance(each, dict) and each:
            for key, inner in each.items():
                name = key.replace("~", "~0").replace("/", "~1")
                waiting.append((f"{pointer}/{name}", inner))
        elif isinstance(each, list) and each:
            waiting += [(f"{pointer}/{at}", inner) for at, inner in enumerate(each)]
        else:
            found.append((pointer, scalar(each)))
    return found


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len({key.casefold() for key, _ in pairs}) != len(pairs):
        raise NotJson("an object has a member twice, or twice but for its case")
    return dict(pairs)


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise NotJson("a number is too large")
    return number


def _constant(text: str) -> float:
    raise NotJson(f"{text} is not JSON")


def _depth(value: object) -> int:
    level, here = 0, [value] if isinstance(value, (dict, list)) else []
    while here:
        level += 1
        here = [
            inner
            for each in here
            for inner in (each.values() if isinstance(each, dict) else each)
            if isinstance(inner, (dict, list))
        ]
    return level


def _check_surrogates(value: object) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise NotJson("a string holds half a surrogate pair") from None
