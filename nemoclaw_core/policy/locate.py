"""Which policy of which file is meant."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator

import attrs
from nemoclaw_hookspecs import PolicyError, UsageError

from nemoclaw_core import state, trust
from nemoclaw_core.events.text import printable
from nemoclaw_core.observe import observe

from . import files
from .check import look_through, read_shipped, read_source
from .context import Context
from .problems import Misfit, Problem, nearest, quoted
from .reader import Source
from .values import KINDS, PolicyName
from .walk import Observer

DEFAULT = "default"
FILE_NAME = trust.FILE_NAME
_PATIENCE = 10
"""Hundredths of a second."""


@attrs.frozen(slots=True, kw_only=True)
class Located:
    """A policy that was found, and the shipped file that it may build on."""

    source: Source
    name: str
    shipped: Source


def split_selector(selector: str | None) -> tuple[str | None, str]:
    """``FILE``, ``FILE:NAME``, ``NAME`` or None, as a file (None: look it up) and a name.

    A selector with a slash, or that ends in ``.toml``, names a file.

    :raises PolicyError: it is neither.
    :raises UsageError: it is empty.
    """
    if selector is None:
        return None, DEFAULT
    if not selector:
        raise UsageError(
            "the policy that was named is empty",
            remedy="name one, or leave it out for the default policy; a variable of your shell may "
            "not be set",
        )
    head, colon, tail = selector.rpartition(":")
    if colon and _is_file(head) and not _is_file(tail):
        _check_name(tail, selector)
        return head, tail
    if _is_file(selector):
        return selector, DEFAULT
    _check_name(selector, selector)
    return None, selector


def locate(
    selector: str | None, context: Context, observer: Observer, *, named: bool = True
) -> Located:
    """Find the policy that a selector means.

    A name is looked up in ``./policies.toml``, then in the user's own file, then in the one that
    ships; the first file that has it wins.

    :param named: a person has named the file. Else it is one that an earlier selector meant, and
        must not be an agent's.
    :raises PolicyError: there is no such policy or file, or a file on the way is not valid, or an
        agent may have written it (:mod:`nemoclaw_core.trust`). Such a file is never passed over:
        the next one may permit more.
    :raises NemoclawError: what is noted about such files cannot be relied on.
    """
    file, name = split_selector(selector)
    shipped, path = read_shipped()
    observer.note(path, "file", shipped.digest)
    if file is not None:
        path = _placed(file, context)
        source = _read(path, context, observer, shipped, unasked=not named)
        if name not in source.document.policy:
            raise _unknown(name, [source], context)
        return Located(source=source, name=name, shipped=shipped)
    searched = []
    for candidate in candidates(context):
        observer.note(candidate, "file", observe(candidate, "file"))
        if _absent(candidate, observer):
            _refuse_missing(candidate, context, observer)
            continue
        source = _read(candidate, context, observer, shipped, unasked=True)
        if name in source.document.policy:
            return Located(source=source, name=name, shipped=shipped)
        searched.append(source)
    if name in shipped.document.policy:
        return Located(source=shipped, name=name, shipped=shipped)
    raise _unknown(name, [*searched, shipped], context, plain=True)


def candidates(context: Context) -> tuple[str, ...]:
    """The files in which a name is looked up before the one that ships."""
    # Nothing can be found in a current directory that is gone.
    folders = (context.cwd, context.config_dir) if context.cwd else (context.config_dir,)
    return tuple(os.path.join(folder, FILE_NAME) for folder in folders)


def read_file(path: str, context: Context) -> tuple[Source, Source]:
    """Read one policy file, and the one that ships.

    :raises PolicyError: see :func:`locate`.
    """
    shipped, _ = read_shipped()
    path = _placed(path, context)
    return _read(path, context, Observer(), shipped, names=False), shipped


def look_through_file(path: str, context: Context) -> tuple[Source, Source, list[Problem]]:
    """As :func:`read_file`, but return the problems of the file with what could be read of it.

    :raises PolicyError: there is nothing to look at.
    """
    shipped, _ = read_shipped()
    path = os.path.normpath(_placed(path, context))
    content, digest = files.read_file(path, context.uid, names=False)
    source, problems = look_through(path, content, digest, shipped)
    return source, shipped, problems


def _placed(file: str, context: Context) -> str:
    if not context.cwd and not file.startswith("/"):
        raise UsageError(
            f"{printable(file)} is below the current directory, which does not exist any more",
            remedy="cd to a directory that exists, or give all of the file's path",
        )
    return os.path.join(context.cwd, file)


def _read(
    path: str,
    context: Context,
    observer: Observer,
    shipped: Source,
    *,
    unasked: bool = False,
    names: bool = True,
) -> Source:
    """:param unasked: nobody named the file, so it must not be an agent's.
    :param names: see :func:`nemoclaw_core.policy.files.read_file`.
    """
    path = os.path.normpath(path)
    content, digest = files.read_file(path, context.uid, names=names)
    observer.note(path, "file", digest)
    if unasked and not _is_walled(path, context):
        _refuse_planted(path, digest, observer)
    return read_source(path, content, digest, shipped)


def _is_walled(path: str, context: Context) -> bool:
    """Whether a file is the user's own, where it usually is: that is out of every agent's reach,
    also where what is above it is not. Where XDG_CONFIG_HOME says that it is elsewhere, only those
    starts knew of it that had that variable."""
    folder = os.path.dirname(path)
    own = os.path.normpath(context.config_dir)
    return folder == own and folder in map(os.path.normpath, state.usual_dirs(context.home))


def _refuse_planted(path: str, digest: str, observer: Observer) -> None:
    noted = os.path.join(state.state_dir(), trust.TRUSTED)
    # A plan is compiled anew when the user vouches for another version of the file.
    observer.note(noted, "file", observe(noted, "file"))
    reason = trust.verdict(path, digest)
    if reason is not None:
        raise PolicyError(
            f"is not used, because nobody named it and {printable(reason)}",
            where=printable(path),
            remedy=f"look at it, then `nemoclaw policy trust {printable(shlex.quote(path))}`; "
            "or name the policy's file with --policy",
        )


def _refuse_missing(path: str, context: Context, observer: Observer) -> None:
    """Do not pass over a file that an agent may have taken away, for the next one to hold."""
    if _is_walled(path, context):
        return
    for name in (trust.TRUSTED, trust.USED):
        noted = os.path.join(state.state_dir(), name)
        observer.note(noted, "file", observe(noted, "file"))
    reason = trust.missing_verdict(path)
    if reason is not None:
        raise PolicyError(
            f"was used, is not there any more, and {printable(reason)}",
            where=printable(path),
            remedy="restore it; or, if you took it away yourself, `nemoclaw policy trust --forget "
            f"{printable(shlex.quote(path))}`; or name a policy's file with --policy",
        )


def _absent(path: str, observer: Observer) -> bool:
    """Nothing is there, or what a running sandbox keeps in the place of a policy file that does not
    exist, so that its agent cannot make one: an empty mount point (``launcher.anchors``).

    :raises PolicyError: it cannot be told, or it is a directory that is no such mount point.
    """
    found = _look(path)
    if found is None:
        return True
    if not stat.S_ISDIR(found.st_mode):
        return False  # A link, or something that reading it will complain about.
    for _ in range(_PATIENCE):
        if observe(path, "anchor") == "yes":
            observer.note(path, "anchor", "yes")
            return True
        # Between two looks one may be removed, and another one made.
        found = _look(path)
        if found is None or not stat.S_ISDIR(found.st_mode):
            return found is None
    raise PolicyError(
        "is a directory, where a policy file is looked for",
        where=printable(path),
        remedy=f"`rmdir {printable(shlex.quote(path))}`, if it is empty and no sandbox of another "
        "user runs here, else move it away; or name the policy's file with --policy",
    )


def _look(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise PolicyError(
            f"cannot be looked for: {error.strerror}",
            where=printable(path),
            remedy=f"give yourself access to {printable(os.path.dirname(path))}, or name the "
            "policy's file with --policy",
        ) from None


def _is_file(text: str) -> bool:
    return "/" in text or text.endswith(".toml")


def _check_name(name: str, selector: str) -> None:
    try:
        KINDS[PolicyName].read(name)
    except Misfit as error:
        raise PolicyError(
            f"{quoted(selector)} names no policy: {error.what}",
            remedy="write NAME, FILE or FILE:NAME; a file has a slash or ends in .toml",
        ) from None


def _unknown(
    name: str, sources: list[Source], context: Context, *, plain: bool = False
) -> PolicyError:
    """:param plain: the name was given without a file."""
    known: Iterator[str] = (each for source in sources for each in source.document.policy)
    names = list(dict.fromkeys(known))
    near = nearest(name, names)
    listed = f"There is {', '.join(names)}" if names else "There is none"
    remedy = f"did you mean {near}? {listed}" if near else f"name one that is there. {listed}"
    if plain and context.cwd and os.path.isfile(os.path.join(context.cwd, name)):
        remedy = f"write ./{name} if you mean that file. {listed}"
    return PolicyError(
        f'there is no policy "{name}"',
        where=", ".join(source.file for source in sources),
        remedy=remedy,
    )
