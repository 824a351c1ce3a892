"""The query of a request, taken apart as servers do (the URL standard's form encoding)."""

from __future__ import annotations

import re

from .members import Member

_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})?")
MOST = 256
"""Keys of one query."""


class NotAQuery(ValueError):
    """It can be read in more than one way. Its message is a clause."""


def read(query: str) -> list[Member]:
    """Keys and values, in their order. A plus sign is a space, or itself: both are readings.

    :raises NotAQuery: it holds a semicolon, which some servers take for ``&``, or escapes that are
        none, or are no UTF-8.
    """
    if not query:
        return []
    if ";" in query:
        raise NotAQuery("it holds a semicolon")
    pieces = query.split("&")
    if len(pieces) > MOST:
        raise NotAQuery(f"it holds more than {MOST} keys")
    found: list[Member] = []
    for piece in pieces:
        if not piece:
            continue
        key, _, value = piece.partition("=")
        if "+" in key:
            raise NotAQuery("a key holds a plus sign")
        spaced = _decoded(value.replace("+", " "))
        readings = (spaced, _decoded(value)) if "+" in value else (spaced,)
        found.append((_decoded(key), readings))
    return found


def _decoded(text: str) -> str:
    if "%" not in text:
        return text
    data = bytearray()
    at = 0
    for match in _ESCAPE.finditer(text):
        if match[1] is None:
            raise NotAQuery("it holds a percent sign that begins no escape")
        data += text[at : match.start()].encode()
        data.append(int(match[1], 16))
        at = match.end()
    data += text[at:].encode()
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise NotAQuery("its escapes are no UTF-8") from None
