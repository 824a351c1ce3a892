"""One spelling for each request path, and every reading that a server may have of it.

What is sent on is the canonical path, so a server sees what was judged. Even so servers differ in
what they make of it: some take ``%2F`` for a slash, some cut ``;parameters`` off. Those readings
are listed: a request is allowed when each of them is, and denied when one is. What can be read in
other ways still (two encodings, dot segments behind an escape, bytes that are no UTF-8) is refused.

RFC 3986 sections 2.3, 3.3, 5.2.4 and 6.2.2; RFC 9110 section 4.2.3.
"""

from __future__ import annotations

import re

import attrs

LONGEST = 8192
"""Characters of the longest path."""
SLASH = "\0"
"""In a reading and in a compiled pattern: an encoded slash, which is not a separator there."""

_PCHAR = r"[A-Za-z0-9._~!$&'()*+,=:@-]"
_PLAIN = re.compile(rf"(?:/(?!\.\.?(?:/|\Z)){_PCHAR}+)*/?", re.ASCII)
_STRANGE = re.compile(r"[^\x21-\x7e]|[#\\]")
_ESCAPE = re.compile(r"%(?:([0-9A-Fa-f]{2})|)")
_TWICE = re.compile(r"%25[0-9A-Fa-f]{2}")
_BARE = re.compile(r'["<>^`{|}\[\]]')
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_HARMLESS_TWICE = frozenset({"%2520"})
"""A space encoded twice: frequent in names that hold ``%20``, and in no way a part of a path."""


class NotAPath(ValueError):
    """A request path cannot be read, or in more than one way. Its message is a clause."""


@attrs.frozen(slots=True)
class Target:
    """A request path in its one spelling."""

    path: str
    """What is to be sent on."""
    query: str
    """What followed the question mark, as it was."""
    readings: tuple[str, ...]
    """What servers may take it for, decoded: what patterns are matched against."""


def canonical(path: str, query: str = "") -> Target:
    """Bring a request path into its one spelling.

    Escapes of unreserved characters are decoded, others get upper-case digits; characters that
    have no place in a path are escaped; empty and dot segments are removed.

    :param path: as it was sent: ``/a/b`` or ``/a/b?query``.
    :raises NotAPath: it is none, or can be read in more than one way.
    """
    if "?" in path:
        if query:
            raise NotAPath("it holds two queries")
        path, _, query = path.partition("?")
    if query and not usable(query):
        raise NotAPath("its query holds a fragment, or a character that has no place in it")
    if len(path) > LONGEST:
        raise NotAPath(f"it is longer than {LONGEST} characters")
    path = path or "/"
    if _PLAIN.fullmatch(path):
        return Target(path, query, (path,))
    if not path.startswith("/"):
        raise NotAPath("it does not begin with a slash")
    if _STRANGE.search(path):
        raise NotAPath("it holds a fragment, a backslash, or a character that has no place in it")
    path = _without_dots(_BARE.sub(_escape, _ESCAPE.sub(_settle, path)))
    if any(each not in _HARMLESS_TWICE for each in _TWICE.findall(path)):
        raise NotAPath("it holds an escape that is encoded twice")
    return Target(path, query, _readings(path))


def usable(query: str) -> bool:
    """Whether a request may have a query, by its characters alone."""
    return not _STRANGE.search(query.replace("\\", ""))


def pattern(text: str, *, wide: bool = False) -> str:
    """A path pattern of a policy, written as readings are: decoded, without empty segments.

    :param wide: for a denial: what cannot be said in the dialect (an escaped ``*``) becomes wider
        and not narrower.
    """
    data = bytearray()
    at = 0
    for match in _ESCAPE.finditer(text):
        data += text[at : match.start()].encode("utf-8", "surrogateescape")
        at = match.end()
        value = int(match[1], 16) if match[1] else -1
        if value == ord("*") and not wide:
            data += b"%2A"  # no reading holds it: they are decoded
        elif value < 0:
            data += b"%"
        else:
            data.append(0 if value == ord("/") else value)
    data += text[at:].encode("utf-8", "surrogateescape")
    decoded = data.decode("utf-8", "surrogateescape")
    return re.sub("/{2,}", "/", decoded)


def _settle(match: re.Match[str]) -> str:
    if match[1] is None:
        raise NotAPath("it holds a percent sign that begins no escape")
    value = int(match[1], 16)
    if value < 0x20 or value in (0x5C, 0x7F):
        raise NotAPath("it holds an encoded control character or backslash")
    if chr(value) in _UNRESERVED:
        return chr(value)
    return f"%{value:02X}"


def _escape(match: re.Match[str]) -> str:
    return f"%{ord(match[0]):02X}"


def _without_dots(path: str) -> str:
    segments = path.split("/")[1:]
    if ".." in segments and "" in segments[:-1]:
        # Whether `//..` climbs one segment or two depends on what is removed first.
        raise NotAPath("it holds a `..` and an empty segment")
    kept: list[str] = []
    for segment in segments:
        if segment == "..":
            if not kept:
                raise NotAPath("a `..` climbs above the root")
            kept.pop()
        elif segment not in ("", "."):
            kept.append(segment)
    directory = segments[-1] in ("", ".", "..") and bool(kept)
    return "/" + "/".join(kept) + ("/" if directory else "")


def _readings(path: str) -> tuple[str, ...]:
    if "%" not in path and ";" not in path:
        return (path,)
    whole = _decoded(path)
    cut = _cut(whole)
    split = _split(whole)
    found = (whole, cut, split, _cut(split), _split(cut))
    return tuple(dict.fromkeys(found))


def _decoded(path: str) -> str:
    data = bytearray()
    at = 0
    for match in _ESCAPE.finditer(path):
        data += path[at : match.start()].encode()
        at = match.end()
        value = int(match[1], 16)
        data.append(0 if value == 0x2F else value)
    data += path[at:].encode()
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise NotAPath("its escapes are no UTF-8") from None


def _cut(path: str) -> str:
    """As a server reads it that takes what follows a semicolon for parameters of a segment."""
    if ";" not in path:
        return path
    segments = [each.partition(";")[0] for each in path.split("/")]
    return _checked(segments)


def _split(path: str) -> str:
    """As a server reads it that decodes a path before it splits it."""
    return _checked(path.replace(SLASH, "/").split("/")) if SLASH in path else path


def _checked(segments: list[str]) -> str:
    if "." in segments or ".." in segments:
        raise NotAPath("a dot segment is hidden behind an escape or parameters")
    inner = [each for each in segments[1:-1] if each]
    return "/".join(("", *inner, segments[-1]))
