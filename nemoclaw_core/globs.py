"""The one glob dialect: for paths, hosts, HTTP paths and tool names.

=========  =====================================================================================
``*``      any run of characters inside one segment, also none; alone, one whole segment
``**``     a segment of its own: any number of segments. At the deep end of a pattern (the end of
           a path, the beginning of a host) at least one, elsewhere also none
other      itself. There are no escapes, no ``?``, no ``[...]``
=========  =====================================================================================

So ``/a/**`` is all that is in ``/a`` but not ``/a``; ``**/.env`` is ``.env`` and ``x/y/.env``;
``*.example.com`` is one label more than ``example.com``, ``**.example.com`` one or more. A leading
dot is a character like any other: a rule that hides ``*`` hides ``.env`` too.

Standard library's built-ins only: a cached start checks its patterns again with this module.
"""

from __future__ import annotations

import errno
import os
import stat

DEEPEST = 128
"""Segments of the longest path that a walk enters."""
LONGEST = 3072
"""Bytes of it: with one more name (NAME_MAX, 255) the kernel still takes it as one (PATH_MAX)."""
MOST = 1 << 20
"""Directories that one walk looks into, and paths that it finds."""
_ANY = None
"""In a split pattern: one segment, whatever is in it."""


def is_pattern(text: str) -> bool:
    """True when ``text`` holds a wildcard; else it matches itself alone."""
    return "*" in text


def matches(pattern: str, path: str, separator: str = "/") -> bool:
    """Tell whether ``pattern`` covers the whole of ``path``.

    :param separator: what parts segments. With ``"."`` both are read as host names, whose deep
        end is the left one; a name with an empty label matches nothing.
    :raises ValueError: ``**`` stands inside a segment.
    """
    wanted = _split(pattern, separator)
    found = path.split(separator)
    if separator == ".":
        if "" in found:
            return False
        found.reverse()
    # The usual two pointers: on a mismatch, let the last `**` swallow one segment more.
    at = seen = 0
    star = -1
    mark = 0
    while seen < len(found):
        if at < len(wanted) and wanted[at] == "**":
            star, mark = at, seen
            at += 1
        elif at < len(wanted) and _segment(wanted[at], found[seen]):
            at += 1
            seen += 1
        elif star >= 0:
            mark += 1
            at, seen = star + 1, mark
        else:
            return False
    while at < len(wanted) and wanted[at] == "**":
        at += 1
    return at == len(wanted)


def expand(pattern: str, unlistable: list[str] | None = None) -> list[str]:
    """Existing paths that an absolute pattern matches, sorted.

    A symbolic link can match, but is never entered. Directories that this user may not look into,
    and those that lie :func:`too_deep`, are passed over and, when ``unlistable`` is given, appended
    to it: what they hold is unknown. An agent can make paths that the kernel takes from nobody as
    one (more than PATH_MAX), and as many directories as the disk holds.

    :raises ValueError: the pattern is not absolute, or ``**`` stands inside a segment.
    :raises OSError: the file system failed (not: something is missing, or not permitted); E2BIG
        when there is more to look at than :data:`MOST`.
    """
    if not pattern.startswith("/"):
        raise ValueError(f"not an absolute pattern: {pattern!r}")
    segments = pattern.split("/")[1:]
    for segment in segments:
        _check(segment)
    literal = 0
    while literal < len(segments) and "*" not in segments[literal]:
        literal += 1
    base = "/" + "/".join(segments[:literal])
    if literal == len(segments):
        return [base] if os.path.lexists(base) else []
    return sorted(_walk(base, segments[literal:], [] if unlistable is None else unlistable))


def too_deep(path: str) -> bool:
    """True when a walk does not enter a directory, because of the length of its path."""
    # A character is four bytes at most.
    return path.count("/") > DEEPEST or (
        len(path) > LONGEST // 4 and len(os.fsencode(path)) > LONGEST
    )


def _walk(base: str, segments: list[str], unlistable: list[str]) -> set[str]:
    """Breadth is one scandir(3) a directory, whatever the pattern: positions are followed as a
    set, the way a regular expression is run without backtracking."""
    last = len(segments) - 1
    found: set[str] = set()
    # Names stay apart from the directory that they are in: together they may be large.
    pending = [("", base, _close(frozenset({0}), segments))]
    seen = 0
    while pending:
        folder, name, positions = pending.pop()
        directory = f"{folder}{name}"
        if folder and too_deep(directory):
            unlistable.append(directory)
            continue
        if all("*" not in segments[at] for at in positions):
            # Names alone: ask for them. A directory that may be searched needs no listing.
            for at in positions:
                path = f"{directory.rstrip('/')}/{segments[at]}"
                try:
                    mode = os.lstat(path).st_mode
                except PermissionError:
                    unlistable.append(directory)
                    break
                except OSError as error:
                    _missing_or_raise(error)
                    continue
                if at == last:
                    found.add(path)
                elif stat.S_ISDIR(mode):
                    seen += 1
                    following = _close(frozenset({at + 1}), segments)
                    pending.append((f"{directory.rstrip('/')}/", segments[at], following))
            continue
        try:
            entries = os.scandir(directory)
        except PermissionError:
            unlistable.append(directory)
            continue
        except OSError as error:
            _missing_or_raise(error)
            continue
        crossing = frozenset(at for at in positions if segments[at] == "**")
        inside = last in crossing
        stay = _close(crossing, segments)
        # Most patterns end in a plain name: one look into a table for each entry, no more.
        named: dict[str, list[int]] = {}
        wild = []
        for at in positions - crossing:
            if "*" in segments[at]:
                wild.append((segments[at], at))
            else:
                named.setdefault(segments[at], []).append(at)
        inner = f"{directory.rstrip('/')}/"
        with entries:
            for entry in entries:
                name = entry.name
                hits = named.get(name, ())
                if wild:
                    hits = [*hits, *(at for segment, at in wild if _segment(segment, name))]
                if inside or last in hits:
                    found.add(entry.path)
                following = stay
                if hits:
                    further = crossing.union(at + 1 for at in hits if at != last)
                    following = _close(further, segments)
                if following and entry.is_dir(follow_symlinks=False):
                    seen += 1
                    pending.append((inner, name, following))
                if seen > MOST or len(found) > MOST:
                    raise OSError(errno.E2BIG, f"there are more than {MOST} places", directory)
    return found


def _close(positions: frozenset[int], segments: list[str]) -> frozenset[int]:
    """Add what is reached when a ``**`` stands for no segment at all (never the last one)."""
    reached = set(positions)
    for at in sorted(positions):
        while segments[at] == "**" and at + 1 < len(segments):
            at += 1
            reached.add(at)
    return frozenset(reached)


def _missing_or_raise(error: OSError) -> None:
    # Gone since its directory was listed, or not a directory.
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
        raise error


def _check(segment: str) -> None:
    if "**" in segment and segment != "**":
        raise ValueError(f"'**' must be a whole segment, not a part of {segment!r}")


def _split(pattern: str, separator: str) -> list[str | None]:
    segments = pattern.split(separator)
    for segment in segments:
        _check(segment)
    if separator == ".":
        segments.reverse()
    if segments[-1] == "**":
        return [*segments, _ANY]
    return [*segments]


def _segment(pattern: str | None, name: str) -> bool:
    if pattern is _ANY:
        return True
    if "*" not in pattern:
        return pattern == name
    if not name:
        return False
    first, *middle, last = pattern.split("*")
    at, end = len(first), len(name) - len(last)
    if at > end or not name.startswith(first) or not name.endswith(last):
        return False
    for part in middle:
        place = name.find(part, at, end)
        if place < 0:
            return False
        at = place + len(part)
    return True
