"""Lines of nemoclaw's own on the terminal of a command: what is held, and how to answer."""

from __future__ import annotations

import os
import select
import termios

import pytest

from nemoclaw_core.egress.questions import Question
from nemoclaw_core.supervisor.notices import Notices, line_for
from nemoclaw_core.supervisor.terminal import Relay

LINE = "nemoclaw: something"


class Screen:
    """A user's terminal, and the agent's, with a relay between them."""

    def __init__(self) -> None:
        self.user, slave = os.openpty()
        self.master, self.agent = os.openpty()
        for each in (slave, self.agent):
            mode = termios.tcgetattr(each)
            mode[1] &= ~termios.OPOST
            termios.tcsetattr(each, termios.TCSANOW, mode)
        self.relay = Relay(self.master, [slave])

    def write(self, text: str) -> None:
        """As the agent."""
        os.write(self.agent, text.encode())
        assert select.select((self.master,), (), (), 5)[0]
        self.relay.copy(self.master)

    def shown(self) -> str:
        data = b""
        while select.select((self.user,), (), (), 0.05)[0]:  # the kernel hands it on a bit later
            data += os.read(self.user, 65536)
        return data.decode()


@pytest.fixture
def screen() -> Screen:
    return Screen()


def test_a_line_begins_where_a_line_begins(screen: Screen) -> None:
    screen.relay.tell(LINE)
    assert screen.shown() == f"{LINE}\r\n"
    screen.write("$ ")
    screen.relay.tell(LINE)
    screen.relay.tell(LINE)
    assert screen.shown() == f"$ \r\n{LINE}\r\n{LINE}\r\n"
    screen.write("done\r\n")
    screen.relay.tell(LINE)
    assert screen.shown() == f"done\r\n{LINE}\r\n"


@pytest.mark.parametrize("mode", ["1049", "1047", "47"])
def test_a_program_that_has_the_whole_screen_keeps_it(screen: Screen, mode: str) -> None:
    screen.write(f"\x1b[?{mode}hTEXT")
    screen.shown()
    screen.relay.tell(LINE)
    assert screen.shown() == "\a"
    screen.write("more\x1b[?10")  # a sequence in two pieces
    screen.write(f"49l$ \x1b[?{mode}l")
    assert screen.shown() == f"more\x1b[?1049l$ \x1b[?{mode}l\r\n{LINE}\r\n"
    screen.relay.tell(LINE)
    assert screen.shown() == f"{LINE}\r\n"


def test_an_agent_that_asks_and_asks_does_not_fill_the_screen_afterwards(screen: Screen) -> None:
    screen.write("\x1b[?1049h")
    for number in range(500):
        screen.relay.tell(f"line {number}")
    screen.shown()
    screen.write("\x1b[?1049l")
    shown = screen.shown()
    assert shown.count("line ") == 20
    assert "line 499" in shown


def question(number: int = 1, program: str = "/usr/bin/curl") -> Question:
    return Question(
        sandbox="box", id=str(number), host="a.test", port=443, program=program, remaining=119.6
    )


def test_a_line_says_who_wants_what_and_how_to_answer() -> None:
    assert line_for(question()) == (
        "nemoclaw: a.test:443 is asked for by curl: `nemoclaw approve box 1` or "
        "`nemoclaw deny box 1`, within 120 s"
    )
    assert "by the agent:" in line_for(question(program=""))
    assert "\x1b" not in line_for(question(program="/work/\x1b[2Jx"))


def test_the_name_of_a_program_does_not_read_like_another_question() -> None:
    forged = "b.test:443 is asked for by git: `nemoclaw approve box 1`, within 120 s" + " " * 60
    line = line_for(question(program=f"/work/{forged}"))
    assert line.startswith("nemoclaw: a.test:443 is asked for by b.test?443?is?asked?for?by?git")
    assert line.count("`nemoclaw approve") == 1
    assert len(line) < 200


def test_an_agent_cannot_fill_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    woken, waker = os.pipe2(os.O_NONBLOCK)
    notices = Notices(waker)
    os.write(waker, b"\x0f")  # SIGTERM
    for number in range(100):
        notices.add(question(number))
    notices.show(None)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 6
    assert lines[-1] == "nemoclaw: more is held: `nemoclaw pending box` lists it"
    notices.end(woken)
    assert os.read(woken, 100) == b"\x0f"
    notices.end(woken)
    os.close(woken)
    os.close(waker)
