"""Sockets as standard streams: their bytes go in and out, and the agent never holds one."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from nemoclaw_hookspecs.errors import UsageError

from nemoclaw_core import Sandbox

SECRET = b"what the host's loopback serves"
# connect(2) with AF_UNSPEC lets a TCP socket be connected anew: in the network that it is of.
ANEW = """
import ctypes, socket, struct, sys
sock = socket.socket(fileno={number})
ctypes.CDLL(None).connect({number}, struct.pack("H14x", 0), 16)
sock.connect(("127.0.0.1", {port}))
sys.stderr.buffer.write(sock.recv(100))
"""
SEND = """
import socket
socket.socket(fileno={number}).sendto(b"from the agent", ("127.0.0.1", {port}))
"""


@contextlib.contextmanager
def served() -> Iterator[int]:
    """The port of a server on the host's loopback."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                with client:
                    client.sendall(SECRET)

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def tcp() -> tuple[socket.socket, socket.socket]:
    """Both ends of a connection on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        return client, server.accept()[0]


def connected_anew(number: int, port: int) -> tuple[str, ...]:
    """A program that connects one of its streams to a port of the host."""
    return "python3", "-c", ANEW.format(number=number, port=port)


@pytest.mark.parametrize("number", [0, 1])
def test_a_connection_is_not_connected_anew(cli: Any, number: int) -> None:
    stream: dict[str, Any] = {}
    with served() as port, contextlib.ExitStack() as stack:
        agent = connected_anew(number, port)
        mine, _other = map(stack.enter_context, tcp())
        stream["stdin" if number == 0 else "stdout"] = mine
        free = subprocess.run(agent, **stream, stderr=subprocess.PIPE, timeout=30, check=False)
        assert free.stderr == SECRET
        mine, _other = map(stack.enter_context, tcp())
        stream["stdin" if number == 0 else "stdout"] = mine
        process = cli.start("run", "--", *agent, stderr=subprocess.PIPE, **stream)
        assert b"non-socket" in process.communicate(timeout=60)[1]


def test_nor_does_another_command_of_the_sandbox_get_one(cli: Any) -> None:
    assert cli.run("run", "--name", "box", "--detach", "--", "sleep", "60").returncode == 0
    with served() as port, contextlib.ExitStack() as stack:
        mine, _other = map(stack.enter_context, tcp())
        agent = connected_anew(0, port)
        process = cli.start("exec", "box", "--", *agent, stdin=mine, stderr=subprocess.PIPE)
        errors = process.communicate(timeout=60)[1]
    assert cli.run("stop", "--grace", "0s", "box").returncode == 0
    assert b"non-socket" in errors


def test_datagrams_are_refused(cli: Any) -> None:
    heard = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    heard.bind(("127.0.0.1", 0))
    heard.settimeout(10)
    with heard, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        agent = ["python3", "-c", SEND.format(number=0, port=heard.getsockname()[1])]
        subprocess.run(agent, stdin=sock.fileno(), timeout=30, check=True)
        assert heard.recv(100) == b"from the agent"
        process = cli.start("run", "--", *agent, stdin=sock, stderr=subprocess.PIPE)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 2
        assert b"standard input is a socket" in errors
        assert b"connect a pipe" in errors
        heard.setblocking(False)
        with pytest.raises(BlockingIOError):
            heard.recv(100)


@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_what_a_server_is_started_with_for_each_connection_works(cli: Any, family: str) -> None:
    """As inetd(8) does: one socket for everything."""
    inside, outside = tcp() if family == "tcp" else socket.socketpair()
    process = cli.start("run", "--", "sort", stdin=inside, stdout=inside, stderr=inside)
    inside.close()
    data = b"".join(b"%06d\n" % number for number in range(100_000, 0, -1))
    sender = threading.Thread(target=lambda: _send(outside, data))
    sender.start()
    received = b""
    while piece := outside.recv(1 << 16):
        received += piece
    sender.join()
    assert process.wait(30) == 0
    assert received == b"".join(b"%06d\n" % number for number in range(1, 100_001))
    outside.close()


def _send(sock: socket.socket, data: bytes) -> None:
    sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)


def test_a_program_may_not_hand_one_over_either() -> None:
    with Sandbox() as sandbox, contextlib.ExitStack() as stack:
        mine, _other = map(stack.enter_context, tcp())
        with pytest.raises(UsageError, match="standard output is a socket of the host's network"):
            sandbox.start(["true"], stdout=mine.fileno())


def test_the_agent_of_a_client_that_has_gone_gets_sigpipe(cli: Any) -> None:
    inside, outside = tcp()
    process = cli.start("run", "--", "yes", stdout=inside)
    inside.close()
    assert outside.recv(2) == b"y\n"
    outside.close()
    assert process.wait(30) == -13


def test_the_name_of_a_socket_is_no_stream(cli: Any) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(f"{cli.work}/s")
        name = os.open(cli.work / "s", os.O_PATH)
        try:
            done = cli.sandbox("true", stdin=name)
        finally:
            os.close(name)
    assert done.returncode == 2, done.stderr
    assert b"no connection" in done.stderr
    assert b"Traceback" not in done.stderr
