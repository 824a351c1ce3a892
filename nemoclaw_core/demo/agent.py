"""The scripted agent. Prints one JSON object a step: what it did, and what came of it.

Usage: ``python agent.py STAGE.json``. It reads the addresses of its targets from that file.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import socket
import subprocess
import sys
from typing import Any

SYSCALLS = {
    "x86_64": {"mount": 165, "ptrace": 101, "finit_module": 313},
    "aarch64": {"mount": 40, "ptrace": 117, "finit_module": 273},
}[platform.machine()]
LIBC = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: object) -> None:
    """A raw system call."""
    if LIBC.syscall(SYSCALLS[name], *arguments) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def read_project(stage: dict[str, Any]) -> str:
    with open("greeting.py") as file:
        return f"{len(file.read())} characters of greeting.py"


def edit_project(stage: dict[str, Any]) -> str:
    with open("greeting.py", "a") as file:
        file.write("\n\nprint(greet('agent'))\n")
    return "added a line to greeting.py"


def run_python(stage: dict[str, Any]) -> str:
    done = subprocess.run([sys.executable, "greeting.py"], stdout=subprocess.PIPE, check=True)
    return done.stdout.decode().strip()


def commit(stage: dict[str, Any]) -> str:
    subprocess.run(["git", "add", "greeting.py"], check=True)
    subprocess.run(["git", "commit", "--quiet", "-m", "Greet the agent"], check=True)
    done = subprocess.run(["git", "log", "--oneline"], stdout=subprocess.PIPE, check=True)
    return f"{len(done.stdout.splitlines())} commits"


def read_key(stage: dict[str, Any]) -> str:
    with open(os.path.expanduser("~/.ssh/id_ed25519")) as file:
        return file.read()


def read_env(stage: dict[str, Any]) -> str:
    with open(".env") as file:
        return file.read()


def write_usr(stage: dict[str, Any]) -> str:
    with open("/usr/nemoclaw-demo", "w") as file:
        file.write("owned")
    return "wrote /usr/nemoclaw-demo"


def plant_hook(stage: dict[str, Any]) -> str:
    with open(".git/hooks/post-commit", "w") as file:
        file.write("#!/bin/sh\ntouch ~/owned\n")
    return "planted a hook"


def move_git_aside(stage: dict[str, Any]) -> str:
    os.rename(".git", ".git-aside")
    os.makedirs(".git/hooks")
    return "made a .git/hooks of its own"


def raw_socket(stage: dict[str, Any]) -> str:
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()
    return "opened a raw socket"


def mount(stage: dict[str, Any]) -> str:
    call("mount", b"none", b"/tmp", b"tmpfs", 0, None)
    return "mounted a tmpfs"


def ptrace(stage: dict[str, Any]) -> str:
    call("ptrace", 16, os.getppid(), 0, 0)
    return "attached to its parent"


def load_module(stage: dict[str, Any]) -> str:
    call("finit_module", -1, b"", 0)
    return "loaded a module"


def host_loopback(stage: dict[str, Any]) -> str:
    with socket.create_connection(("127.0.0.1", stage["port"]), timeout=5) as connection:
        return connection.recv(100).decode()


def signal_outside(stage: dict[str, Any]) -> str:
    os.kill(stage["pid"], 0)
    return "reached a process of the host"


WORK = (read_project, edit_project, run_python, commit)
ATTEMPTS = (
    read_key,
    read_env,
    write_usr,
    plant_hook,
    move_git_aside,
    raw_socket,
    mount,
    ptrace,
    load_module,
    host_loopback,
    signal_outside,
)


def main() -> None:
    """Do the work, then try each attempt."""
    with open(sys.argv[1]) as file:
        stage = json.load(file)
    for kind, steps in (("work", WORK), ("attempt", ATTEMPTS)):
        for step in steps:
            line: dict[str, Any] = {"kind": kind, "name": step.__name__}
            try:
                line["got"] = step(stage)
            except OSError as error:
                line["errno"] = error.errno
                line["error"] = error.strerror or str(error)
            except subprocess.CalledProcessError as error:
                line["errno"] = -1
                line["error"] = str(error)
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
