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

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_CHUNK = 1 << 16
_DEFAULT_SIZE = (24, 80)
_MOMENT = 0.05


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
        os.set_blocking(master, False)

    def begin(self) -> None:
        """Take the terminal over, if this process is in its foreground."""
        self.resize()
        if not self._reads or self._saved is not None:
            return
        if os.tcgetpgrp(self._tty) != os.getpgrp():
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
        """Say what to wait for: the agent's output, and input once the last was delivered."""
        poll.register(self.master, select.POLLIN | (select.POLLOUT if self._pending else 0))
        if self._saved is not None and not self._pending:
            poll.register(self._tty, select.POLLIN)

    def copy(self, descriptor: int) -> bool:
        """Copy from or to a descriptor that is ready; False when the agent's side is closed."""
        if descriptor == self._tty:
            self.read_input()
            return True
        if self._pending:
            self.deliver()
        return self.read_output()

    def close(self) -> None:
        """Give the terminal back, and let go of the master."""
        self.restore()
        os.close(self.master)

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

    def read_output(self) -> bool:
        """Show what the agent wrote; False when nobody can write any more."""
        try:
            data = os.read(self.master, _CHUNK)
        except BlockingIOError:
            return True
        except OSError as error:
            if error.errno == errno.EIO:
                return False
            raise
        if not data:
            return False
        write_all(self._output, data)
        return True

    def drain(self, *, ended: bool) -> None:
        """Show the rest, and let go of the master.

        :param ended: nobody is left who could write, so the end of the output can be waited for.
            Otherwise what comes within a moment is shown: somebody may hold the terminal for ever.
        """
        while True:
            if not ended and not select.select((self.master,), (), (), _MOMENT)[0]:
                break
            if ended:
                os.set_blocking(self.master, True)
            if not self.read_output():
                break
        self.close()


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of ``data``, also to a descriptor that somebody set non-blocking."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            select.select((), (descriptor,), ())
