"""Which policy files an agent may have written: what each sandbox could write, and who vouched.

A start looks for ``./policies.toml`` unasked. An agent cannot write that name in the directory that
it was started in, or in its work directory (:mod:`nemoclaw_core.policy.resolve`, the walls), but it
can further down, and wait until its user starts nemoclaw there. So every start first notes what its
sandbox can write, and a policy file in such a place is used unasked only after the user has said so
(`nemoclaw policy trust`). An agent can also take a file away there, so that a start finds the next
one, and put a link in a directory's place. The files lie in the state directory, which no sandbox
can see:

====================  ==========================================================================
``writable-roots``    ``guarded PATH`` or ``open PATH``: everything at or below PATH could be
                      written; in a guarded directory all but its own ``policies.toml``
``trusted-policies``  ``DIGEST PATH``: the file at PATH may be used while its content has this
                      BLAKE2b-256; the last line for a path counts
``used-policies``     ``used PATH``: the file at PATH was found unasked and used; in either file
                      ``forgotten PATH`` undoes what stands above it
====================  ==========================================================================

Lines are only ever added. Standard library's built-ins only: this is on the path of every start.
"""

from __future__ import annotations

import os
import stat

from nemoclaw_hookspecs.errors import NemoclawError

from .state import ensure_private, state_dir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

FILE_NAME = "policies.toml"
"""The policy file that is looked for in the current directory."""
ROOTS = "writable-roots"
TRUSTED = "trusted-policies"
USED = "used-policies"
_USED, _FORGOTTEN = "used", "forgotten"
_GUARDED, _OPEN = "guarded", "open"
# LANDLOCK_ACCESS_FS_WRITE_FILE, MAKE_REG and MAKE_SYM (linux/landlock.h): each gives a file of
# the agent's making a place.
_LANDLOCK_WRITE = 1 << 1 | 1 << 8 | 1 << 12
_MAX_LINKS = 40  # as in the kernel: path_resolution(7)


def record_writable(plan: Mapping[str, Any]) -> tuple[str, ...]:
    """Note what the agent of a plan can write; call it before anything of the plan is started.

    :param plan: encoded, as :mod:`nemoclaw_core.seal` says.
    :returns: everything that was ever noted.
    :raises NemoclawError: it could not be noted, so the agent must not start.
    """
    known = _roots()
    added = []
    # What holds others first: what is below a noted directory need not be noted again.
    for path, mark in sorted(_writable(plan)):
        if not _is_noted(path, mark, known):
            known[path] = mark
            added.append((mark, path))
    if added:
        _append(ROOTS, added)
    return tuple(known)


def verdict(path: str, digest: str) -> str | None:
    """Why a policy file may not be used unasked; None if it may.

    :param path: the file, which exists. Symbolic links on the way count as what they are: names
        that whoever can write there chose.
    :param digest: of the content that is about to be used (:func:`nemoclaw_core.observe.digest`).
    :raises NemoclawError: nemoclaw's own notes cannot be relied on.
    """
    roots = _roots()
    if not roots:
        return None
    for place in _places(os.path.abspath(path)):
        root = _reached(place, roots)
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
    roots = _roots()
    noted = _identity(path)
    if not roots or (noted not in trusted() and noted not in _valid(USED)):
        return None
    for place in _places(os.path.abspath(path)):
        root = _reached(place, roots)
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


def follow(path: str) -> tuple[str, tuple[str, str] | None]:
    """Where a path leads; and the first symbolic link on the way that somebody else may have made,
    and why, or None if there is none.

    Each name is read once: what is judged is what was followed, whoever swaps names meanwhile.

    :param path: absolute.
    :returns: a path in which no name was a symbolic link.
    :raises NemoclawError: the links lead in a circle, names change while they are read, or
        nemoclaw's own notes cannot be relied on.
    """
    *links, real = _places(path)
    return real, _planted(links) if links else None


def under_agents(path: str) -> str | None:
    """The directory above an absolute path, or itself, that a sandbox could write to."""
    roots = _roots()
    real = os.path.abspath(path)
    return next((each for each in (real, *_above(real)) if each in roots), None)


def _planted(links: list[str]) -> tuple[str, str] | None:
    roots = _roots()
    # The owner of `/` is the machine's root, also where a user namespace shows it as nobody.
    ours = (0, os.geteuid(), os.lstat("/").st_uid)
    for link in links:
        # What a sandbox could write is no link itself: it was opened without following one.
        root = next((each for each in _above(link) if each in roots), None)
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
    for word, path in _lines(name):
        if word == _FORGOTTEN:
            found.pop(path, None)
        else:
            found[path] = word
    return found


def _writable(plan: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Paths of the host that the agent can write, and whether a policy file in them is guarded."""
    steps = plan["steps"]
    if any(step["op"] == "enter_view" for step in steps):
        masks = {step["target"] for step in steps if step["op"] == "mask"}
        for step in steps:
            if step["op"] != "bind_mount" or step["read_only"]:
                continue
            if step["kind"] in ("directory", "file"):
                own = f"{step['target'].rstrip('/')}/{FILE_NAME}"
                yield step["source"], _GUARDED if own in masks else _OPEN
        return
    # No view of its own: the agent meets the host's files, and Landlock says which.
    rulesets = [
        step
        for step in steps
        if step["op"] == "landlock_ruleset" and step["handled_fs"] & _LANDLOCK_WRITE
    ]
    for ruleset in rulesets:
        for rule in ruleset["rules"]:
            if rule["access"] & _LANDLOCK_WRITE and not rule["path"].startswith("/dev/"):
                yield rule["path"], _OPEN
    if not rulesets:
        yield plan["workdir"], _OPEN


def _is_noted(path: str, mark: str, known: Mapping[str, str]) -> bool:
    if known.get(path) in (_OPEN, mark):
        return True
    return any(each in known for each in _above(path))


def _reached(place: str, roots: Mapping[str, str]) -> str | None:
    """The directory that an agent could write and in which ``place`` is something of its making."""
    if place in roots:
        return place
    folder, name = os.path.split(place)
    for above in _above(place):
        mark = roots.get(above)
        if mark == _OPEN or (mark == _GUARDED and (above, name) != (folder, FILE_NAME)):
            return above
    return None


def _above(path: str) -> Iterator[str]:
    """The directories above an absolute path, the nearest first."""
    while path != "/":
        path = os.path.dirname(path)
        yield path


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


def _roots() -> dict[str, str]:
    """What was noted as writable; a directory that was open once is open."""
    roots: dict[str, str] = {}
    for mark, path in _lines(ROOTS):
        if roots.get(path) != _OPEN:
            roots[path] = mark
    return roots


def _lines(name: str) -> Iterator[tuple[str, str]]:
    """First word and path of each line; nothing when there is no such file."""
    path = os.path.join(state_dir(), name)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    except OSError as error:
        raise NemoclawError(f"cannot be read: {error.strerror}", where=path) from None
    try:
        _check(path, descriptor)
        content = b""
        while chunk := os.read(descriptor, 1 << 16):
            content += chunk
    finally:
        os.close(descriptor)
    for line in os.fsdecode(content).split("\n"):
        word, _, escaped = line.partition(" ")
        if escaped.startswith("/"):
            yield word, _unescape(escaped)


def _append(name: str, entries: list[tuple[str, str]]) -> None:
    path = os.path.join(state_dir(), name)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    # A newline first: a line that a full disk cut short does not swallow the next one.
    data = os.fsencode("".join(f"\n{word} {_escape(each)}" for word, each in entries) + "\n")
    try:
        ensure_private(state_dir())
        descriptor = os.open(path, flags, 0o600)
        try:
            _check(path, descriptor)
            # One write at the end of the file: another start's lines do not get between.
            whole = os.write(descriptor, data) == len(data)
            # What the agent writes may outlive a power failure; so must this.
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise NemoclawError(f"cannot be written: {error.strerror}", where=path) from None
    if not whole:
        raise NemoclawError("cannot be written whole", where=path, remedy="make room on the disk")


def _escape(path: str) -> str:
    return path.replace("\\", "\\\\").replace("\n", "\\n")


def _unescape(text: str) -> str:
    return "\\".join(part.replace("\\n", "\n") for part in text.split("\\\\"))


def _check(path: str, descriptor: int) -> None:
    found = os.fstat(descriptor)
    ours = found.st_uid == os.geteuid() and stat.S_ISREG(found.st_mode) and found.st_nlink == 1
    if not ours or found.st_mode & 0o022:
        raise NemoclawError(
            "is not a file that only you can write",
            where=path,
            remedy=f"look inside, then make it yours: chown, chmod go-w {path}",
        )
