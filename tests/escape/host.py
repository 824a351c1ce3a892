"""The host's side of a stage: prepares everything that an attempt may attack, and stays alive.

``python3 -m escape.host`` with one JSON object on standard input: ``base`` (an empty directory),
``side``, ``source`` and the ``attempts`` to prepare for. It writes ``work/stage.json``, prints
``ready``, serves until standard input ends, and removes what it made. The secret is in the
environment; it runs as the user who is to be attacked.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import signal
import struct
import sys
from types import FrameType
from typing import Any

from . import scenery
from .battery.ipc import KEYCTL_SEARCH, USER_KEYRING
from .battery.stage import ENVIRONMENT
from .battery.system import AT_FDCWD, call, syscall
from .servers import Servers

IPC_CREATE = 0o1000
IPC_RMID = 0
KEYCTL_UNLINK = 9
PR_SET_PDEATHSIG = 1
PR_SET_PTRACER = 0x59616D61


class Communication:
    """System V and POSIX objects and a key: things that outlive a process unless removed."""

    def __init__(self, facts: dict[str, Any], secret: bytes) -> None:
        key = int.from_bytes(os.urandom(3), "big") | 0x4E000000
        mode = IPC_CREATE | 0o666
        self.memory = call("shmget", key, 4096, mode)
        address = call("shmat", self.memory, None, 0, restype=ctypes.c_ssize_t)
        ctypes.memmove(address, secret, len(secret))
        self.queue = call("msgget", key, mode)
        call("msgsnd", self.queue, struct.pack("l", 1) + secret, len(secret), 0)
        self.semaphore = call("semget", key, 1, mode)
        before = os.umask(0)
        self.posix = f"/{facts['base_name']}"
        attributes = struct.pack("8q", 0, 4, 256, 0, 0, 0, 0, 0)
        opened = call("mq_open", self.posix.encode(), os.O_CREAT | os.O_RDWR, 0o666, attributes)
        os.umask(before)
        call("mq_send", opened, secret, len(secret), 0)
        self.key = f"{facts['base_name']}-user"
        syscall("add_key", b"user", self.key.encode(), secret, len(secret), USER_KEYRING)
        facts.update(
            shared_memory=self.memory,
            ipc_key=key,
            message_queue=self.queue,
            semaphore=self.semaphore,
            posix_queue=self.posix,
            user_key=self.key,
        )

    def remove(self) -> None:
        """Remove them from the host."""
        call("shmctl", self.memory, IPC_RMID, None)
        call("msgctl", self.queue, IPC_RMID, None)
        call("semctl", self.semaphore, 0, IPC_RMID)
        call("mq_unlink", self.posix.encode())
        found = syscall("keyctl", KEYCTL_SEARCH, USER_KEYRING, b"user", self.key.encode(), 0)
        syscall("keyctl", KEYCTL_UNLINK, found, USER_KEYRING)


def _victim(facts: dict[str, Any], name: str) -> None:
    """Be a process that holds the secret and notes when it is signalled. Never returns."""
    call("prctl", PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    try:
        call("prctl", PR_SET_PTRACER, -1, 0, 0, 0)  # Yama would refuse any but a parent
    except OSError:
        pass  # there is no Yama here
    note = f"{os.path.dirname(facts['attempts'][name]['target'])}/signalled"

    def signalled(number: int, frame: FrameType | None) -> None:
        with open(note, "a", encoding="ascii") as file:
            file.write("signalled\n")

    signal.signal(signal.SIGURG, signalled)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.chdir(facts["base"])
    while True:
        signal.pause()


def main() -> int:
    """Prepare, serve, clean up."""
    request = json.loads(sys.stdin.readline())
    secret = os.environ[ENVIRONMENT]
    os.umask(0o022)
    base: str = request["base"]
    facts: dict[str, Any] = {
        "base": base,
        "base_name": os.path.basename(base),
        "home": f"{base}/home",
        "work": f"{base}/work",
        "run": f"{base}/run",
        "side": request["side"],
        "digest": hashlib.sha256(secret.encode()).hexdigest(),
        "hostname": os.uname().nodename,
        "magic_key": "/proc/sysrq-trigger" if os.path.exists("/proc/sysrq-trigger") else None,
        "paths": {"source": request["source"]},
        "attempts": {},
        "handles": {},
        "key": f"{os.path.basename(base)}-session",
    }
    scenery.build(facts, request["attempts"], secret)
    held = os.open(f"{facts['home']}/private/file", os.O_RDONLY)
    memory = ctypes.create_string_buffer(secret.encode(), 128)
    scratch = ctypes.create_string_buffer(b"untouched", 128)
    for described in request["attempts"]:
        name = described["name"]
        target = facts["attempts"][name]["target"].encode()
        handle = ctypes.create_string_buffer((120).to_bytes(4, "little") + bytes(124), 128)
        mount = ctypes.c_int()
        try:
            syscall("name_to_handle_at", AT_FDCWD, target, handle, ctypes.byref(mount), 0)
            size, kind = struct.unpack_from("Ii", handle.raw)
            facts["handles"][name] = (kind, handle.raw[8 : 8 + size].hex())
        except OSError:
            facts["handles"] = None  # this file system has none
        if described["victim"]:
            child = os.fork()
            if not child:
                _victim(facts, name)
            facts["attempts"][name]["victim"] = {
                "pid": child,
                "secret": ctypes.addressof(memory),
                "scratch": ctypes.addressof(scratch),
                "file": held,
            }
    communication = Communication(facts, secret.encode())
    try:
        servers = Servers(facts, secret.encode())
        with open(f"{facts['work']}/stage.json", "w", encoding="utf-8") as file:
            json.dump(facts, file)
        print(json.dumps(facts), flush=True)
        servers.serve(0)
    finally:
        communication.remove()
        scenery.remove(base)
    return 0


if __name__ == "__main__":
    sys.exit(main())
