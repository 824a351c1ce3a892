"""What the agent sees in the place of a secret: random, and of the same shape.

Programs and SDKs look at a key before they send it: at its beginning, its length, the characters in
it. A placeholder has those of the secret, and nothing else: everything behind a known beginning is
drawn anew, from the kernel's random numbers.

On the path of a start: see the import rule in ``nemoclaw_core/launcher/__init__.py``.
"""

from __future__ import annotations

import os

_LOWER = "abcdefghijklmnopqrstuvwxyz"
_UPPER = _LOWER.upper()
_DIGITS = "0123456789"
_ANY = _LOWER + _UPPER + _DIGITS
_AWS = _UPPER + "234567"
SHORTEST = 16
"""Characters that must be random: a secret with fewer says nothing of its shape."""
_BEGINNING = 12
"""Characters in which a beginning such as ``sk-ant-`` ends."""
_FIXED = ("AIza", "SG.", "ya29.", "AKIA", "ASIA")
"""Beginnings of which no dash tells the end."""
_KEPT = frozenset(".:")
"""Characters that separate the parts of a key."""


def like(secret: str) -> str:
    """A placeholder of the same shape as a secret, or of a fixed one where that would tell much."""
    start = _beginning(secret)
    rest = secret[start:]
    if len(rest) < SHORTEST or not secret.isascii() or not secret.isprintable() or " " in secret:
        return fixed()
    while True:
        found = secret[:start] + _body(rest)
        if found != secret:
            return found


def fixed() -> str:
    """A placeholder for what has no shape that anybody looks at."""
    return "nemoclaw-" + drawn(_ANY, 32)


def aws(secrets: dict[str, str]) -> dict[str, str]:
    """Placeholders of an AWS credential, for the parts that the real one has."""
    found = {
        "access_key_id": secrets["access_key_id"][:4] + drawn(_AWS, 16)
        if secrets["access_key_id"][:4] in _FIXED
        else "AKIA" + drawn(_AWS, 16),
        "secret_access_key": drawn(_ANY, 40),
    }
    if secrets.get("session_token"):
        found["session_token"] = drawn(_ANY, 120)
    return found


def drawn(alphabet: str, count: int) -> str:
    """Characters of an alphabet, each with the same probability."""
    most = 256 - 256 % len(alphabet)
    found: list[str] = []
    while len(found) < count:
        found += [alphabet[each % len(alphabet)] for each in os.urandom(count * 2) if each < most]
    return "".join(found[:count])


def _beginning(secret: str) -> int:
    """How much of a secret is a label that its issuer puts before all of them.

    Labels are words in lower case, each with a dash or underscore behind it. A key that merely has
    a dash early is told from that by its upper-case letters, mostly; otherwise a few characters of
    it are shown.
    """
    for each in _FIXED:
        if secret.startswith(each):
            return len(each)
    end = 0
    for at, char in enumerate(secret[:_BEGINNING]):
        if char in "-_":
            end = at + 1
        elif char not in _LOWER and char not in _DIGITS:
            break
    word = secret[:end].rstrip("-_")
    # Not a group of a number or of a password in groups: abcd-efgh-ijkl.
    return end if word[:1].isalpha() and len(secret) - end >= 20 else 0


def _body(rest: str) -> str:
    if _is_uuid(rest):
        parts = [drawn("0123456789abcdef", len(part)) for part in rest.split("-")]
        # Version 4, and its variant (RFC 9562 section 5.4): some look at those.
        return "-".join((*parts[:2], "4" + parts[2][1:], "a" + parts[3][1:], parts[4]))
    alphabet = _alphabet(rest)
    fresh = iter(drawn(alphabet, len(rest)))
    tail = len(rest.rstrip("="))
    return "".join(
        char if char in _KEPT or at >= tail else next(fresh) for at, char in enumerate(rest)
    )


def _alphabet(rest: str) -> str:
    for alphabet in (_DIGITS, _DIGITS + "abcdef", _DIGITS + "ABCDEF"):
        if all(char in alphabet for char in rest):
            return alphabet
    found = "".join(
        each for each in (_LOWER, _UPPER, _DIGITS) if any(char in each for char in rest)
    )
    return found or _ANY


def _is_uuid(text: str) -> bool:
    parts = text.split("-")
    return [len(part) for part in parts] == [8, 4, 4, 4, 12] and all(
        char in "0123456789abcdef" for part in parts for char in part
    )
