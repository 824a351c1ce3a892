"""UNIX sockets that programs of the host have in directories that the view shows.

Connecting to a socket by path needs no right that a read-only mount or Landlock (before its ABI 9)
could withhold, and the program at the other end is outside. So those that somebody serves when a
sandbox starts are covered. A policy shows one by naming the socket itself.

The kernel's table of sockets says how each was named when it was bound (unix(7)). That says where
it is only where nobody rearranges names, and it says it for this network namespace alone. So the
table is asked for what can only be read. What an agent can write, or could once, is searched: a
socket is found there under whatever names it has now.
"""

from __future__ import annotations

import _socket
import errno
import os
import stat
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Any

DEEPEST, LONGEST = 128, 3072
"""Segments and bytes of the longest path of a directory that is searched. With one more name the
kernel still takes it as one (PATH_MAX)."""
MOST_DIRECTORIES = 1 << 20
MOST_FOUND = 1000
"""Sockets and unsearchable directories that one sandbox can be protected from: each is a mount."""
_MOST_EARLY = 1 << 13
"""Directories of an early search: about as long as a start takes besides."""
_FRESH = 1.0
"""Seconds after which an early search is made again."""


class Found:
    """What a search came upon: paths.

    :param sockets: names of sockets that somebody serves.
    :param closed: directories that could not be searched, and of which an agent might reach what
        they hold.
    """

    def __init__(self) -> None:
        self.sockets: list[str] = []
        self.closed: list[str] = []

    def check(self, place: str) -> None:
        """:raises OSError: E2BIG: there are more than :data:`MOST_FOUND`."""
        if len(self.sockets) + len(self.closed) > MOST_FOUND:
            raise OSError(
                errno.E2BIG,
                f"there are more than {MOST_FOUND} sockets and unreadable directories to keep from"
                " the agent",
                place,
            )


def outermost(folders: Collection[str]) -> list[str]:
    """Those that lie in none of the others."""
    kept: list[str] = []
    # With a slash behind it, a directory stands right before all that lies in it.
    for folder in sorted(set(folders), key=lambda each: each.rstrip("/") + "/"):
        if not kept or not covers(kept[-1], folder):
            kept.append(folder)
    return kept


def covers(outer: str, inner: str) -> bool:
    """True when ``inner`` is ``outer`` or lies below it."""
    return outer in ("/", inner) or inner.startswith(outer + "/")


def rearranged(steps: list[dict[str, Any]], written: Collection[str]) -> list[str]:
    """The directories of the host to be searched: shown, and writable by this plan's agent or at
    some time by another.

    :param written: what agents could ever write.
    """
    shown = [step for step in steps if step["op"] == "bind_mount" and step["kind"] == "directory"]
    folders = [step["source"] for step in shown if not step["read_only"]]
    for step in shown:
        if step["read_only"]:
            source = step["source"]
            folders += [path for path in written if covers(source, path)]
            if any(covers(path, source) for path in written):
                folders.append(source)
    return outermost(folders)


def search(
    tree: str, *, most: int = MOST_DIRECTORIES, wanted: Callable[[], None] | None = None
) -> Found:
    """Look through a tree of the host. Symbolic links are not followed.

    :param most: directories to look into.
    :param wanted: called for each of them; what it raises ends the search.
    :raises OSError: the file system failed; E2BIG: there is more to look at, or to cover.
    """
    found = Found()
    pending = [tree]
    seen = 1
    while pending:
        folder = pending.pop()
        if wanted is not None:
            wanted()
        if folder.count("/") > DEEPEST or len(os.fsencode(folder)) > LONGEST:
            found.closed.append(folder)
            found.check(folder)
            continue
        try:
            entries = os.scandir(folder)
        except PermissionError:
            _close(folder, found)
            continue
        except (FileNotFoundError, NotADirectoryError):
            continue  # Gone since its name was read.
        with entries:
            for entry in entries:
                # Asked in the order of what is frequent. The kernel says it with the name.
                if entry.is_file(follow_symlinks=False):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                    seen += 1
                elif not entry.is_symlink():
                    try:
                        served = is_served(entry.path)
                    except PermissionError:
                        _close(entry.path, found)
                        continue
                    if served:
                        found.sockets.append(entry.path)
                        found.check(folder)
        if seen > most:
            raise OSError(errno.E2BIG, f"there are more than {most} directories", folder)
    return found


def _close(path: str, found: Found) -> None:
    """Add the directory that keeps this user from looking at ``path``, unless it keeps an agent
    from it just as well: the agent can give itself what rights its user can give."""
    folder = path
    while True:
        try:
            state = os.lstat(folder)
            break
        except PermissionError:
            folder = os.path.dirname(folder)  # It may be listed and not be passed through.
        except OSError:
            return  # Gone since its name was read.
    # Root that is refused cannot tell what the owner would be let do.
    may_change = os.geteuid() in (0, state.st_uid)
    if (may_change or os.access(folder, os.X_OK)) and folder not in found.closed:
        found.closed.append(folder)
        found.check(folder)


def is_served(path: str) -> bool:
    """True when something is bound to the socket at this path.

    What the socket would be told by being connected to is nothing: a datagram socket learns of no
    peer before the first message, and those of other types refuse one (EPROTOTYPE) as long as
    they exist. A name whose socket is closed answers ECONNREFUSED, and does so for good, because
    bind(2) makes a new inode each time.

    :raises PermissionError: a directory on the way may not be passed through.
    """
    try:
        descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False  # Its name is gone: nobody can connect to it by path.
    probe = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return False
        probe.connect(f"/proc/self/fd/{descriptor}")
    except OSError as error:
        return error.errno != errno.ECONNREFUSED
    finally:
        probe.close()
        os.close(descriptor)
    return True


class Early:
    """A search of one tree that is made while the plan is not there yet, for the next sandbox.

    :param wanted: see :func:`search`.
    """

    def __init__(self, tree: str, wanted: Callable[[], None]) -> None:
        self._tree = tree
        self._began = time.monotonic()
        self._found: Found | None = None
        try:
            self._found = search(tree, most=_MOST_EARLY, wanted=wanted)
        except OSError:
            pass  # Made again when it counts; then it raises.

    def of(self, tree: str) -> Found | None:
        """What was found in ``tree``; None when that is not known, or not any more."""
        fresh = time.monotonic() - self._began < _FRESH
        return self._found if fresh and tree == self._tree else None


def look(
    steps: list[dict[str, Any]], written: Collection[str], early: Early | None
) -> Callable[[], Found]:
    """Look in the kernel's table now, and have the rest looked for by who calls what is returned:
    the sandbox's init, which keeps nobody else waiting.

    :param written: what agents could ever write.
    """
    found = Found()
    found.sockets = listed(steps)
    trees = rearranged(steps, written)
    known = {} if early is None else {tree: early.of(tree) for tree in trees}

    def finish() -> Found:
        for tree in trees:
            more = known.get(tree) or search(tree)
            found.sockets += more.sockets
            found.closed += more.closed
        return found

    return finish


def listed(steps: list[dict[str, Any]]) -> list[str]:
    """Paths of bound sockets in what the plan's mounts show, by the kernel's table.

    From ``/proc/net/unix``: one read, however large the directories are. A socket that was bound by
    a relative path is not recognised there, nor one in another network namespace.
    """
    shown = [step["source"] for step in steps if step["op"] == "bind_mount"]
    found = set()
    for name in _bound_names():
        path = os.path.realpath(os.fsdecode(name))
        if any(path.startswith(f"{folder}/") for folder in shown):
            try:
                if stat.S_ISSOCK(os.lstat(path).st_mode):
                    found.add(path)
            except OSError:
                continue  # Its name is gone: nobody can connect to it by path.
    return sorted(found)


def _bound_names() -> list[bytes]:
    """The absolute paths in the table, where a line break in a name stands as it is."""
    with open("/proc/net/unix", "rb", buffering=0) as file:
        lines = file.readall().split(b"\n")[1:-1]
    names: list[bytes] = []
    within = False
    for line in lines:
        # "Num: RefCount Protocol Flags Type St Inode Path"; Num is of eight digits or more.
        if line.find(b": ", 8, 20) < 0:
            if within:
                names[-1] += b"\n" + line
            continue
        start = line.find(b" /")
        within = start >= 0
        if within:
            names.append(line[start + 1 :])
    return names
