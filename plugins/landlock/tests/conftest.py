"""Policies, hosts, and a small interpreter that puts a ruleset on a child process."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import attrs
import pytest
from nemoclaw_hookspecs import (
    FilesystemPolicy,
    Host,
    InferencePolicy,
    LandlockRuleset,
    NetworkPolicy,
    Origin,
    PathRule,
    PluginPolicy,
    Policy,
    ProcessPolicy,
    SyscallPolicy,
)
from nemoclaw_hookspecs.policy import PathKind

ALL = ("user", "mount", "pid", "network", "ipc", "uts", "cgroup")
SHIPPED = ("landlock", "seccomp", "netns", "mounts")


def _policy(
    *rules: tuple[str, str] | tuple[str, str, str],
    tmp: str = "private",
    home: str = "/home/agent",
    enable: tuple[str, ...] = SHIPPED,
    contents: Mapping[str, Mapping[str, PathKind]] | None = None,
    fallback: str = "",
) -> Policy:
    """A policy of ``(access, path[, kind])`` rules; rule n stands in line n + 10.

    ``fallback`` is the path of a rule that something else makes harmless.
    """
    return Policy(
        name="test",
        file="policies.toml",
        filesystem=FilesystemPolicy(
            rules=tuple(
                PathRule(
                    access=rule[0],  # type: ignore[arg-type]
                    path=rule[1],
                    kind=rule[2] if len(rule) == 3 else "directory",  # type: ignore[arg-type]
                    uid=1000,
                    gid=1000,
                    origin=Origin(file="policies.toml", line=number, key=f"filesystem.{rule[0]}"),
                    fallback="nobody minds" if rule[1] == fallback else "",
                )
                for number, rule in enumerate(rules, start=10)
            ),
            tmp=tmp,  # type: ignore[arg-type]
            contents=contents or {},
            workdir="/home/agent/work",
            home=home,
            origins={
                "tmp": Origin(file="policies.toml", line=5, key="filesystem.tmp"),
                "compatibility": Origin(
                    file="policies.toml", line=6, key="filesystem.compatibility"
                ),
            },
        ),
        process=ProcessPolicy(
            uid=1000,
            gid=1000,
            switch_user=False,
            max_processes=512,
            max_memory=0,
            max_open_files=1024,
            timeout=0.0,
        ),
        syscalls=SyscallPolicy(),
        network=NetworkPolicy(),
        inference=InferencePolicy(),
        plugins=PluginPolicy(enable=enable),
    )


@pytest.fixture(scope="session")
def make_policy() -> Callable[..., Policy]:
    return _policy


@pytest.fixture(scope="session")
def make_host() -> Callable[..., Host]:
    """A host by its Landlock ABI and namespaces; everything else is there."""

    def make(abi: int = 7, namespaces: tuple[str, ...] = ALL) -> Host:
        return Host(
            machine=os.uname().machine,
            kernel="test",
            uid=1000,
            gid=1000,
            landlock_abi=abi,
            namespaces=namespaces,
            seccomp=True,
            idmapped_mounts=False,
            cgroup="none",
        )

    return make


_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _call(number: int, *arguments: object) -> int:
    result = int(_libc.syscall(number, *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), f"system call {number}")
    return result


@pytest.fixture(scope="session")
def kernel_abi() -> int:
    """The running kernel's Landlock ABI version."""
    version = int(_libc.syscall(444, None, ctypes.c_size_t(0), 1))
    if version < 1:
        pytest.skip("this kernel has no Landlock")
    return version


def restrict(ruleset: LandlockRuleset) -> None:
    """Carry a ruleset out on the calling process, by the system calls alone."""
    head = (ctypes.c_uint64 * 3)(ruleset.handled_fs, ruleset.handled_net, ruleset.scoped)
    size = 24 if ruleset.scoped else 16 if ruleset.handled_net else 8
    descriptor = _call(444, ctypes.byref(head), ctypes.c_size_t(size), 0)
    for rule in ruleset.rules:
        path = os.open(rule.path, os.O_PATH | os.O_NOFOLLOW)
        body = rule.access.to_bytes(8, "little") + path.to_bytes(4, "little")
        _call(445, descriptor, 1, ctypes.c_char_p(body), 0)
        os.close(path)
    for port, access in ruleset.ports:
        body = access.to_bytes(8, "little") + port.to_bytes(8, "little")
        _call(445, descriptor, 2, ctypes.c_char_p(body), 0)
    if _libc.prctl(38, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs")
    _call(446, descriptor, ctypes.c_uint(ruleset.restrict_flags))


@attrs.frozen(slots=True)
class Outcome:
    """What an attempt gave: ``done``, or the name of the error that stopped it."""

    text: str

    @property
    def works(self) -> bool:
        return self.text == "done"

    @property
    def refused(self) -> bool:
        """Stopped by a permission check, and not by a mistake of the test's own."""
        return self.text in ("EACCES", "EPERM", "EXDEV")


class Attempt(Protocol):
    def __call__(
        self,
        action: Callable[[], object],
        ruleset: LandlockRuleset | None = None,
        *,
        user: int | None = None,
    ) -> Outcome: ...


@pytest.fixture(scope="session")
def attempt() -> Attempt:
    """Run an action in a child of its own, sealed with a ruleset if one is given."""

    def run(
        action: Callable[[], object],
        ruleset: LandlockRuleset | None = None,
        *,
        user: int | None = None,
    ) -> Outcome:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            text = "died"
            try:
                if user is not None and user != os.getuid():
                    os.setgroups([])
                    os.setresgid(user, user, user)
                    os.setresuid(user, user, user)
                if ruleset is not None:
                    restrict(ruleset)
                try:
                    action()
                    text = "done"
                except OSError as error:
                    text = errno.errorcode.get(error.errno or 0, str(error))
            except BaseException as error:
                text = f"{type(error).__name__}: {error}"
            finally:
                os.write(writer, text.encode())
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as report:
            text = report.read()
        os.waitpid(child, 0)
        return Outcome(text)

    return run


USERS = (0, 1000) if os.getuid() == 0 else (os.getuid(),)


@pytest.fixture(params=USERS, ids=[f"uid{user}" for user in USERS])
def user(request: pytest.FixtureRequest) -> int:
    """Every attempt is made as root and as a plain user, where the test may change its id."""
    return int(request.param)


@attrs.frozen(slots=True)
class Ground:
    """Three directories: ``write`` and ``read`` are granted, ``out`` is not."""

    root: str

    def __call__(self, *names: str) -> str:
        return os.path.join(self.root, *names)


@pytest.fixture
def ground(user: int) -> Iterator[Ground]:
    root = os.path.realpath(tempfile.mkdtemp(prefix="landlock-"))
    try:
        for name in ("write", "write/below", "read", "out"):
            os.mkdir(os.path.join(root, name))
        for name in ("write/file", "read/file", "out/file"):
            with open(os.path.join(root, name), "w") as file:
                file.write("content")
        for name in ("write", "read", "out"):
            shutil.copy("/bin/true", os.path.join(root, name, "program"))
        for folder, _, files in os.walk(root):
            for name in (folder, *(os.path.join(folder, each) for each in files)):
                os.chown(name, user, user)
        yield Ground(root)
    finally:
        shutil.rmtree(root)


@pytest.fixture
def listener() -> Iterator[Callable[[int, object], socket.socket]]:
    """Open listening stream sockets outside the sandbox: ``listener(family, address)``."""
    opened: list[socket.socket] = []

    def listen(family: int, address: object) -> socket.socket:
        server = socket.socket(family, socket.SOCK_STREAM)
        opened.append(server)
        server.bind(address)  # type: ignore[arg-type]
        server.listen()
        return server

    yield listen
    for server in opened:
        server.close()
