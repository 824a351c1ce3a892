"""Mount points for masks of paths that do not exist.

A policy may deny ``.git/hooks`` where there is no ``.git`` yet. A mask needs a mount point,
so an empty directory of that name (an *anchor*) is made on the host, and removed again when the
launcher ends. It is made as long as the mask must hold, because otherwise the agent could make it
itself.

Launchers of several sandboxes, also of several users, may be at work in the same place at any
moment, and any of them may be killed. So an anchor

* is known by its mode, which mkdir(2) gives it at once: there is no moment in which one that is
  there is not known as one, and whoever finds one that a killed launcher has left removes it;
* is share-locked (flock(2)) by every launcher that needs it, from before its mask is mounted until
  the sandbox has ended; who has taken the lock looks whether the anchor is still there, and else
  starts over;
* is removed by the one who gets the lock for itself alone: the last one.

An agent may be at work there too. So everything is done by descriptor, what is removed is first
seen to be what was held, and no more than an empty directory is ever removed. A lock of its own
delays nobody: only for another launcher is waited (:mod:`.holders`).
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MODE = 0o1755
"""With the sticky bit, which says nothing in a directory that one user alone can write."""
_MASK, _MARK = 0o1722, 0o1700  # What a default ACL (acl(5)) leaves of the mode: it can take bits.
_ATTEMPTS = 100
"""How often something is tried that another launcher is in the way of."""
_PAUSE = 0.01
"""Seconds between attempts to get a lock that another launcher holds for an instant only."""


def is_anchor(found: os.stat_result) -> bool:
    """True for a directory of the mode that marks an anchor."""
    return stat.S_ISDIR(found.st_mode) and found.st_mode & _MASK == _MARK


def is_empty_anchor(path: str) -> bool:
    """True when there is an anchor at ``path``, and nothing in it."""
    try:
        return is_anchor(os.lstat(path)) and not os.listdir(path)
    except OSError:
        return False


class Anchors:
    """The anchors that one launcher has made, or shares with others that need them too.

    :param wait: sleeps for so many seconds. What it raises ends :meth:`make`, and leaves to
        :meth:`remove` what is there by then.
    """

    def __init__(self, wait: Callable[[float], None] | None = None) -> None:
        self._wait = wait or _sleep
        self.failed_at = -1
        """Index of the step whose directory could not be made; -1 for none."""
        # Name, descriptor of the directory that it is in, and of itself; outermost first.
        self._held: list[tuple[str, int, int]] = []

    def make(self, steps: list[dict[str, Any]]) -> None:
        """Make the directories for the masks of a plan's steps.

        Also where the plan knows a directory: that may have been the anchor of another launcher,
        removed since.

        :raises OSError: naming the mask's path: it cannot be made there, something other than a
            directory has taken the place since the plan was made (ENOTDIR), also a symbolic link
            (ELOOP), or another program keeps it locked (EAGAIN, and which does).
        """
        umask = os.umask(0)  # Of this process, which has one thread: it must not take the mark off.
        try:
            for index, path in _targets(steps):
                self._wait(0.0)
                try:
                    self._walk(path, make=True)
                except OSError as error:
                    self.failed_at = index
                    raise OSError(error.errno, error.strerror, path) from None
        finally:
            os.umask(umask)

    def find(self, steps: list[dict[str, Any]]) -> None:
        """Hold the anchors that are there for the masks of a plan's steps, and make none."""
        for _, path in _targets(steps):
            try:
                self._walk(path, make=False)
            except OSError:
                continue  # Not there, or out of reach: nothing of ours.

    def _walk(self, path: str, *, make: bool) -> None:
        folder = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            at = ""
            for name in path[1:].split("/"):
                at += f"/{name}"
                try:
                    inner = self._enter(folder, name, make)
                except BlockingIOError as error:
                    raise OSError(error.errno, f"{at} {error.strerror}") from None
                os.close(folder)
                folder = inner
        finally:
            os.close(folder)

    def _enter(self, folder: int, name: str, make: bool) -> int:
        """Open a directory, made if it is missing, and held if it is an anchor."""
        fresh = False
        for _ in range(_ATTEMPTS):
            try:
                inner = os.open(name, _DIRECTORY, dir_fd=folder)
            except PermissionError:
                # Passing through is enough; what cannot be read is no anchor.
                return os.open(name, _DIRECTORY | os.O_PATH, dir_fd=folder)
            except FileNotFoundError:
                if not make:
                    raise
                fresh = self._mkdir(folder, name)
                if fresh:
                    _mark(folder, name)
                continue
            if not fresh and not is_anchor(os.fstat(inner)):
                return inner
            try:
                if self._hold(name, folder, inner):
                    return inner
            except BaseException:
                os.close(inner)
                raise
            os.close(inner)  # Its last user has removed it meanwhile.
        raise OSError(errno.EAGAIN, "is made and removed by another process all the time")

    def _hold(self, name: str, folder: int, inner: int) -> bool:
        """Lock an anchor, and keep it locked; False when it is not there any more."""
        held = fcntl.fcntl(inner, fcntl.F_DUPFD_CLOEXEC, 3)
        above = -1
        try:
            self._share(held)
            if not _is_there(name, folder, held):
                return False
            if _holds_anchors_alone(held):
                if os.geteuid() == 0:
                    _give_to_owner(folder, held)
                above = fcntl.fcntl(folder, fcntl.F_DUPFD_CLOEXEC, 3)
                self._held.append((name, above, held))
            return True  # Not held when it is not empty: then it is in use, and nobody removes it.
        finally:
            if above < 0:
                os.close(held)

    def _mkdir(self, folder: int, name: str) -> bool:
        for attempt in range(_ATTEMPTS):
            try:
                os.mkdir(name, _MODE, dir_fd=folder)
            except FileExistsError:
                return False
            except PermissionError:
                # In an anchor that root has made, and gives to its parent's owner in an instant.
                found = os.fstat(folder)
                if attempt == _ATTEMPTS - 1 or not is_anchor(found) or found.st_uid != 0:
                    raise
                self._wait(_PAUSE)
            else:
                return True
        return False

    def _share(self, held: int) -> None:
        """:raises BlockingIOError: somebody keeps it locked, and who."""
        attempt = 0
        while True:
            try:
                fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return
            except BlockingIOError as error:
                # Imported here: no other start needs it.
                from .holders import patience

                seconds, holder = patience(held)
                if attempt * _PAUSE >= seconds:
                    raise BlockingIOError(error.errno, f"is locked by {holder}") from None
            attempt += 1
            self._wait(_PAUSE)

    def remove(self) -> bool:
        """Remove what nobody else needs, and what nobody has put anything into.

        :returns: False when something is left that others still use.
        """
        alone = True
        for name, above, held in reversed(self._held):
            try:
                alone = _remove(name, above, held) and alone
            except OSError as error:
                # Moved away, replaced, or in a place where its maker alone may remove it.
                if error.errno not in _NOT_OURS:
                    raise
            finally:
                os.close(held)
                os.close(above)
        self._held.clear()
        return alone


def remove_left(steps: list[dict[str, Any]]) -> None:
    """Remove the anchors of a launcher that was killed, for the masks of its plan's steps."""
    for _ in range(_ATTEMPTS // 4):
        anchors = Anchors()
        anchors.find(steps)
        if anchors.remove():
            return
        # An init that it has just cloned dies too, and holds copies of its locks until then.
        _sleep(_PAUSE)


def _targets(steps: list[dict[str, Any]]) -> list[tuple[int, str]]:
    return [
        (index, step["target"])
        for index, step in enumerate(steps)
        if step["op"] == "mask" and step["kind"] in ("missing", "directory")
    ]


def _sleep(seconds: float) -> None:
    select.select((), (), (), seconds)


def _is_there(name: str, above: int, held: int) -> bool:
    ours = os.fstat(held)
    try:
        found = os.stat(name, dir_fd=above, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino)


def _mark(folder: int, name: str) -> None:
    """Give a new anchor its mode where a default ACL has left less of it.

    An agent can set one: then nobody, its owner included, might enter what is made there.
    """
    made = os.open(name, _DIRECTORY | os.O_PATH, dir_fd=folder)
    try:
        found = os.fstat(made)
        ours = found.st_mode & stat.S_ISVTX and found.st_uid == os.geteuid()
        if ours and stat.S_IMODE(found.st_mode) != _MODE:
            os.chmod(f"/proc/self/fd/{made}", _MODE)
    finally:
        os.close(made)


def _holds_anchors_alone(held: int) -> bool:
    """True for a directory that is empty, or has nothing but anchors in it."""
    for name in os.listdir(held):
        try:
            if not is_anchor(os.stat(name, dir_fd=held, follow_symlinks=False)):
                return False
        except FileNotFoundError:
            continue
    return True


def _give_to_owner(folder: int, held: int) -> None:
    """As root: give a new anchor to its parent's owner, who may want to use it.

    Every launcher of root's does it, before it makes another one inside.
    """
    found, parent = os.fstat(held), os.fstat(folder)
    if found.st_uid == 0 and not os.listdir(held):
        os.fchown(held, parent.st_uid, parent.st_gid)


def _remove(name: str, above: int, held: int) -> bool:
    """Remove an anchor; False when somebody else still uses it, who removes it later."""
    for _ in range(_ATTEMPTS):
        # Nobody must fail for a lock of one who fails.
        fcntl.flock(held, fcntl.LOCK_UN)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        if not _is_there(name, above, held):
            return True
        try:
            os.rmdir(name, dir_fd=above)
            return True
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise
        if not _holds_anchors_alone(held):
            # Somebody uses the directory for good: a `.git` that became a repository.
            os.fchmod(held, stat.S_IMODE(os.fstat(held).st_mode) & ~stat.S_ISVTX)
            return True
        fcntl.flock(held, fcntl.LOCK_UN)
        # Who uses what is in it removes that first, and then finds this one without a lock.
        if os.listdir(held):
            return False
    return False


_NOT_OURS = (errno.ENOENT, errno.ENOTDIR, errno.EBUSY, errno.EACCES, errno.EPERM)
