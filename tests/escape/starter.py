"""Starts a command as an unwary user would: with descriptors, keys and secrets left lying about.

``python3 -m escape.starter BASE STDIN COMMAND...``. Outside, COMMAND is the attempts' runner and
this process plays nemoclaw's part; inside, it is ``nemoclaw run`` and this process becomes it.
"""

from __future__ import annotations

import fcntl
import json
import os
import resource
import signal
import socket
import sys
import termios
import threading
import time
from types import FrameType
from typing import Any, NoReturn

from .battery.stage import ENVIRONMENT
from .battery.system import syscall

DIRECTORY, FILE, SOCKET = 40, 41, 42
KEYCTL_JOIN_SESSION_KEYRING = 1
SESSION_KEYRING = -3


def _leave_open(facts: dict[str, Any]) -> None:
    private = f"{facts['home']}/private"
    connection = socket.create_connection(("127.0.0.1", facts["tcp"]))
    os.dup2(os.open(private, os.O_RDONLY | os.O_DIRECTORY), DIRECTORY, inheritable=True)
    os.dup2(os.open(f"{private}/file", os.O_RDONLY), FILE, inheritable=True)
    os.dup2(connection.fileno(), SOCKET, inheritable=True)
    facts["leaked"] = {"directory": DIRECTORY, "file": FILE, "socket": SOCKET}


def _leave_key(facts: dict[str, Any]) -> None:
    secret = os.environb[ENVIRONMENT.encode()]
    syscall("keyctl", KEYCTL_JOIN_SESSION_KEYRING, None)
    key = facts["key"].encode()
    facts["key_number"] = syscall("add_key", b"user", key, secret, len(secret), SESSION_KEYRING)


def _note(path: str) -> None:
    with open(path, "a", encoding="ascii") as file:
        file.write("it happened\n")


def _watch(base: str) -> None:
    """Leave a sentinel in the process group. It is nobody's child, so nobody can wait for it."""
    leader = os.getpid()
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    if os.fork():
        os._exit(0)

    def signalled(number: int, frame: FrameType | None) -> None:
        _note(f"{base}/sentinel-signalled")

    signal.signal(signal.SIGURG, signalled)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.closerange(3, 64)
    before = os.getpriority(os.PRIO_PROCESS, 0)
    while os.path.exists(f"/proc/{leader}"):
        if os.getpriority(os.PRIO_PROCESS, 0) != before:
            _note(f"{base}/sentinel-nice")
            break
        time.sleep(0.02)
    os._exit(0)


def _become(facts: dict[str, Any], command: list[str]) -> NoReturn:
    # nemoclaw is told the work directory; `python -m` would import from the current one.
    os.chdir(facts["work"] if facts["side"] == "outside" else facts["home"])
    os.execvp(command[0], command)


def _stand_in(facts: dict[str, Any], command: list[str]) -> int:
    """Play the part of nemoclaw: start the command and wait for it."""
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    signal.signal(signal.SIGURG, signal.SIG_IGN)
    child = os.fork()
    if not child:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGURG, signal.SIG_DFL)
        _become(facts, command)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _in_terminal(base: str, stage: str, facts: dict[str, Any], command: list[str]) -> int:
    """Run the command in a terminal, then look whether anything was typed into it."""
    controller, terminal = os.openpty()
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)

    def drain() -> None:
        while True:
            try:
                data = os.read(controller, 4096)
            except OSError:
                return
            os.write(1, data.replace(b"\r\n", b"\n"))

    output = threading.Thread(target=drain, daemon=True)
    output.start()
    gate_reader, gate_writer = os.pipe()
    child = os.fork()
    if not child:
        os.read(gate_reader, 1)
        for descriptor in (0, 1, 2):
            os.dup2(terminal, descriptor)
        _become(facts, command)
    facts["supervisor"] = child
    _save(stage, facts)
    os.write(gate_writer, b".")
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.set_blocking(terminal, False)
    try:
        if b"Z" in os.read(terminal, 64):
            _note(f"{base}/typed")
    except BlockingIOError:
        pass  # nothing was typed
    time.sleep(0.05)  # let the last output through
    return status


def _save(stage: str, facts: dict[str, Any]) -> None:
    with open(stage, "w", encoding="utf-8") as file:
        json.dump(facts, file)


def main(arguments: list[str]) -> int:
    """Start it; returns the command's exit status where this process stays itself."""
    base, stdin, *command = arguments
    stage = f"{base}/work/stage.json"
    with open(stage, encoding="utf-8") as file:
        facts: dict[str, Any] = json.load(file)
    os.setsid()
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    _leave_open(facts)
    _leave_key(facts)
    facts["supervisor"] = os.getpid()
    _save(stage, facts)
    _watch(base)
    if stdin == "terminal":
        return _in_terminal(base, stage, facts, command)
    name = next(iter(facts["attempts"]))
    given = facts["attempts"][name]["target"] if stdin == "file" else os.devnull
    os.dup2(os.open(given, os.O_RDONLY), 0)
    if facts["side"] == "inside":
        _become(facts, command)
    return _stand_in(facts, command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
