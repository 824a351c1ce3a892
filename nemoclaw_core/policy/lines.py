"""On which line each key and list item of a TOML text stands.

tomli says what a document holds, not where. This scanner says where: it walks the text in one
pass and notes the line of every key path. It does not judge: a text that tomli has refused gives
whatever was found up to there, never an exception.
"""

from __future__ import annotations

import re
from contextlib import suppress

from .problems import Key

_SPACE = re.compile(r"[ \t]*")
_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_REST_OF_LINE = re.compile(r"[^\n]*\n?")
_BARE = re.compile(r"[^ \t\r\n=.\[\]{},\"'#]+")
# An unterminated string ends with the text.
_BASIC = re.compile(r'"(?:[^"\\\n]|\\.)*(?:"|(?=\n)|\Z)')
_LITERAL = re.compile(r"'[^'\n]*(?:'|(?=\n)|\Z)")
# Up to two quotes may stand right before the closing three.
_LONG_BASIC = re.compile(r'"""(?:[^"\\]|\\.|"(?!""))*(?:"{3,5}|\Z)', re.DOTALL)
_LONG_LITERAL = re.compile(r"'''(?:[^']|'(?!''))*(?:'{3,5}|\Z)", re.DOTALL)
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|x([0-9A-Fa-f]{2})|(.))", re.DOTALL)
_DEEPEST = 64
"""Key paths beyond this many parts get the line of the table around them: a file of long dotted
keys must not cost memory in the square of its size. A policy has eight at most."""
_SHORT = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", "e": "\x1b"}


class Lines:
    """Line numbers (from 1) of the key paths of one text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line = 1
        self._counted = 0
        self._found: dict[Key, int] = {}
        self._headers: set[Key] = set()
        self._arrays: dict[Key, int] = {}
        # Nested beyond what tomli reads as well: what was found so far stands.
        with suppress(RecursionError):
            self._document()

    def __getitem__(self, key: Key) -> int:
        """The line of a key, or of the nearest table around it; 1 when there is none."""
        while key:
            if key in self._found:
                return self._found[key]
            key = key[:-1]
        return 1

    def __contains__(self, key: Key) -> bool:
        return key in self._found

    def _document(self) -> None:
        table: Key = ()
        text, end = self._text, len(self._text)
        while True:
            self._skip(_BLANK)
            if self._at >= end:
                return
            before = self._at
            if text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)
            self._skip(_REST_OF_LINE)
            if self._at == before:
                self._at += 1

    def _header(self) -> Key:
        array = self._text.startswith("[[", self._at)
        line = self._here()
        self._at += 2 if array else 1
        names = self._key()
        key: Key = ()
        for name in names[:-1]:
            key = (*key, name)
            self._note(key, line)
            if key in self._arrays:
                key = (*key, self._arrays[key] - 1)
        if names:
            key = (*key, names[-1])
            if array:
                index = self._arrays.get(key, 0)
                self._arrays[key] = index + 1
                self._note(key, line)
                key = (*key, index)
                self._note(key, line)
            else:
                if key not in self._headers:
                    # `[a]` after `[a.b]`: the table's own header is where a reader looks.
                    self._found[key] = line
                self._headers.add(key)
        return key

    def _pair(self, table: Key) -> None:
        """One ``key = value``; a dotted key makes the tables in between."""
        line = self._here()
        key = table
        for name in self._key():
            key = (*key, name)
            self._note(key, line)
        self._skip(_SPACE)
        if self._text.startswith("=", self._at):
            self._at += 1
            self._value(key)

    def _value(self, key: Key) -> None:
        self._skip(_SPACE)
        text = self._text
        opening = text[self._at : self._at + 1]
        if opening == "[":
            self._at += 1
            index = 0
            while self._more("]"):
                self._note((*key, index), self._here())
                self._value((*key, index))
                index += 1
                self._separator("]")
        elif opening == "{":
            self._at += 1
            while self._more("}"):
                self._pair(key)
                self._separator("}")
        elif opening in ("'", '"'):
            self._string()
        else:
            # Numbers, booleans, dates: up to what can follow a value.
            while self._at < len(text) and text[self._at] not in ",]}#\n":
                self._at += 1

    def _more(self, closing: str) -> bool:
        """True when another item of a list or inline table begins here; else steps over its end."""
        self._skip(_BLANK)
        if self._at >= len(self._text):
            return False
        if self._text[self._at] == closing:
            self._at += 1
            return False
        return True

    def _separator(self, closing: str) -> None:
        before = self._at
        self._skip(_BLANK)
        if self._text.startswith(",", self._at):
            self._at += 1
        elif self._at == before and not self._text.startswith(closing, self._at):
            # Not TOML; move on, or this would never end.
            self._at += 1

    def _key(self) -> list[str]:
        names: list[str] = []
        while True:
            self._skip(_SPACE)
            opening = self._text[self._at : self._at + 1]
            if opening in ("'", '"'):
                names.append(self._string())
            elif bare := _BARE.match(self._text, self._at):
                names.append(bare[0])
                self._at = bare.end()
            else:
                return names[:_DEEPEST]
            self._skip(_SPACE)
            if not self._text.startswith(".", self._at):
                return names[:_DEEPEST]
            self._at += 1

    def _string(self) -> str:
        text = self._text
        for opening, pattern in (
            ('"""', _LONG_BASIC),
            ("'''", _LONG_LITERAL),
            ('"', _BASIC),
            ("'", _LITERAL),
        ):
            if text.startswith(opening, self._at):
                found = pattern.match(text, self._at)
                if found is None:
                    break
                self._at = found.end()
                body = found[0][len(opening) :].removesuffix(opening)
                return _ESCAPE.sub(_unescape, body) if opening[0] == '"' else body
        self._at += 1
        return ""

    def _note(self, key: Key, line: int) -> None:
        if len(key) <= _DEEPEST:
            self._found.setdefault(key, line)

    def _here(self) -> int:
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line

    def _skip(self, pattern: re.Pattern[str]) -> None:
        found = pattern.match(self._text, self._at)
        if found is not None:
            self._at = found.end()


def _unescape(found: re.Match[str]) -> str:
    code = found[1] or found[2] or found[3]
    if code is None:
        return _SHORT.get(found[4], found[4])
    number = int(code, 16)
    return chr(number) if number <= 0x10FFFF else ""
