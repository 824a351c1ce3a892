"""Text that came from an agent or a user, made fit for a record and for a terminal."""

from __future__ import annotations

LIMIT = 1024
"""Bytes of UTF-8 that one string of a record may take."""


def bounded(text: str, limit: int = LIMIT) -> str:
    """``text`` as valid Unicode of at most ``limit`` bytes of UTF-8, a marker at the cut.

    Bytes of a path that are not UTF-8 (surrogates, :pep:`383`) are spelled ``\\udcff``, because
    strict JSON readers refuse a lone surrogate.
    """
    if len(text) * 4 <= limit and text.isascii():
        return text
    data = text.encode("utf-8", "backslashreplace")
    if len(data) <= limit:
        return data.decode()
    marker = f"[cut: {len(data)} bytes]"
    return data[: limit - len(marker)].decode("utf-8", "ignore") + marker


def printable(text: str) -> str:
    """``text`` without anything that a terminal would obey.

    Control characters, line separators, bidirectional overrides and other invisible characters
    (Unicode categories C* and Z* but the space) become ``\\x1b`` and the like.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(character: str) -> str:
    number = ord(character)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
