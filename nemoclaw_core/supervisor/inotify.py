"""Learn that a file has changed, however an editor writes it (inotify(7), through ctypes)."""

from __future__ import annotations

import ctypes
import os

_CLOSE_WRITE, _MOVED_FROM, _MOVED_TO, _DELETE = 0x8, 0x40, 0x80, 0x200
_DELETE_SELF, _MOVE_SELF, _ONLYDIR = 0x400, 0x800, 0x01000000
_MASK = _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _DELETE | _DELETE_SELF | _MOVE_SELF | _ONLYDIR
_CLOEXEC_NONBLOCK = os.O_CLOEXEC | os.O_NONBLOCK

State = tuple[int, int, int, int]


class FileWatch:
    """Watches the directories that a file's name stands in and leads to: most editors put a new
    file in its place.

    :raises OSError: the kernel has no more watches for this user, or the directory is gone.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.descriptor = int(self._libc.inotify_init1(_CLOEXEC_NONBLOCK))
        if self.descriptor < 0:
            raise _error()
        try:
            self._add()
        except OSError:
            os.close(self.descriptor)
            raise
        self._state = state_of(path)

    def _add(self) -> None:
        folders = dict.fromkeys(
            os.path.dirname(each) for each in (self._path, os.path.realpath(self._path))
        )
        for folder in folders:
            # One that is watched already is not watched twice.
            name = os.fsencode(folder)
            if self._libc.inotify_add_watch(self.descriptor, name, _MASK) < 0:
                raise _error()

    def drain(self) -> None:
        """Forget what was reported: what counts is how the file is afterwards."""
        try:
            while os.read(self.descriptor, 1 << 16):
                pass
        except BlockingIOError:
            pass

    def has_changed(self) -> bool:
        """Whether there is another file, or another content, than when this last said so.

        :raises OSError: the directory is gone, or watched no more.
        """
        self._add()
        state = state_of(self._path)
        if state is None or state == self._state:
            return False
        self._state = state
        return True

    def close(self) -> None:
        """Watch no more."""
        os.close(self.descriptor)


def state_of(path: str) -> State | None:
    """What changes when a file does; None while there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
