"""Find placeholders in a request, also where they were written in another way.

A placeholder is no secret. Where it stands tells what the agent, or what speaks through it, tries
to do with a credential; so the usual ways to write a text are undone, and no more than those.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nemoclaw_hookspecs import HttpRequest

_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{20,}={0,2}")
_DEPTH = 3
"""How often percent-encoding is undone."""


class Marks:
    """The placeholders of all credentials of a policy.

    :param placeholders: the names of credentials by placeholder.
    """

    def __init__(self, placeholders: Mapping[str, str]) -> None:
        self._owners = dict(placeholders)
        # The longest first: one may be a part of another.
        texts = sorted(self._owners, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, texts))) if texts else None

    def find(self, text: str, *, wrapped: bool = True) -> frozenset[str]:
        """The credentials whose placeholder is in a text.

        :param wrapped: undo percent-encoding and base64.
        """
        if self._pattern is None or not text:
            return frozenset()
        readings = _readings(text) if wrapped else (text,)
        return frozenset(
            self._owners[found[0]]
            for reading in readings
            for found in self._pattern.finditer(reading)
        )

    def places(self, http: HttpRequest) -> Iterator[tuple[str, str, frozenset[str]]]:
        """Where in a request placeholders are: a kind of place, a name there, and whose.

        The kinds are ``path``, ``query`` (with the parameter's name), ``header`` (with its name, in
        lower case), ``body`` and ``message``.
        """
        if self._pattern is None:
            return
        yield from self._place("path", "", http.path)
        if http.query:
            for parameter in re.split("[&;]", http.query):
                name = unquote(parameter.partition("=")[0])
                yield from self._place("query", name, parameter)
        for name, value in http.headers.items():
            yield from self._place("header", name.lower(), value)
        for kind, data in (("body", http.body), ("message", http.message)):
            if data:
                # As it is: it may be large, and a form leaves these characters alone.
                owners = self.find(data.decode("latin-1"), wrapped=False)
                if owners:
                    yield kind, "", owners

    def _place(self, kind: str, name: str, text: str) -> Iterator[tuple[str, str, frozenset[str]]]:
        owners = self.find(text)
        if owners:
            yield kind, name, owners


def _unquoted(text: str) -> Iterator[str]:
    yield text
    for _ in range(_DEPTH):
        if "%" not in text:
            return
        plain = unquote(text, encoding="latin-1")
        if plain == text:
            return
        text = plain
        yield text


def _readings(text: str) -> Iterator[str]:
    for reading in _unquoted(text):
        yield reading
        for token in _BASE64.findall(reading):
            bare = token.rstrip("=").replace("-", "+").replace("_", "/")
            try:
                data = base64.b64decode(bare + "=" * (-len(bare) % 4))
            except binascii.Error:
                continue
            yield data.decode("latin-1")
