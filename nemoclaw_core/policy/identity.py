"""Who the agent runs as."""

from __future__ import annotations

import pwd

import attrs

from .context import Context
from .problems import Misfit, nearest

NONROOT = 65532
"""User and group of an agent that root starts: the ``nonroot`` of distroless images."""

HIGHEST = (1 << 32) - 2
"""The id 2**32 - 1 means "no change" to the kernel (setresuid(2))."""


@attrs.frozen(slots=True)
class Identity:
    """A user and a group, and whether they are others than the caller's."""

    uid: int
    gid: int
    switch: bool
    looked_up: bool = False
    """True when /etc/passwd had a say."""


def identity(user: str, context: Context) -> Identity:
    """The ids behind ``process.user``.

    :param user: ``auto``, a name, ``UID`` or ``UID:GID``.
    :raises Misfit: unknown, root, or not the caller where the caller is not root.
    """
    if user == "auto":
        if context.uid == 0:
            return Identity(NONROOT, NONROOT, True)
        return Identity(context.uid, context.gid, False)
    uid, gid, looked_up = _ids(user)
    if uid == 0 or gid == 0:
        what = "an agent never runs as root" if uid == 0 else "an agent never runs in root's group"
        raise Misfit(what, 'write "auto" or an unprivileged user')
    if uid > HIGHEST or gid > HIGHEST:
        raise Misfit(f"an id is at most {HIGHEST}")
    if context.uid != 0 and (uid, gid) != (context.uid, context.gid):
        raise Misfit(
            f"only root can run an agent as another user, and you are {context.uid}",
            'write "auto", or start nemoclaw as root',
            depends_on="the caller",
        )
    return Identity(uid, gid, context.uid == 0, looked_up)


def _ids(user: str) -> tuple[int, int, bool]:
    first, colon, second = user.partition(":")
    if first.isdecimal():
        uid = int(first)
        if colon:
            return uid, int(second), False
        if uid > HIGHEST:
            raise Misfit(f"an id is at most {HIGHEST}")
        try:
            return uid, pwd.getpwuid(uid).pw_gid, True
        except KeyError:
            return uid, uid, True
    try:
        found = pwd.getpwnam(user)
    except KeyError:
        near = nearest(user, [each.pw_name for each in pwd.getpwall()])
        remedy = f'did you mean "{near}"?' if near else "`getent passwd` lists the users"
        raise Misfit(f'there is no user "{user}"', remedy) from None
    return found.pw_uid, found.pw_gid, True
