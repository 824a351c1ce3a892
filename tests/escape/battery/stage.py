"""What an attempt is told about its surroundings, and how it proves that it got somewhere."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import struct
from typing import Any

from .registry import CannotJudge, Stopped

SECRET = re.compile(rb"nemoclaw-secret-[0-9a-f]{32}")
"""What the things worth stealing look like. The stage file holds only a digest of it, so that
finding the secret proves that it was read from where it is kept."""

FS_IOC_GETFLAGS = 0x80086601
FS_IOC_SETFLAGS = 0x40086602
FS_NODUMP = 0x40

ENVIRONMENT = "NEMOCLAW_ESCAPE_SECRET"
"""The variable of the caller that holds the secret."""


class Stage:
    """The targets of one attempt. Addresses are the host's, whatever side the attempt is on."""

    def __init__(self, facts: dict[str, Any], name: str) -> None:
        own = facts["attempts"][name]
        self.name = name
        self.facts = facts
        self.outside: bool = facts["side"] == "outside"
        self.home: str = facts["home"]
        self.work: str = facts["work"]
        self.base: str = facts["base"]
        self.run: str = facts["run"]
        self.target: str = own["target"]
        """A file with the secret in it, below home, of the attacker's own, mode 0755."""
        self.supervisor: int = facts["supervisor"]
        """The process that started the run: nemoclaw itself, or its stand-in."""
        self.parent: int = facts["parent"]
        """Parent of the attempts' runner, as seen by the runner."""
        self._victim: dict[str, int] = own.get("victim") or {}

    @property
    def directory(self) -> str:
        """The directory of :attr:`target`; holds nothing else."""
        return os.path.dirname(self.target)

    @property
    def victim(self) -> int:
        """Process id of the host process that is there for this attempt to attack."""
        return self._victim["pid"]

    def victim_fact(self, key: str) -> int:
        """``secret`` and ``scratch``: addresses in the victim; ``file``: its descriptor."""
        return self._victim[key]

    def path(self, key: str) -> str:
        """A path of the stage by its key, see ``host.py``."""
        found: str = self.facts["paths"][key]
        return found

    def fact(self, key: str) -> Any:
        """Any other fact of the stage.

        :raises CannotJudge: the host that prepared the stage has no such thing.
        """
        found = self.facts.get(key)
        if found is None:
            raise CannotJudge(f"the host has no {key}")
        return found

    def found(self, data: bytes) -> str:
        """Say that ``data`` holds the secret.

        :raises Stopped: it does not.
        """
        for match in SECRET.finditer(data):
            if hashlib.sha256(match.group()).hexdigest() == self.facts["digest"]:
                return "got the secret"
        raise Stopped(f"{len(data)} bytes without the secret")

    def read(self, path: str, *, dir_fd: int | None = None) -> str:
        """Read the secret out of a file.

        :raises OSError: it cannot be opened or read.
        :raises Stopped: the secret is not in it.
        """
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK, dir_fd=dir_fd)
        try:
            return self.found(os.read(descriptor, 65536))
        finally:
            os.close(descriptor)

    def ours(self, pid: int) -> bool:
        """True when ``pid`` is the runner or a descendant of it: a host's process id can by chance
        be one of our own inside a PID namespace."""
        while pid > 1:
            if pid in (self.facts["runner"], os.getpid()):
                return True
            try:
                with open(f"/proc/{pid}/stat", "rb") as file:
                    pid = int(file.read().rpartition(b")")[2].split()[1])
            except OSError:
                return False
        return False

    def other_processes(self) -> list[int]:
        """Ids in /proc of every process that is not the runner or a descendant of it."""
        visible = [int(name) for name in os.listdir("/proc") if name.isdigit()]
        return [pid for pid in visible if not self.ours(pid)]


def append(path: str, text: str = "planted\n") -> str:
    """Append to a file, creating it if need be, and say so."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
    return f"wrote {path}"


def opened(path: str, flags: int) -> str:
    """Open and close a file, and say so."""
    os.close(os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY))
    return f"opened {path}"


def set_flags(path: str) -> str:
    """Change the no-dump flag of a file, which its owner may, and say so."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        flags = struct.unpack("l", fcntl.ioctl(descriptor, FS_IOC_GETFLAGS, bytes(8)))[0]
        fcntl.ioctl(descriptor, FS_IOC_SETFLAGS, struct.pack("l", flags ^ FS_NODUMP))
    finally:
        os.close(descriptor)
    return "changed a flag"


def first(attacks: list[tuple[str, Any]]) -> str:
    """Try attacks in order and return what the first that works says.

    :raises Stopped: none did; the message holds each one's errno.
    """
    refusals = []
    for label, attack in attacks:
        try:
            return f"{label}: {attack()}"
        except OSError as error:
            refusals.append(f"{label} {error.strerror}")
    raise Stopped("; ".join(refusals) or "there is nothing to attack")


def effective_capabilities() -> int:
    """The effective capabilities of this process as a bit set, capabilities(7)."""
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1], 16) for line in file if line.startswith("CapEff"))
