"""Each attack works without the ruleset and fails with it: on this kernel, as root and as a user.

There is no mount view here. These tests show what Landlock stops when it stands alone.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from nemoclaw_hookspecs import Host, LandlockRuleset, Policy
from nemoclaw_plugin_landlock import apply_fs, rights

RNDGETENTCNT = 0x80045200
PTRACE_SEIZE = 0x4206
MPTCP = 262

Place = Callable[..., str]
_libc = ctypes.CDLL(None, use_errno=True)


@pytest.fixture
def sealed(
    make_policy: Callable[..., Policy],
    make_host: Callable[..., Host],
    kernel_abi: int,
    ground: Callable[..., str],
) -> LandlockRuleset:
    """The ruleset of a policy over the test's ground, on this kernel, without any namespace."""
    system = sorted({os.path.realpath(path) for path in ("/usr", "/lib", "/lib64", "/bin")})
    policy = make_policy(
        *(("read", path) for path in system if os.path.isdir(path)),
        ("write", ground("write")),
        ("read", ground("read")),
        ("read", "/dev/random", "device"),
        tmp="none",
    )
    (operation,) = apply_fs(policy, make_host(kernel_abi, ())).operations
    assert isinstance(operation, LandlockRuleset)
    return operation


def read(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.read(descriptor, 1)
    finally:
        os.close(descriptor)


def write(path: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.write(descriptor, b"x")
    os.close(descriptor)


def execute(path: str) -> None:
    """Run a program; the error of exec itself comes back as this function's."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.execv(path, [path])
        except OSError as error:
            os.write(writer, str(error.errno).encode())
        os._exit(1)
    os.close(writer)
    failed = os.read(reader, 16)
    _, status = os.waitpid(child, 0)
    if failed:
        raise OSError(int(failed), "exec")
    if status:
        raise OSError(0, f"the program ended with {status}")


def entropy(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, RNDGETENTCNT, bytes(4))
    finally:
        os.close(descriptor)


def connect(family: int, address: object, protocol: int = 0) -> None:
    client = socket.socket(family, socket.SOCK_STREAM, protocol)
    client.settimeout(5)
    client.connect(address)  # type: ignore[arg-type]
    client.close()


def listen_on_loopback() -> None:
    server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    server.bind(("127.0.0.1", 0))
    server.close()


def bind_unix(path: str) -> None:
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(path)
    server.close()


def trace(pid: int) -> None:
    if _libc.ptrace(PTRACE_SEIZE, pid, None, None):
        raise OSError(ctypes.get_errno(), "ptrace")


def leave_through_a_link(at: Place) -> None:
    os.symlink(at("out", "file"), at("write", "away"))
    read(at("write", "away"))


def create_and_remove(at: Place) -> None:
    write(at("write", "new"))
    os.unlink(at("write", "new"))


def make_and_remove_a_directory(at: Place) -> None:
    os.mkdir(at("write", "new"))
    os.rmdir(at("write", "new"))


FILES: dict[str, Callable[[Place], object]] = {
    "read a file": lambda at: read(at("out", "file")),
    "write a file": lambda at: write(at("out", "file")),
    "create a file": lambda at: write(at("out", "new")),
    "list a directory": lambda at: os.listdir(at("out")),
    "execute a program": lambda at: execute(at("out", "program")),
    "remove a file": lambda at: os.unlink(at("out", "file")),
    "make a directory": lambda at: os.mkdir(at("out", "new")),
    "make a link": lambda at: os.symlink("/etc/passwd", at("out", "new")),
    "make a fifo": lambda at: os.mkfifo(at("out", "new")),
    "make a socket": lambda at: bind_unix(at("out", "new")),
    "truncate a file outside": lambda at: os.truncate(at("out", "file"), 0),
    "truncate a readable file": lambda at: os.truncate(at("read", "file"), 0),
    "write a readable file": lambda at: write(at("read", "file")),
    "remove a readable file": lambda at: os.unlink(at("read", "file")),
    "move a file in": lambda at: os.rename(at("out", "file"), at("write", "moved")),
    "move a file out": lambda at: os.rename(at("write", "file"), at("out", "moved")),
    "move a readable file": lambda at: os.rename(at("read", "file"), at("write", "moved")),
    "hard-link a file in": lambda at: os.link(at("out", "file"), at("write", "linked")),
    "hard-link a readable file": lambda at: os.link(at("read", "file"), at("write", "linked")),
    "leave through a link": leave_through_a_link,
    "leave through dots": lambda at: read(at("write", "..", "out", "file")),
    "control a readable device": lambda at: entropy("/dev/random"),
    "open another terminal": lambda at: os.close(os.open("/dev/ptmx", os.O_RDWR)),
    "read the host's proc": lambda at: read("/proc/self/maps"),
}


@pytest.mark.parametrize("name", FILES)
def test_file_attack_works_outside_and_fails_inside(
    name: str,
    attempt: Callable[..., Any],
    sealed: LandlockRuleset,
    ground: Callable[..., str],
    user: int,
) -> None:
    # The sealed attempt comes first: were it to work, the other would find nothing to do.
    inside = attempt(lambda: FILES[name](ground), sealed, user=user)
    assert inside.refused, inside
    if os.path.islink(ground("write", "away")):
        os.unlink(ground("write", "away"))
    outside = attempt(lambda: FILES[name](ground), user=user)
    assert outside.works, outside


@pytest.mark.skipif(os.getuid() != 0, reason="only root makes device files")
def test_root_cannot_make_a_device_file_inside_a_writable_tree(
    attempt: Callable[..., Any], sealed: LandlockRuleset, ground: Callable[..., str]
) -> None:
    def make() -> None:
        os.mknod(ground("write", "memory"), 0o20666, os.makedev(1, 3))

    assert attempt(make, sealed).refused
    assert attempt(make).works


ALLOWED: dict[str, Callable[[Place], object]] = {
    "read": lambda at: read(at("read", "file")),
    "execute": lambda at: execute(at("read", "program")),
    "execute its own": lambda at: execute(at("write", "program")),
    "write": lambda at: write(at("write", "file")),
    "truncate": lambda at: os.truncate(at("write", "file"), 0),
    "create and remove": create_and_remove,
    "directories": make_and_remove_a_directory,
    "links": lambda at: os.symlink("file", at("write", "link")),
    "hard links": lambda at: os.link(at("write", "file"), at("write", "below", "link")),
    "pipes": lambda at: os.mkfifo(at("write", "pipe")),
    "sockets": lambda at: bind_unix(at("write", "socket")),
    "move across directories": lambda at: os.rename(
        at("write", "file"), at("write", "below", "file")
    ),
    "list": lambda at: os.listdir(at("write")),
    "null": lambda at: write("/dev/null"),
    "device control": lambda at: entropy("/dev/urandom"),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_what_the_policy_permits_works_inside(
    name: str,
    attempt: Callable[..., Any],
    sealed: LandlockRuleset,
    ground: Callable[..., str],
    user: int,
) -> None:
    inside = attempt(lambda: ALLOWED[name](ground), sealed, user=user)
    assert inside.works, inside


@pytest.fixture
def bystander(user: int) -> Iterator[int]:
    """A process outside the sandbox, of the same user, that ignores what it is sent."""
    ready, tell = os.pipe()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        if os.getuid() != user:
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
            # A process that changed its id may not be traced by that id's own processes.
            _libc.prctl(4, 1, 0, 0, 0)
        os.write(tell, b"x")
        time.sleep(60)
        os._exit(0)
    os.read(ready, 1)
    os.close(ready)
    os.close(tell)
    yield child
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


@pytest.mark.parametrize(
    "action",
    [
        lambda pid: os.kill(pid, signal.SIGUSR1),
        lambda pid: os.kill(pid, 0),
        lambda pid: signal.pidfd_send_signal(os.pidfd_open(pid), signal.SIGUSR1),
    ],
    ids=["kill", "probe", "pidfd"],
)
def test_signals_do_not_leave_the_sandbox(
    action: Callable[[int], object],
    attempt: Callable[..., Any],
    sealed: LandlockRuleset,
    bystander: int,
    user: int,
) -> None:
    if not sealed.scoped & rights.SCOPE_SIGNAL:
        pytest.skip("this kernel has no signal scope")
    assert attempt(lambda: action(bystander), user=user).works
    assert attempt(lambda: action(bystander), sealed, user=user).text == "EPERM"


def test_processes_outside_cannot_be_traced(
    attempt: Callable[..., Any], sealed: LandlockRuleset, bystander: int, user: int
) -> None:
    if not attempt(lambda: trace(bystander), user=user).works:
        pytest.skip("this host lets no process trace one that is not its child")
    assert attempt(lambda: trace(bystander), sealed, user=user).refused


def test_signals_inside_the_sandbox_work(
    attempt: Callable[..., Any], sealed: LandlockRuleset, user: int
) -> None:
    def stop_a_child() -> None:
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        os.kill(child, signal.SIGTERM)
        _, status = os.waitpid(child, 0)
        if os.WTERMSIG(status) != signal.SIGTERM:
            raise OSError(0, f"status {status}")

    assert attempt(stop_a_child, sealed, user=user).works


def test_abstract_sockets_outside_are_out_of_reach(
    attempt: Callable[..., Any],
    sealed: LandlockRuleset,
    listener: Callable[[int, object], socket.socket],
    user: int,
) -> None:
    if not sealed.scoped & rights.SCOPE_ABSTRACT_UNIX_SOCKET:
        pytest.skip("this kernel has no scope for abstract sockets")
    name = f"\0landlock-test-{os.getpid()}-{user}"
    listener(socket.AF_UNIX, name)
    assert attempt(lambda: connect(socket.AF_UNIX, name), user=user).works
    assert attempt(lambda: connect(socket.AF_UNIX, name), sealed, user=user).text == "EPERM"


def test_tcp_is_closed_where_there_is_no_network_namespace(
    attempt: Callable[..., Any],
    sealed: LandlockRuleset,
    listener: Callable[[int, object], socket.socket],
    user: int,
) -> None:
    if not sealed.handled_net:
        pytest.skip("this kernel's Landlock knows no network")
    address = listener(socket.AF_INET, ("127.0.0.1", 0)).getsockname()
    assert attempt(lambda: connect(socket.AF_INET, address), user=user).works
    assert attempt(lambda: connect(socket.AF_INET, address), sealed, user=user).text == "EACCES"
    assert attempt(listen_on_loopback, user=user).works
    assert attempt(listen_on_loopback, sealed, user=user).text == "EACCES"


def test_mptcp_passes_and_the_layer_says_so(
    attempt: Callable[..., Any],
    sealed: LandlockRuleset,
    listener: Callable[[int, object], socket.socket],
    make_policy: Callable[..., Policy],
    make_host: Callable[..., Host],
    kernel_abi: int,
    user: int,
) -> None:
    """Why Landlock is not the network's boundary, and why this is a gap in a strict policy."""
    address = listener(socket.AF_INET, ("127.0.0.1", 0)).getsockname()
    if not attempt(lambda: connect(socket.AF_INET, address, MPTCP), user=user).works:
        pytest.skip("this kernel has no MPTCP")
    assert attempt(lambda: connect(socket.AF_INET, address, MPTCP), sealed, user=user).works
    layer = apply_fs(make_policy(tmp="none"), make_host(kernel_abi, ()))
    assert any("MPTCP" in gap.consequence for gap in layer.gaps)


@pytest.mark.parametrize("abi", [1, 2, 3, 4, 5, 6, 7])
def test_the_kernel_takes_the_ruleset_of_every_older_abi(
    abi: int,
    attempt: Callable[..., Any],
    make_policy: Callable[..., Policy],
    make_host: Callable[..., Host],
    ground: Callable[..., str],
    kernel_abi: int,
    user: int,
) -> None:
    if abi > kernel_abi:
        pytest.skip(f"this kernel has ABI {kernel_abi}")
    policy = make_policy(
        ("write", ground("write")),
        ("read", ground("read", "file"), "file"),
        ("write", ground("out", "file"), "file"),
        ("write", "/dev/null", "device"),
        tmp="none",
    )
    (operation,) = apply_fs(policy, make_host(abi, ())).operations
    assert isinstance(operation, LandlockRuleset)
    assert attempt(lambda: write(ground("write", "file")), operation, user=user).works
    assert attempt(lambda: read(ground("out", "program")), operation, user=user).refused
