"""An interactive shell on a terminal: size, job control, keys, raw mode, and a clean end."""

from __future__ import annotations

import fcntl
import os
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ..desks import Desk

SECONDS = 20.0
"""How long any one answer may take before the test fails."""

BASH = ("bash", "--norc", "--noprofile", "-i")
PROMPT = "READY> "


class Terminal:
    """A pseudo-terminal with a program on it, read and typed at as a person would."""

    def __init__(self, desk: Desk, side: str) -> None:
        self.master, self.slave = os.openpty()
        os.fchown(self.slave, desk.user.uid, desk.user.gid)
        self.resize(40, 100)
        self.before = termios.tcgetattr(self.slave)
        self.screen = ""
        slave = os.ttyname(self.slave)

        def control() -> None:
            # A new session (start_new_session) takes the first terminal that it opens.
            os.close(os.open(slave, os.O_RDWR))

        self.process = subprocess.Popen(
            desk.command(side, BASH),
            cwd=desk.folder(side),
            env=desk.environment(side),
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            start_new_session=True,
            preexec_fn=control,
            **desk.user.arguments(),
        )

    def resize(self, rows: int, columns: int) -> None:
        """Change the window's size, as a terminal emulator does."""
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, size)

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self.master, text.encode())

    def expect(self, text: str) -> str:
        """Read until ``text`` shows; give what stood before it and forget both."""
        deadline = time.monotonic() + SECONDS
        while text not in self.screen:
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self.master], [], [], max(left, 0))
            if not ready:
                pytest.fail(f"no {text!r} within {SECONDS} s; on the screen: {self.screen!r}")
            self.screen += os.read(self.master, 65536).decode().replace("\r\n", "\n")
        before, self.screen = self.screen.split(text, 1)
        return re.sub(r"\x1b\[\?2004[hl]\r?", "", before)

    def enter(self, line: str) -> str:
        """Type a line and give what the shell prints before the next prompt."""
        self.type(line + "\n")
        self.expect(line)
        return self.expect(PROMPT).strip("\r\n")

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(SECONDS)
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture(params=["outside", "inside"])
def terminal(desk: Desk, request: pytest.FixtureRequest) -> Iterator[Terminal]:
    """A shell that has shown its first prompt. Outside proves the test, inside the product."""
    opened = Terminal(desk, request.param)
    try:
        # Typed before bash reads: the prompt, and no line editor in the way of what is compared.
        opened.type(f"PS1='{PROMPT[:2]}''{PROMPT[2:]}'; bind 'set enable-bracketed-paste off'\n")
        opened.expect(PROMPT)
        yield opened
    finally:
        opened.close()


def test_the_shell_has_a_terminal_of_the_right_size(terminal: Terminal) -> None:
    assert terminal.enter("stty size") == "40 100"
    assert terminal.enter("test -t 0 && test -t 1 && test -t 2 && echo tty") == "tty"
    assert terminal.enter("tty").startswith("/dev/")
    assert terminal.enter("echo $-").count("m") == 1, "job control is off"


def test_a_resize_reaches_the_program(terminal: Terminal) -> None:
    terminal.enter("trap 'echo resized' WINCH")
    terminal.resize(25, 81)
    # Before anything is typed: what the trap prints would come in between.
    terminal.expect("resized")
    terminal.type("stty size\n")
    terminal.expect("25 81")


def test_control_c_ends_the_command_and_not_the_shell(terminal: Terminal) -> None:
    terminal.type("sleep 100; echo went on\n")
    terminal.expect("went on\n")
    time.sleep(0.3)
    terminal.type("\x03")
    terminal.expect(PROMPT)
    assert terminal.enter("echo status $?") == "status 130"


def test_control_z_stops_a_job_and_fg_resumes_it(terminal: Terminal) -> None:
    terminal.type("sleep 99\n")
    terminal.expect("sleep 99\n")
    time.sleep(0.3)
    terminal.type("\x1a")
    assert "Stopped" in terminal.expect(PROMPT)
    assert "Stopped" in terminal.enter("jobs")
    assert "Running" in terminal.enter("bg; jobs")
    terminal.type("fg\n")
    terminal.expect("sleep 99\n")
    time.sleep(0.3)
    terminal.type("\x03")
    terminal.expect(PROMPT)
    assert terminal.enter("jobs; echo none left") == "none left"


def test_raw_mode_gives_single_keys(terminal: Terminal) -> None:
    terminal.type("read -rsn1 key; echo got $key\n")
    terminal.expect("got $key\n")
    time.sleep(0.3)
    terminal.type("q")
    assert terminal.expect(PROMPT).strip() == "got q"


def test_control_d_ends_the_shell_with_its_status(terminal: Terminal) -> None:
    terminal.enter("(exit 3)")
    terminal.type("\x04")
    assert terminal.process.wait(SECONDS) == 3


def test_the_terminal_is_left_as_it_was(terminal: Terminal) -> None:
    terminal.type("exit 0\n")
    assert terminal.process.wait(SECONDS) == 0
    assert termios.tcgetattr(terminal.slave) == terminal.before
