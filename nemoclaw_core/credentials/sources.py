"""Read secrets: from a variable of whoever starts nemoclaw, or from a file, anew when it changes.

On the path of a start: see the import rule in ``nemoclaw_core/launcher/__init__.py``.
"""

from __future__ import annotations

import os
import stat

from nemoclaw_hookspecs.errors import UsageError

from ..launcher import kernel
from ..trust import Way

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping
    from typing import Any

_LARGEST = 65536
"""Octets of a file that holds a secret."""
_GET_DUMPABLE = 3
"""``PR_GET_DUMPABLE`` (prctl(2))."""


class Secrets:
    """Reads secrets by source, and keeps them while they are what the source says.

    What it holds never leaves memory: it has no telling ``repr``, and the process that holds it
    leaves no core dump and shows its memory to no other process of the user.

    :param environment: of whoever started nemoclaw. A variable counts as it was when it was read
        first.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._variables: dict[str, str] = {}
        self._files: dict[str, tuple[tuple[int, ...], str]] = {}

    def __repr__(self) -> str:
        return "Secrets()"

    def __reduce__(self) -> str:
        raise TypeError("secrets are not copied out of this process")

    def read(self, source: Mapping[str, Any], where: str, *, optional: bool = False) -> str:
        """The secret of a source, without a line end.

        :param source: encoded, see ``nemoclaw_hookspecs.SecretSource``.
        :param where: of the policy, for the error.
        :param optional: empty where there is none.
        :raises UsageError: there is none, it cannot be read, or an agent may have put it there.
        """
        hide_memory()
        kind, name = source["kind"], source["name"]
        if kind == "environment":
            found = self._variables.get(name) or self._environment.get(name, "")
            if found:
                self._variables[name] = found
            elif not optional:
                raise UsageError(
                    f"the variable {name} is not set, which holds a credential",
                    where=where,
                    remedy=f"set {name} where nemoclaw is started",
                )
            return found
        if kind == "file":
            return self._read_file(name, where)
        raise UsageError(
            f"no plugin fetches the credential ({name})", where=where, remedy="use from_file"
        )

    def withdraw(self, environment: MutableMapping[str, str]) -> None:
        """Take the variables that were read out of what child processes will inherit."""
        for name in self._variables:
            environment.pop(name, None)

    def _read_file(self, path: str, where: str) -> str:
        # Each time: a link that an agent puts in its place would have any file of the user's sent.
        way = Way(path)
        planted = way.planted()
        if planted is not None:
            self._files.pop(path, None)
            raise UsageError(
                f"the file {path}, which holds a credential, is not used: {planted[1]}",
                where=where,
                remedy=f"if that is meant, write {way.path} instead",
            )
        try:
            # Opened without waiting: it may be a pipe that nobody writes to.
            flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW
            descriptor = os.open(way.path, flags)
        except OSError as error:
            self._files.pop(path, None)
            raise _unreadable(path, (error.strerror or "error").lower(), where) from None
        try:
            found = os.fstat(descriptor)
            state = (
                found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size,
            )  # fmt: skip
            known = self._files.get(path)
            if known is not None and known[0] == state:
                return known[1]
            self._files.pop(path, None)
            if not stat.S_ISREG(found.st_mode):
                raise _unreadable(path, "it is not a file", where)
            if found.st_mode & stat.S_IWOTH:
                raise _unreadable(path, "everybody can write it", where)
            data = os.read(descriptor, _LARGEST + 1)
        except OSError as error:
            raise _unreadable(path, (error.strerror or "error").lower(), where) from None
        finally:
            os.close(descriptor)
        if len(data) > _LARGEST:
            raise _unreadable(path, "it is too large for a secret", where)
        try:
            text = data.decode().rstrip("\r\n")
        except UnicodeDecodeError:
            raise _unreadable(path, "it is not UTF-8 text", where) from None
        if not text:
            raise _unreadable(path, "it is empty", where)
        self._files[path] = (state, text)
        return text


def hide_memory() -> None:
    """See that this process leaves no core dump, and that no other one may read its memory.

    ``nemoclaw run`` has done so at its start. A program that uses the Python interface is asked for
    it here, since its memory is what holds the secret.
    """
    if kernel.prctl(_GET_DUMPABLE):
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)


def _unreadable(path: str, why: str, where: str) -> UsageError:
    return UsageError(
        f"the file {path}, which holds a credential, cannot be used: {why}",
        where=where,
        remedy="see that it is a file of yours that holds the secret alone",
    )
