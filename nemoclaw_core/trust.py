"""Which policy files an agent may have written: what each sandbox could write, and who vouched.

A start looks for ``./policies.toml`` unasked. An agent cannot write that name in the directory that
it was started in, or in its work directory (:mod:`nemoclaw_core.policy.resolve`, the walls), but it
can further down, and wait until its user starts nemoclaw there. So every start first notes what its
sandbox can write, and a policy file in such a place is used unasked only after the user has said so
(`nemoclaw policy trust`). An agent can also take a file away there, so that a start finds the next
one, and put a link in a directory's place. The files lie in the state directory, which no sandbox
can see; what each sandbox could write is the subject of :mod:`.written`.

====================  ==========================================================================
``trusted-policies``  ``DIGEST PATH``: the file at PATH may be used while its content has this
                      BLAKE2b-256; the last line for a path counts
``used-policies``     ``used PATH``: the file at PATH was found unasked and used; in either file
                      ``forgotten PATH`` undoes what stands above it
====================  ==========================================================================

Lines are only ever added. Standard library's built-ins only: this is on the path of every start.
"""

from __future__ import annotations

import os

from nemoclaw_hookspecs.errors import NemoclawError

from . import notes
from .state import ensure_private, state_dir
from .written import FILE_NAME, ROOTS, Roots, above, record_writable

__all__ = [
    "FILE_NAME",
    "ROOTS",
    "TRUSTED",
    "USED",
    "Way",
    "forget",
    "missing_verdict",
    "record_used",
    "record_writable",
    "trust",
    "trusted",
    "verdict",
]

TRUSTED = "trusted-policies"
USED = "used-policies"
_USED, _FORGOTTEN = "used", "forgotten"
_MAX_LINKS = 40  # as in the kernel: path_resolution(7)


class Way:
    """Where a path led, when each of its names was read once: what is judged is what was followed,
    whoever swaps names meanwhile.

    :param path: absolute.
    :raises NemoclawError: the links lead in a circle, or names change while they are read.
    """

    def __init__(self, path: str) -> None:
        self._places = _places(path)
        self.path = self._places[-1]
        """A path in which no name was a symbolic link."""

    def planted(self) -> tuple[str, str] | None:
        """The first link that somebody else may have made, and why; None if there is none.

        :raises NemoclawError: nemoclaw's own notes cannot be relied on.
        """
        links = self._places[:-1]
        return _planted(links, Roots()) if links else None

    def astray(self, path: str) -> str | None:
        """The first directory on the way that a sandbox could write: whoever did may have led the
        way to any place. None if there is none, or if it holds ``path``, by any name.

        :raises NemoclawError: nemoclaw's own notes cannot be relied on.
        """
        roots = Roots()
        root = next(filter(None, map(roots.around, self._places)), None)
        if root is None or any(root in (name, *above(name)) for name in roots.names(path)):
            return None
        return root


def verdict(path: str, digest: str) -> str | None:
    """Why a policy file may not be used unasked; None if it may.

    :param path: the file, which exists. Symbolic links on the way count as what they are: names
        that whoever can write there chose.
    :param digest: of the content that is about to be used (:func:`nemoclaw_core.observe.digest`).
    :raises NemoclawError: nemoclaw's own notes cannot be relied on.
    """
    roots = Roots()
    if not roots:
        return None
    for place in _places(os.path.abspath(path)):
        root = roots.reaching(place)
        if root is not None and trusted().get(_identity(path)) != digest:
            return f"an agent may have written it: a sandbox could write to {root}"
    return None


def trust(path: str, digest: str) -> str:
    """Let a policy file be used unasked while its content has this digest.

    :returns: the path that was noted, without symbolic links in its directory.
    :raises NemoclawError: it could not be noted.
    """
    noted = _identity(path)
    _append(TRUSTED, [(digest, noted)])
    return noted


def trusts(path: str, digest: str) -> bool:
    """Whether the user vouched for a file with that content.

    :raises NemoclawError: the file that says so cannot be relied on.
    """
    return trusted().get(_identity(path)) == digest


def trusted() -> dict[str, str]:
    """The digest of each policy file that the user vouched for, by path.

    :raises NemoclawError: the file that says so cannot be relied on.
    """
    return _valid(TRUSTED)


def record_used(path: str) -> None:
    """Note that a policy file was found unasked and used.

    :raises NemoclawError: it could not be noted.
    """
    noted = _identity(path)
    if noted not in _valid(USED):
        _append(USED, [(_USED, noted)])


def missing_verdict(path: str) -> str | None:
    """Why a start may not do without a policy file that is not there; None if it may.

    :raises NemoclawError: nemoclaw's own notes cannot be relied on.
    """
    roots = Roots()
    if not roots:
        return None
    known = {**trusted(), **_valid(USED)}
    if not any(name in known for name in roots.names(_identity(path))):
        return None
    for place in _places(os.path.abspath(path)):
        root = roots.reaching(place)
        if root is not None:
            return f"an agent may have taken it away: a sandbox could write to {root}"
    return None


def forget(path: str) -> bool:
    """Take back that a policy file was vouched for, or used. False if neither was.

    :raises NemoclawError: it could not be noted.
    """
    noted = _identity(path)
    known = [name for name in (TRUSTED, USED) if noted in _valid(name)]
    for name in known:
        _append(name, [(_FORGOTTEN, noted)])
    return bool(known)


def _planted(links: list[str], roots: Roots) -> tuple[str, str] | None:
    # The owner of `/` is the machine's root, also where a user namespace shows it as nobody.
    ours = (0, os.geteuid(), os.lstat("/").st_uid)
    for link in links:
        # What a sandbox could write is no link itself: it was opened without following one.
        root = roots.around(os.path.dirname(link))
        if root is not None:
            return link, f"an agent may have made it: a sandbox could write to {root}"
        try:
            owner = os.lstat(link).st_uid
        except OSError:
            return link, "it was taken away while it was looked at"
        if owner not in ours:
            return link, f"it belongs to user {owner}, who can change it"
    return None


def _valid(name: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for word, path in notes.lines(_path(name), (os.geteuid(),)):
        if word == _FORGOTTEN:
            found.pop(path, None)
        else:
            found[path] = word
    return found


def _places(path: str) -> list[str]:
    """Every name that decides what an absolute path leads to: the symbolic links on it, and the end
    of it.

    All are free of symbolic links themselves, but for the last part.
    """
    links: list[str] = []
    real = "/"
    rest = path.split("/")[::-1]
    while rest:
        part = rest.pop()
        if part in ("", "."):
            continue
        if part == "..":
            real = os.path.dirname(real)
            continue
        here = os.path.join(real, part)
        try:
            text = os.readlink(here)
        except OSError:
            real = here  # No link, or nothing at all: whoever opens it will see.
            continue
        links.append(here)
        if len(links) > _MAX_LINKS:
            raise NemoclawError("leads through too many symbolic links", where=path)
        real = "/" if text.startswith("/") else real
        rest += text.split("/")[::-1]
    return [*links, real]


def _identity(path: str) -> str:
    # The name itself is not followed: what one file is trusted for, a link to it is not.
    folder, name = os.path.split(os.path.abspath(path))
    return os.path.join(os.path.realpath(folder), name)


def _path(name: str) -> str:
    return os.path.join(state_dir(), name)


def _append(name: str, entries: list[tuple[str, str]]) -> None:
    ensure_private(state_dir())
    try:
        notes.add(_path(name), entries)
    except OSError as error:
        raise NemoclawError(f"cannot be written: {error.strerror}", where=_path(name)) from None
