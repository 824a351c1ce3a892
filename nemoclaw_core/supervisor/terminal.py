"""Relay between the user's terminal and the sandbox's own pseudoterminal.

The agent never gets the user's terminal: it could push input into it (TIOCSTI) that the shell
reads when the agent has ended. It gets a terminal of its own devpts, and this relay copies bytes.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import struct
import termios
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_CHUNK = 1 << 16
_DEFAULT_SIZE = (24, 80)
_MOMENT = 0.05
# Of xterm(1): a program takes a screen of its own, and gives it back (l).
_SCREENS = (b"\x1b[?1049", b"\x1b[?1047", b"\x1b[?47")
_LITTLE = 64
_UNTOLD = 20
"""Lines that wait until a program gives the screen back: an agent can cause any number."""


def size_of(descriptor: int) -> tuple[int, int]:
    """Rows and columns of a terminal."""
    try:
        data = fcntl.ioctl(descriptor, termios.TIOCGWINSZ, b"\0" * 8)
    except OSError:
        return _DEFAULT_SIZE
    rows, columns, _, _ = struct.unpack("4H", data)
    return (rows, columns) if rows and columns else _DEFAULT_SIZE


class Relay:
    """Copies between the user's terminal (and the streams that go with it) and a master.

    :param master: master side of the sandbox's terminal.
    :param ttys: which of 0, 1, 2 are the user's terminal.
    """

    def __init__(self, master: int, ttys: list[int]) -> None:
        self.master = master
        self._tty = ttys[0]
        self._reads = 0 in ttys
        # Where the agent's terminal output goes: the first of the user's that shows output.
        self._output = next((d for d in (1, 2) if d in ttys), self._tty)
        self._saved: list[Any] | None = None
        self._pending = b""
        self._seen = b"\n"
        self._own_screen = False
        self._untold: list[str] = []
        self._unshown = b""
        self._over = False
        self._sink, self._chunk = _own(self._output)
        os.set_blocking(master, False)

    def begin(self) -> None:
        """Take the terminal over, if this process is in its foreground."""
        self.resize()
        if not self._reads or self._saved is not None:
            return
        if not _in_foreground(self._tty):
            return
        saved = termios.tcgetattr(self._tty)
        raw = termios.tcgetattr(self._tty)
        raw[0] &= ~(
            termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP
            | termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON
        )  # fmt: skip
        raw[1] &= ~termios.OPOST
        raw[2] = raw[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
        raw[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
        raw[6][termios.VMIN], raw[6][termios.VTIME] = 1, 0
        termios.tcsetattr(self._tty, termios.TCSADRAIN, raw)
        self._saved = saved

    def restore(self) -> None:
        """Give the terminal back as it was."""
        if self._saved is not None:
            termios.tcsetattr(self._tty, termios.TCSADRAIN, self._saved)
            self._saved = None

    def resize(self) -> None:
        """Tell the sandbox's terminal how large the user's is."""
        size = struct.pack("4H", *size_of(self._tty), 0, 0)
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, size)

    def register(self, poll: select.poll) -> None:
        """Say what to wait for: the agent's output once the last was shown, and likewise input."""
        events = select.POLLOUT if self._pending else 0
        if self._unshown:
            poll.register(self._sink, select.POLLOUT)
        else:
            events |= select.POLLIN
        if events and not self._over:
            poll.register(self.master, events)
        if self._saved is not None and not self._pending:
            poll.register(self._tty, select.POLLIN)

    def copy(self, descriptor: int) -> bool:
        """Copy from or to a descriptor that is ready; False when all of the agent's is shown, and
        its side is closed."""
        if descriptor == self._tty:
            self.read_input()
            return True
        if descriptor == self._sink:
            self._show()
        elif descriptor == self.master:
            if self._pending:
                self.deliver()
            if not self._unshown:
                self._read_output()
        return not self._over or bool(self._unshown)

    def close(self) -> None:
        """Give the terminal back, and let go of the master."""
        self.restore()
        os.close(self.master)
        os.close(self._sink)

    def read_input(self) -> None:
        """Take what the user typed."""
        data = os.read(self._tty, _CHUNK)
        if not data:
            # The user's terminal hung up: so does the agent's.
            self._pending += b"\x04"
            self._reads = False
        self._pending += data
        self.deliver()

    def deliver(self) -> None:
        """Pass pending input on, as much as the agent's terminal takes."""
        try:
            count = os.write(self.master, self._pending)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            count = len(self._pending)  # Nobody has the agent's terminal open any more.
        self._pending = self._pending[count:]

    def _read_output(self) -> None:
        try:
            self._unshown = os.read(self.master, _CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.EIO:
                raise
        if self._unshown:
            self._follow(self._unshown)
            self._show()
        else:
            self._over = True  # Nobody can write any more.

    def _show(self) -> None:
        """Show what the agent wrote, as much as the user's terminal takes without waiting."""
        try:
            while self._unshown and _takes(self._sink):
                self._unshown = self._unshown[os.write(self._sink, self._unshown[: self._chunk]) :]
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            self._unshown = b""  # The user's terminal hung up: nobody looks any more.

    def tell(self, line: str) -> None:
        """Show a line of nemoclaw's own. While a program has the whole screen, the bell rings, and
        the line follows when it gives the screen back. One that nobody would see is left out."""
        if len(self._unshown) > 2 * _CHUNK:
            return
        if self._own_screen:
            self._untold = [*self._untold, line][-_UNTOLD:]
            self._unshown += b"\a"
        else:
            start = "" if self._seen.endswith(b"\n") else "\r\n"
            # The terminal is raw, mostly.
            self._unshown += f"{start}{line}\r\n".encode("utf-8", "replace")
            self._seen = b"\n"
        self._show()

    def _follow(self, data: bytes) -> None:
        """Learn from what is about to be shown where a line of our own would land."""
        text = self._seen + data
        self._seen = text[-8:]  # a sequence may be in two pieces
        last, where = max((text.rfind(each), each) for each in _SCREENS)
        if last < 0:
            return
        self._own_screen = text[last + len(where) :][:1] == b"h"
        if not self._own_screen:
            untold, self._untold = self._untold, []
            for line in untold:
                self.tell(line)

    def drain(self, stop: int, patience: float | None, *, ended: bool) -> None:
        """Show the rest, and let go of the master.

        :param stop: a descriptor that becomes readable when the terminal shall not be waited for.
        :param patience: seconds to wait for the terminal; None = as long as it takes.
        :param ended: nobody is left who could write, so the end of the output can be waited for.
            Otherwise what comes within a moment is shown: somebody may hold the terminal for ever.
        """
        limit = None if patience is None else time.monotonic() + patience
        while not self._over or self._unshown:
            if self._unshown:
                left = None if limit is None else max(0.0, limit - time.monotonic())
                if not _waited_for(self._sink, stop, left):
                    break
                self._show()
                continue
            if ended:
                os.set_blocking(self.master, True)
            elif not select.select((self.master,), (), (), _MOMENT)[0]:
                break
            self._read_output()
        self.close()


def _own(terminal: int) -> tuple[int, int]:
    """A descriptor to show output through, and how much may be written at once.

    It is opened anew where that is allowed, because O_NONBLOCK of the caller's is shared with other
    processes. Otherwise little is written at once, which a terminal that takes anything takes.
    """
    try:
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        return os.open(f"/proc/self/fd/{terminal}", flags), _CHUNK
    except OSError:
        return os.dup(terminal), _LITTLE


def _in_foreground(terminal: int) -> bool:
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError as error:
        if error.errno != errno.ENOTTY:
            raise
        return False  # It is a terminal, and another session's.


def _takes(descriptor: int) -> bool:
    return bool(select.select((), (descriptor,), (), 0)[1])


def _waited_for(descriptor: int, stop: int, seconds: float | None) -> bool:
    """Wait until something can be written; False when there was no time, or a signal came."""
    ready, writable, _ = select.select((stop,), (descriptor,), (), seconds)
    return bool(writable) and not ready
