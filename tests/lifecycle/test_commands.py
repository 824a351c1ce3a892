"""ps, stop, exec, detach, terminals."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import socket
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from typing import Any

import pytest

from .support import alive, supervisors, wait_for


@pytest.fixture
def detached(cli: Any) -> Iterator[str]:
    marker = f"{os.getpid()}{time.monotonic_ns() % 10**6}"
    done = cli.run(
        "run", "--name", "worker", "--detach", "--", "sh", "-c", f"echo up; sleep {marker}"
    )
    assert (done.returncode, done.stdout) == (0, b"worker\n"), done.stderr
    yield marker
    cli.run("stop", "--grace", "0s", "worker")
    assert wait_for(lambda: not alive(marker) and not supervisors(marker))


def test_a_detached_sandbox_is_listed_and_stopped(cli: Any, detached: str) -> None:
    listed = json.loads(cli.run("ps", "--json").stdout)
    assert listed["name"] == "worker"
    assert listed["command"] == "sh"
    assert cli.run("stop", "worker").returncode == 0
    assert not alive(detached)
    assert cli.run("ps", "--json").stdout == b""
    assert (cli.state / "nemoclaw/worker/output.log").read_text() == "up\n"


def test_a_detached_start_that_fails_says_so(cli: Any) -> None:
    done = cli.run("run", "--detach", "--", "no-such-command")
    assert done.returncode == 127
    assert b"not found inside the sandbox" in done.stderr


def test_a_name_is_given_once(cli: Any, detached: str) -> None:
    done = cli.run("run", "--name", "worker", "--", "true")
    assert done.returncode == 2
    assert b"is running already" in done.stderr
    assert alive(detached)


def test_exec_runs_behind_the_same_walls(cli: Any, detached: str) -> None:
    secret = cli.home / "secret"
    secret.write_text("secret")
    script = (
        f"cat {secret}; grep -c . /proc/1/environ; kill -0 {os.getpid()}; ps ax | grep -c sleep"
    )
    done = cli.run("exec", "worker", "--", "sh", "-c", script)
    assert b"secret" not in done.stdout
    assert done.stderr.count(b"No such") == 2
    assert int(done.stdout.split()[-1]) >= 1
    status = "NoNewPrivs:\t1|Seccomp:\t2|CapEff:\t0000000000000000|CapBnd:\t0000000000000000"
    done = cli.run("exec", "worker", "--", "grep", "-cE", status, "/proc/self/status")
    assert done.stdout == b"4\n"


def test_exec_passes_streams_status_and_environment(cli: Any, detached: str) -> None:
    done = cli.run("exec", "worker", "--", "sh", "-c", "cat; exit 9", input=b"data")
    assert (done.returncode, done.stdout) == (9, b"data")
    done = cli.run("exec", "--env", "A=b", "worker", "--", "sh", "-c", "echo $A $NEMOCLAW_SANDBOX")
    assert done.stdout == b"b worker\n"
    assert cli.run("exec", "worker", "--", "sh", "-c", "kill -TERM $$").returncode == -15
    done = cli.run("exec", "worker", "--", "no-such-command")
    assert done.returncode == 127


def test_killing_exec_ends_its_command_and_nothing_else(cli: Any, detached: str) -> None:
    marker = detached[::-1].strip("0") + "77"
    process = cli.start("exec", "worker", "--", "sleep", marker)
    assert wait_for(lambda: alive(marker))
    process.kill()
    process.wait()
    assert wait_for(lambda: not alive(marker))
    assert alive(detached)


# Only root can become another user, who then tries.
@pytest.mark.parametrize("caller", ["root"], indirect=True)
def test_the_control_socket_is_the_users_alone(cli: Any, detached: str) -> None:
    path = cli.run_dir / "nemoclaw/worker.sock"
    assert path.parent.stat().st_mode & 0o077 == 0
    attack = f"import socket; socket.socket(socket.AF_UNIX).connect({str(path)!r})"
    done = subprocess.run(
        ["/usr/bin/python3", "-c", attack],
        user=65534,
        group=65534,
        capture_output=True,
        check=False,
    )
    assert b"PermissionError" in done.stderr


class Terminal:
    """A terminal with nemoclaw in it, as a person would have."""

    def __init__(self, cli: Any, *arguments: str) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 33, 77, 0, 0))
        self.slave = slave

        def control() -> None:
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = cli.start(
            *arguments, stdin=slave, stdout=slave, stderr=slave, preexec_fn=control
        )
        self.output = b""

    def send(self, text: str) -> None:
        os.write(self.master, text.encode())

    def expect(self, text: str, seconds: float = 10) -> None:
        deadline = time.monotonic() + seconds
        while text.encode() not in self.output:
            left = deadline - time.monotonic()
            ready = select.select([self.master], [], [], max(0, left))[0]
            assert ready, f"no {text!r} in {self.output!r}"
            self.output += os.read(self.master, 65536)
        self.output = self.output.partition(text.encode())[2]

    def close(self) -> None:
        os.close(self.master)
        os.close(self.slave)


def interactive(cli: Any) -> Terminal:
    shell = Terminal(cli, "run", "--", "bash", "--norc", "--noprofile", "-i")
    shell.expect("$ ")
    return shell


def test_a_terminal_has_the_users_size_and_follows_it(cli: Any) -> None:
    shell = interactive(cli)
    shell.send("stty size\n")
    shell.expect("33 77")
    fcntl.ioctl(shell.slave, termios.TIOCSWINSZ, struct.pack("4H", 50, 100, 0, 0))
    time.sleep(0.2)
    shell.send("stty size\n")
    shell.expect("50 100")
    shell.close()


def test_keys_and_jobs_work(cli: Any) -> None:
    shell = interactive(cli)
    first, second = f"{os.getpid()}11", f"{os.getpid()}22"
    shell.send(f"sleep {first}\n")
    assert wait_for(lambda: alive(first))
    shell.send("\x03")
    assert wait_for(lambda: not alive(first))
    shell.send(f"sleep {second}\n")
    assert wait_for(lambda: alive(second))
    shell.send("\x1a")
    shell.expect("Stopped")
    shell.send("kill %1; fg\n")
    assert wait_for(lambda: not alive(second))
    shell.send("echo $((6*7))\n")
    shell.expect("42")
    shell.send("exit 5\n")
    assert shell.process.wait(10) == 5
    shell.close()


def test_the_terminal_is_given_back_as_it_was(cli: Any) -> None:
    terminal = Terminal(cli, "run", "--", "sh", "-c", "stty -a; sleep 0.2")
    before = termios.tcgetattr(terminal.slave)
    terminal.process.wait(10)
    assert termios.tcgetattr(terminal.slave) == before
    terminal.close()


def test_the_agents_terminal_is_not_the_users(cli: Any) -> None:
    terminal = Terminal(cli, "run", "--", "sh", "-c", "tty; test -t 0 && test -t 1 && echo yes")
    terminal.expect("/dev/pts/0")
    terminal.expect("yes")
    terminal.process.wait(10)
    terminal.close()


def test_exec_has_a_terminal_too(cli: Any, detached: str) -> None:
    terminal = Terminal(cli, "exec", "worker", "--", "sh", "-c", "stty size; read x; echo got-$x")
    terminal.expect("33 77")
    terminal.send("word\n")
    terminal.expect("got-word")
    assert terminal.process.wait(10) == 0
    terminal.close()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x05\0\0\0\0\0\0\0junk!",
        b"\x02\0\0\0\0\0\0\0[]",
        b"\x02\0\0\0\0\0\0\0{}",
        b"\xff" * 8,
        b"\x10\0\0\0\0\0\0\0{",
        b'\x14\0\0\0\0\0\0\0{"request": "exec"} ',
        b'\x24\0\0\0\0\0\0\0{"request": "stop", "grace": "soon"} ',
    ],
)
def test_nonsense_on_the_control_socket_changes_nothing(
    cli: Any, detached: str, data: bytes
) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(cli.run_dir / "nemoclaw/worker.sock"))
        client.sendall(data)
    assert json.loads(cli.run("ps", "--json").stdout)["name"] == "worker"
    assert alive(detached)


CONFINED = """
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
if "privileges" in sys.argv[1]:
    assert libc.prctl(38, 1, 0, 0, 0) == 0
if "filter" in sys.argv[1]:
    code = ctypes.create_string_buffer(struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000), 8)
    program = ctypes.create_string_buffer(struct.pack("=HxxxxxxQ", 1, ctypes.addressof(code)), 16)
    assert libc.prctl(22, 2, ctypes.byref(program), 0, 0) == 0, ctypes.get_errno()
os.execv(sys.argv[2], sys.argv[2:])
"""


def confined(cli: Any, how: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run nemoclaw as a process that has given up ``how``."""
    return subprocess.run(
        [cli.program[0], "-c", CONFINED, how, *cli.program, *arguments],
        cwd=cli.work,
        env=cli.environment,
        capture_output=True,
        timeout=30,
        **cli._user.arguments(),
    )


def test_an_agent_that_sees_the_socket_cannot_use_another_sandbox(cli: Any, detached: str) -> None:
    """As on a host that cannot build a view: the agent has its user's id, and sees the path."""
    for how in ("privileges", "privileges filter"):
        for request in (
            ("exec", "worker", "--", "id"), ("stop", "worker"), ("pending", "worker"),
            ("approve", "worker", "1"), ("deny", "worker"),
        ):  # fmt: skip
            done = confined(cli, how, *request)
            assert done.returncode == 125, done
            assert b"refused" in done.stderr
            assert b"Traceback" not in done.stderr
        assert b"worker" not in confined(cli, how, "ps").stdout
    done = confined(cli, "", "exec", "worker", "--", "echo", "done")
    assert done.stdout == b"done\n", done.stderr
    assert alive(detached)


def test_one_who_may_ask_is_as_confined_as_the_supervisor_at_most(cli: Any) -> None:
    """As in a container, where everything has a filter, and may have no_new_privs."""
    marker = f"{os.getpid()}{time.monotonic_ns() % 10**6}"
    how = "privileges filter"
    start = ("run", "--name", "inner", "--detach", "--", "sleep", marker)
    assert confined(cli, how, *start).returncode == 0
    for mine in ("", "privileges", how):
        done = confined(cli, mine, "exec", "inner", "--", "echo", "done")
        assert done.stdout == b"done\n", done.stderr
    assert confined(cli, how, "stop", "inner").returncode == 0
    assert wait_for(lambda: not alive(marker) and not supervisors(marker))


def test_a_filter_alone_is_no_reason_to_refuse(cli: Any, detached: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root installs a filter without no_new_privs")
    done = confined(cli, "filter", "exec", "worker", "--", "echo", "done")
    assert done.stdout == b"done\n", done.stderr
