"""A host with mount namespaces and no PID namespaces: no view, and nothing relies on one."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .conftest import Poor

CONNECT = "import socket, sys; s = socket.socket(1); s.connect(sys.argv[1]); print(s.recv(4))"
QUEUE = "import ctypes; print('id', ctypes.CDLL(None).msgget(0, 0o1600))"


@pytest.mark.parametrize("where", ["work", "outside"])
def test_sockets_of_the_host_are_out_of_reach(without_pid: Poor, where: str) -> None:
    folder = without_pid.work if where == "work" else without_pid.desk.base
    path = folder / "host.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        path.chmod(0o777)
        server.listen()
        server.settimeout(20)

        def serve() -> None:
            while True:
                try:
                    server.accept()[0].send(b"HOST")
                except OSError:
                    return

        thread = threading.Thread(target=serve)
        thread.start()
        outside = subprocess.run(
            ["/usr/bin/python3", "-c", CONNECT, str(path)],
            capture_output=True,
            **without_pid.desk.user.arguments(),
        )
        assert outside.stdout == b"b'HOST'\n", outside.stderr
        done = without_pid.agent(f'echo ran; /usr/bin/python3 -c "{CONNECT}" {path}')
        assert done.stdout == "ran\n", done.stderr
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


PAIRED = (
    "import socket, sys\n"
    "for kind in (socket.SOCK_DGRAM, 3):\n"
    "    try:\n"
    "        a, b = socket.socketpair(1, kind)\n"
    "        a.connect(sys.argv[1])\n"
    "        a.send(b'in')\n"
    "        print('sent')\n"
    "    except OSError as error:\n"
    "        print(type(error).__name__)\n"
)


def test_one_of_a_pair_of_sockets_cannot_be_connected_anew(without_pid: Poor) -> None:
    path = without_pid.desk.base / "datagrams"
    script = without_pid.work / "paired.py"
    script.write_text(PAIRED)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(path))
        path.chmod(0o777)
        server.setblocking(False)
        outside = subprocess.run(
            ["/usr/bin/python3", str(script), str(path)],
            capture_output=True,
            **without_pid.desk.user.arguments(),
        )
        assert outside.stdout == b"sent\nsent\n", outside.stderr
        assert [server.recv(9), server.recv(9)] == [b"in", b"in"]
        done = without_pid.agent(f"/usr/bin/python3 paired.py {path}")
        assert "sent" not in done.stdout, done.stderr
        with pytest.raises(BlockingIOError):
            server.recv(9)


def test_ipc_objects_of_the_host_are_out_of_reach(without_pid: Poor) -> None:
    done = without_pid.agent(f'echo ran; /usr/bin/python3 -c "{QUEUE}"')
    assert done.stdout == "ran\nid -1\n", done.stderr


def test_what_is_missing_is_said(without_pid: Poor) -> None:
    done = without_pid.agent("true")
    assert done.returncode == 0
    assert "no pid namespace" in done.stderr
    assert "no view of the file system" in done.stderr
    strict = without_pid.nemoclaw("run", "--", "true")
    assert strict.returncode == 125
    assert "no view of the file system" in strict.stderr


CHAIN = r"""
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}
int main(int count, char **words) {
    double end = now() + atof(words[1]);
    for (int i = 0; i < 100; i++)
        if (fork() == 0) {
            setsid();
            break;
        }
    /* Each is gone before anybody has read its number. */
    while (now() < end)
        if (fork() > 0)
            _exit(0);
    close(open(words[2], O_CREAT | O_WRONLY, 0600));
}
"""


@pytest.fixture
def chain(without_pid: Poor) -> str:
    """A program that forks in a hundred chains for the seconds of its first argument."""
    without_pid.desk.needs("gcc")
    without_pid.make("chain.c")
    (without_pid.work / "chain.c").write_text(CHAIN)
    program = without_pid.work / "chain"
    subprocess.run(["gcc", "-o", program, f"{program}.c"], check=True)
    program.chmod(0o755)
    return str(program)


def test_one_that_forks_in_chains_is_ended_at_once(without_pid: Poor, chain: str) -> None:
    mark = without_pid.work / "outlived"
    began = time.monotonic()
    done = without_pid.agent(f"{chain} 20 {mark} & sleep 0.5")
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began < 10
    assert not mark.exists()
    outside = f"{chain} 0.6 {mark} & sleep 0.1"
    subprocess.run(["sh", "-c", outside], check=True, **without_pid.desk.user.arguments())
    deadline = time.monotonic() + 10
    while not mark.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert mark.exists()
    time.sleep(1)  # Until the last of them has ended too.


def test_the_timeout_holds_for_one_that_forks_in_chains(without_pid: Poor, chain: str) -> None:
    mark = without_pid.work / "outlived"
    began = time.monotonic()
    done = without_pid.nemoclaw(
        "run", "--policy", without_pid.policy, "--timeout", "1s", "--",
        "sh", "-c", f"{chain} 20 {mark} & sleep 30",
    )  # fmt: skip
    assert done.returncode == 124, done.stderr
    assert time.monotonic() - began < 10
    assert not mark.exists()


def test_the_launcher_takes_the_sandbox_along(without_pid: Poor) -> None:
    """However it ends."""
    mark = without_pid.work / "outlived"
    script = f"setsid sh -c 'sleep 4; echo x > {mark}' & echo up > up; sleep 30"
    interpreter = without_pid.desk.user.nemoclaw[0]
    without_pid.agent("true")
    process = subprocess.Popen(
        [
            interpreter, str(without_pid.desk.base / "without_namespaces.py"), "pid",
            *without_pid.desk.user.nemoclaw, "run", "--policy", without_pid.policy, "--",
            "sh", "-c", script,
        ],
        cwd=without_pid.work,
        env=without_pid.desk.environment("inside"),
        stderr=subprocess.DEVNULL,
        **without_pid.desk.user.arguments(),
    )  # fmt: skip
    while not (without_pid.work / "up").exists():
        assert process.poll() is None
        time.sleep(0.05)
    with open(f"/proc/{process.pid}/task/{process.pid}/children") as file:
        (launcher,) = file.read().split()
    os.kill(int(launcher), 9)
    assert process.wait(10) != 0
    time.sleep(4.5)
    assert not mark.exists()
