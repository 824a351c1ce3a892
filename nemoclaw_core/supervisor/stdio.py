"""Which of the caller's standard streams an agent may hold as they are.

On the path of every start: see the import rule in ``nemoclaw_core/launcher/__init__.py``.
"""

from __future__ import annotations

import _socket
import os
import stat

from nemoclaw_hookspecs.errors import UsageError

NAMES = ("standard input", "standard output", "standard error")
_PIPE = "connect a pipe, a file or a terminal instead, for instance with `| cat`"


def streams_to_copy() -> list[int]:
    """Those of 0, 1, 2 that a command must not get as they are: see :mod:`.pump`.

    Files, because their mode can be changed through a descriptor. Pipes, because they can be opened
    anew through proc(5) for the other direction: an agent could write what the host reads next.
    Sockets, because one of the host's network can be connected anew, to anywhere (connect(2) with
    AF_UNSPEC).

    :raises UsageError: one is nothing that bytes can be copied from or to.
    """
    return [number for number in (0, 1, 2) if _must_be_copied(number)]


def _must_be_copied(number: int) -> bool:
    mode = os.fstat(number).st_mode
    if stat.S_ISCHR(mode):
        return False
    if stat.S_ISSOCK(mode):
        _check_connected(number)
    elif not (stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
        what = "a directory" if stat.S_ISDIR(mode) else "no stream of bytes"
        raise UsageError(f"{NAMES[number]} is {what}", remedy=_PIPE)
    return True


def _check_connected(number: int) -> None:
    sock = _opened(number, number)
    try:
        stream = sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_TYPE) == _socket.SOCK_STREAM
        listens = sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_ACCEPTCONN)
    finally:
        sock.close()
    if listens or not stream:
        what = "a socket that listens" if listens else "a socket without a connection's order"
        raise UsageError(f"{NAMES[number]} is {what}", remedy=_PIPE)


def _opened(number: int, stream: int) -> _socket.socket:
    copy = os.dup(number)
    try:
        return _socket.socket(fileno=copy)
    except OSError:
        # open(2), O_PATH: a descriptor of the socket's file.
        os.close(copy)
        what = f"{NAMES[stream]} is the name of a socket, and no connection"
        raise UsageError(what, remedy=_PIPE) from None


def check_given(number: int, stream: int) -> None:
    """Refuse a descriptor that no command may have as it is, whoever hands it over.

    :param stream: which of 0, 1, 2 it is to become.
    :raises UsageError: it is a directory, from which openat(2) could start whatever the root is;
        or a socket of the host's network, which can be connected to anywhere.
    """
    mode = os.fstat(number).st_mode
    what = ""
    if stat.S_ISDIR(mode):
        what = "a directory of the host"
    elif stat.S_ISSOCK(mode):
        sock = _opened(number, stream)
        try:
            if sock.family != _socket.AF_UNIX:
                what = "a socket of the host's network"
        finally:
            sock.close()
    if what:
        raise UsageError(f"{NAMES[stream]} is {what}", remedy="copy what it carries through a pipe")
