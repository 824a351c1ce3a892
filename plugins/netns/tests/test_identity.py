"""Whose connection it is: real namespaces, real processes, and what an agent could try."""

from __future__ import annotations

import array
import asyncio
import ctypes
import fcntl
import hashlib
import os
import platform
import shutil
import signal
import socket
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
from nemoclaw_hookspecs import Caller
from nemoclaw_plugin_netns import netlink
from nemoclaw_plugin_netns.identity import Identifier

PYTHON = os.path.realpath("/usr/bin/python3")
FOREIGN, FOREIGN_6 = ("192.0.2.7", 443), ("2001:db8::7", 443)
PORT, PROXY = 15001, 3128
AGENT = 65532
"""Who the agent is when root starts it."""
NEW_USER, NEW_PID, NEW_NET = 0x10000000, 0x20000000, 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)
PRELUDE = """
import array, ctypes, os, socket, sys, threading, time
def say(text="ready"): sys.stdout.write(str(text) + "\\n"); sys.stdout.flush()
def hear(): return sys.stdin.readline()
def replace(code): os.execv(sys.argv[1], [sys.argv[1], "-S", "-c", code])
def dial(to=("192.0.2.7", 443), keep=False):
    s = socket.create_connection(to)
    s.set_inheritable(keep)
    return s
def send(over, *fds): over.sendmsg([b"x"], [(1, 1, array.array("i", fds))])
def take(over):
    fds = array.array("i"); fds.frombytes(over.recvmsg(1, 64)[1][0][2]); return list(fds)
"""


def unshare(flags: int) -> None:
    if LIBC.unshare(flags):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@attrs.frozen
class Agent:
    """A process that the sandbox's init has started, and its standard streams."""

    stdin: Any
    stdout: Any

    def hear(self) -> str:
        line: str = self.stdout.readline()
        assert line, "the agent's program failed"
        return line.strip()

    def say(self) -> None:
        self.stdin.write("\n")
        self.stdin.flush()


@attrs.frozen
class Accepted:
    """A connection as the supervisor has it."""

    served: socket.socket
    peer: tuple[Any, ...]
    dialled: tuple[Any, ...] = ()
    """Of one that was redirected."""

    @property
    def own(self) -> tuple[Any, ...]:
        own: tuple[Any, ...] = self.served.getsockname()
        return own


@attrs.define
class Box:
    """A sandbox: network and PID namespace, and for an ordinary user a user namespace."""

    init: int
    listener: socket.socket
    listener_6: socket.socket
    proxy: socket.socket
    diag: socket.socket
    conntrack: socket.socket
    channel: socket.socket
    folder: Path
    identifier: Identifier = attrs.field(init=False)
    agents: list[Agent] = attrs.field(init=False, factory=list)
    """Held, or their standard input would end."""

    def start(self, code: str, *arguments: str, program: str = PYTHON) -> Agent:
        """Run Python code in the sandbox, with what PRELUDE defines."""
        ours_in, theirs_in = os.pipe()[::-1]
        theirs_out, ours_out = os.pipe()[::-1]
        argv = [program, "-S", "-c", PRELUDE + code, *arguments]
        fds = array.array("i", [theirs_in, theirs_out])
        self.channel.sendmsg(
            ["\0".join(argv).encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)]
        )
        os.close(theirs_in)
        os.close(theirs_out)
        agent = Agent(os.fdopen(ours_in, "w"), os.fdopen(ours_out))
        self.agents.append(agent)
        return agent

    def accept(self, listener: socket.socket | None = None) -> Accepted:
        served, peer = (listener or self.listener).accept()
        return Accepted(served, peer, dialled(served))

    def caller(self, accepted: Accepted, **options: Any) -> Caller | None:
        return self.identifier.caller(accepted.own, accepted.peer, accepted.dialled, **options)

    def copy(self, name: str) -> str:
        """A copy of the interpreter: another executable."""
        target = self.folder / name
        shutil.copy(PYTHON, target)
        return str(target)


def dialled(served: socket.socket) -> tuple[Any, ...]:
    """Where a redirected client wanted to go: SO_ORIGINAL_DST."""
    if served.family == socket.AF_INET:
        port, address = struct.unpack_from("!2xH4s", served.getsockopt(socket.SOL_IP, 80, 16))
    else:
        port, address = struct.unpack_from("!2xH4x16s", served.getsockopt(41, 80, 28))
    return socket.inet_ntop(served.family, address), port


def _tell(protocol: int, messages: tuple[netlink.Message, ...]) -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol) as channel:
        channel.settimeout(5)
        channel.send(b"".join(message.data for message in messages))
        waiting = sum(message.data[4:6] not in (b"\x10\0", b"\x11\0") for message in messages)
        while waiting:
            data, at = channel.recv(65536), 0
            while at < len(data):
                length, kind = struct.unpack_from("=IH", data, at)
                (number,) = struct.unpack_from("=i", data, at + 16)
                assert kind == 2, kind
                if number:
                    raise OSError(-number, os.strerror(-number))
                waiting -= 1
                at += length + 3 & ~3


def _network() -> list[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        request = bytearray(struct.pack("16sh22x", b"lo", 1))
        fcntl.ioctl(link, 0x8914, request)
    _tell(0, netlink.routes())
    _tell(12, netlink.rules(PORT, 15053))
    return [
        socket.create_server(("127.0.0.1", PORT)),
        socket.create_server(("::1", PORT), family=socket.AF_INET6),
        socket.create_server(("127.0.0.1", PROXY)),
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4),
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12),
    ]


def _be_init(channel: socket.socket) -> None:
    LIBC.prctl(4, 0, 0, 0, 0)  # as the real one: not dumpable
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    network = _network()
    fds = array.array("i", [each.fileno() for each in network])
    channel.sendmsg([b"network"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
    for each in network:
        each.close()
    while True:
        data, control, _, _ = channel.recvmsg(65536, 1024)
        if not data:
            os._exit(0)
        stdin, stdout = struct.unpack("ii", control[0][2])
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.dup2(stdin, 0)
            os.dup2(stdout, 1)
            os.closerange(3, 256)
            if os.getuid() == 0:
                os.setgid(AGENT)
                os.setuid(AGENT)
            argv = data.decode().split("\0")
            os.execve(argv[0], argv, {"PYTHONHOME": "/usr"})
        os.close(stdin)
        os.close(stdout)


def _launch(channel: socket.socket) -> None:
    uid, gid = os.getuid(), os.getgid()
    unshare(NEW_PID | NEW_NET | (NEW_USER if uid else 0))
    if uid:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    init = os.fork()
    if init == 0:
        _be_init(channel)
    channel.send(struct.pack("i", init))


@contextmanager
def sandbox(folder: Path) -> Iterator[Box]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    launcher = os.fork()
    if launcher == 0:
        try:
            _launch(theirs)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    theirs.close()
    os.waitpid(launcher, 0)
    ours.settimeout(10)
    init = 0
    fds: list[int] = []
    while not (init and fds):
        data, control, _, _ = ours.recvmsg(100, 1024)
        assert data, "the sandbox could not be made"
        if control:
            fds = list(struct.unpack("iiiii", control[0][2]))
        else:
            (init,) = struct.unpack("i", data)
    sockets = [socket.socket(fileno=fd) for fd in fds]
    for each in sockets[:3]:
        each.settimeout(10)
    try:
        tcp, tcp_6, proxy, diag, conntrack = sockets
        box = Box(init, tcp, tcp_6, proxy, diag, conntrack, ours, folder)
        box.identifier = Identifier(box.diag, init, box.conntrack)
        yield box
        box.identifier.close()
    finally:
        os.kill(init, signal.SIGKILL)
        for each in (*sockets, ours):
            each.close()


USERS = {"root": 0, "user": 1234} if os.getuid() == 0 else {"user": os.getuid()}


def _report(body: Callable[[Box], None], uid: int, folder: Path) -> str:
    if os.getuid() != uid:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
        LIBC.prctl(4, 1, 0, 0, 0)
    try:
        with sandbox(folder) as box:
            body(box)
    except BaseException:
        return traceback.format_exc()
    return ""


@pytest.fixture(params=USERS)
def inside(request: pytest.FixtureRequest) -> Iterator[Callable[[Callable[[Box], None]], None]]:
    """``inside(body)``: run the body as a user who supervises a new sandbox."""
    uid = USERS[request.param]
    folder = Path(tempfile.mkdtemp(prefix="nemoclaw-identity-"))
    folder.chmod(0o755)
    os.chown(folder, uid, uid if os.getuid() == 0 else -1)

    def run(body: Callable[[Box], None]) -> None:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            sys.stdin = None
            signal.alarm(60)
            os.write(writer, _report(body, uid, folder).encode() or b"passed")
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            text = pipe.read()
        os.waitpid(child, 0)
        assert text == "passed", text

    yield run
    shutil.rmtree(folder)


def digest_of(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


Inside = Callable[[Callable[[Box], None]], None]


def test_owner_has_path_digest_and_pid(inside: Inside) -> None:
    def body(box: Box) -> None:
        box.start("s = dial(); hear()")
        accepted = box.accept()
        assert accepted.dialled == FOREIGN
        caller = box.caller(accepted)
        assert caller is not None
        assert (caller.executable, caller.sha256) == (PYTHON, digest_of(PYTHON))
        assert Path(f"/proc/{caller.pid}/cmdline").read_bytes().startswith(PYTHON.encode())
        assert caller.ancestors == ()
        assert box.caller(accepted) == caller

    inside(body)


def test_ipv6_and_ipv4_through_an_ipv6_socket(inside: Inside) -> None:
    def body(box: Box) -> None:
        box.start(f"s = dial({FOREIGN_6}); hear()")
        accepted = box.accept(box.listener_6)
        assert accepted.dialled == FOREIGN_6
        assert box.caller(accepted) is not None
        box.start("s = socket.socket(10, 1); s.connect(('::ffff:192.0.2.7', 443)); hear()")
        assert box.caller(box.accept()) is not None

    inside(body)


def test_explicit_proxy_is_asked_with_its_own_address(inside: Inside) -> None:
    def body(box: Box) -> None:
        box.start(f"s = dial(('127.0.0.1', {PROXY})); hear()")
        served, peer = box.proxy.accept()
        assert box.identifier.caller(served.getsockname(), peer) is not None
        assert box.identifier.caller(peer, served.getsockname()) is None, "our own end"

    inside(body)


FROM_PORT = """
def dial_from(port, to):
    s = socket.socket(socket.AF_INET6 if ":" in to[0] else socket.AF_INET)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("", port)); s.connect(to)
    return s
"""


@pytest.mark.parametrize("host", [FOREIGN[0], FOREIGN_6[0]])
def test_a_connection_whose_port_was_changed_on_its_way_is_its_clients(
    inside: Inside, host: str
) -> None:
    """One source port towards two servers: for the second, redirection has to take another. A
    socket that has that port by right, towards the same server, is not the one that is asked for.
    """

    def body(box: Box) -> None:
        listener = box.listener_6 if ":" in host else box.listener
        code = FROM_PORT + f"a = dial_from(40000, ({host!r}, 8443)); hear(); "
        attacker = box.start(code + f"b = dial_from(40000, ({host!r}, 443)); hear()")
        assert box.accept(listener).peer[1] == 40000
        attacker.say()
        changed = box.accept(listener)
        port = changed.peer[1]
        assert port != 40000
        # Nobody has such a socket: who looks for one denies this connection for no reason ...
        assert box.identifier._diagnostics.tcp(changed.peer, changed.dialled) is None
        caller = box.caller(changed)
        assert caller is not None
        assert caller.executable == PYTHON
        # ... and when another program has, it would be taken for the attacker's.
        victim = box.copy("victim")
        box.start(FROM_PORT + f"s = dial_from({port}, ({host!r}, 443)); hear()", program=victim)
        honest = box.accept(listener)
        assert box.identifier._diagnostics.tcp(changed.peer, changed.dialled) is not None
        for accepted, program in ((changed, PYTHON), (honest, victim)):
            caller = box.caller(accepted)
            assert caller is not None
            assert caller.executable == program
        # A kernel that cannot be asked: what could be either of two is nobody's.
        closed = socket.socket()
        closed.close()
        for without in (None, closed):
            identifier = Identifier(box.diag, box.init, without)
            for accepted in (changed, honest):
                arguments = accepted.own, accepted.peer, accepted.dialled
                assert identifier.caller(*arguments) is None
            identifier.close()

    inside(body)


def test_without_connection_tracking_the_only_socket_is_the_one(inside: Inside) -> None:
    def body(box: Box) -> None:
        box.start(f"s = dial(); t = dial({FOREIGN_6}); hear()")
        identifier = Identifier(box.diag, box.init)
        for listener in (box.listener, box.listener_6):
            accepted = box.accept(listener)
            caller = identifier.caller(accepted.own, accepted.peer, accepted.dialled)
            assert caller == box.caller(accepted)
            assert caller is not None
        identifier.close()

    inside(body)


def test_a_digest_that_takes_long_holds_up_nobody(inside: Inside) -> None:
    def body(box: Box) -> None:
        program = box.copy("large")
        with open(program, "ab") as file:
            file.truncate(1 << 26)
        box.start("s = dial(); t = dial(); hear()", program=program)
        first, second = box.accept(), box.accept()
        gaps = []

        async def tick() -> None:
            while True:
                begin = time.perf_counter()
                await asyncio.sleep(0.001)
                gaps.append(time.perf_counter() - begin)

        async def ask() -> None:
            ticking = asyncio.create_task(tick())
            begin = time.perf_counter()
            found = await asyncio.gather(
                *(
                    box.identifier.look_up(each.own, each.peer, each.dialled)
                    for each in (first, second)
                )
            )
            took = time.perf_counter() - begin
            ticking.cancel()
            for caller in found:
                assert caller is not None
                assert caller.sha256 == digest_of(program)
            assert len(gaps) > 20
            assert max(gaps) < took / 2, (max(gaps), took)

        asyncio.run(ask())

    inside(body)


def test_listener_is_never_taken_for_a_connection(inside: Inside) -> None:
    def body(box: Box) -> None:
        box.start("s = socket.create_server(('127.0.0.1', 4000)); say(); hear()").hear()
        assert box.identifier.caller(("127.0.0.1", 5000), ("127.0.0.1", 4000)) is None

    inside(body)


def test_ancestors_are_listed_and_give_no_right(inside: Inside) -> None:
    def body(box: Box) -> None:
        other = box.copy("other")
        code = PRELUDE + "s = dial(); hear()"
        box.start(
            "import subprocess; subprocess.run([sys.argv[1], '-S', '-c', sys.argv[2]])", other, code
        )
        caller = box.caller(box.accept())
        assert caller is not None
        assert (caller.executable, caller.ancestors) == (other, (PYTHON,))

    inside(body)


def test_closed_and_ended_callers_are_nobody(inside: Inside) -> None:
    def body(box: Box) -> None:
        agent = box.start("s = dial(); hear(); s.close(); say(); hear()")
        accepted = box.accept()
        assert box.caller(accepted) is not None
        agent.say()
        agent.hear()
        assert box.caller(accepted) is None
        for _ in range(20):
            box.start("dial()")
            accepted = box.accept()
            caller = box.caller(accepted, digest=False)
            assert caller is None or caller.executable == PYTHON
        time.sleep(0.1)
        assert box.caller(accepted) is None

    inside(body)


def test_exec_after_connect_shows_the_new_program(inside: Inside) -> None:
    def body(box: Box) -> None:
        other = box.copy("other")
        code = "s = dial(keep=True); hear()\nreplace('print(1, flush=True); input()')"
        for first, second in ((PYTHON, other), (other, PYTHON)):
            agent = box.start(code, second, program=first)
            accepted = box.accept()
            caller = box.caller(accepted)
            assert caller is not None
            assert caller.executable == first
            time.sleep(0.1)
            assert box.caller(accepted) == caller
            agent.say()
            agent.hear()
            now = box.caller(accepted)
            assert now is not None
            assert (now.executable, now.pid) == (second, caller.pid)

    inside(body)


def test_socket_shared_by_two_programs_is_nobodys(inside: Inside) -> None:
    def body(box: Box) -> None:
        agent = box.start(
            "s = dial(keep=True); hear()\n"
            "if os.fork() == 0: replace('print(1, flush=True); input()')\n"
            "time.sleep(60)",
            box.copy("other"),
        )
        accepted = box.accept()
        assert box.caller(accepted) is not None
        agent.say()
        agent.hear()
        assert box.caller(accepted) is None

    inside(body)


def test_socket_shared_by_one_program_is_that_programs(inside: Inside) -> None:
    def body(box: Box) -> None:
        box.start("s = dial(); os.fork(); say(); time.sleep(60)").hear()
        caller = box.caller(box.accept())
        assert caller is not None
        assert caller.executable == PYTHON

    inside(body)


PASSING = """
ours, theirs = socket.socketpair(socket.AF_UNIX, {kind})
ours.set_inheritable(True)
if os.fork() == 0:
    theirs.close()
    os.execv(sys.argv[1], [sys.argv[1], "-S", "-c", sys.argv[2], str(ours.fileno())])
ours.close()
s = dial(); hear(); send(theirs, s.fileno()); say("sent"); hear(); s.close(); say("closed"); hear()
"""


def test_descriptor_passed_on_belongs_to_its_new_owner(inside: Inside) -> None:
    def body(box: Box) -> None:
        taking = PRELUDE + "o = socket.socket(fileno=int(sys.argv[1])); take(o); time.sleep(60)"
        other = box.copy("other")
        agent = box.start(PASSING.format(kind="socket.SOCK_STREAM"), other, taking)
        accepted = box.accept()
        caller = box.caller(accepted)
        assert caller is not None
        assert caller.executable == PYTHON
        agent.say()
        agent.hear()
        time.sleep(0.2)
        assert box.caller(accepted) is None, "both have it"
        agent.say()
        agent.hear()
        caller = box.caller(accepted)
        assert caller is not None
        assert caller.executable == other

    inside(body)


@pytest.mark.parametrize("kind", ["STREAM", "SEQPACKET", "DGRAM"])
def test_descriptor_in_a_queue_makes_it_nobodys(inside: Inside, kind: str) -> None:
    def body(box: Box) -> None:
        empty = "" if kind == "STREAM" else "b''"
        agent = box.start(
            f"a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_{kind})\n"
            "s = dial(); hear()\n"
            f"a.sendmsg([{empty or repr(b'x')}], [(1, 1, array.array('i', [s.fileno()]))])\n"
            "a.close(); say(); hear(); b.recvmsg(1, 64); say(); hear()"
        )
        accepted = box.accept()
        assert box.caller(accepted) is not None
        agent.say()
        agent.hear()
        assert box.caller(accepted) is None
        agent.say()
        agent.hear()
        assert box.caller(accepted) is not None

    inside(body)


def test_descriptor_sent_to_a_connection_nobody_has_accepted_makes_it_nobodys(
    inside: Inside,
) -> None:
    def body(box: Box) -> None:
        agent = box.start(
            "l = socket.socket(1, 1); l.bind('\\0here'); l.listen()\n"
            "a = socket.socket(1, 1); a.connect('\\0here')\n"
            "s = dial(); hear(); send(a, s.fileno()); a.close(); say(); hear()"
        )
        accepted = box.accept()
        assert box.caller(accepted) is not None
        agent.say()
        agent.hear()
        assert box.caller(accepted) is None

    inside(body)


@pytest.mark.parametrize("leader", ["stays", "ends"])
def test_thread_with_a_table_of_its_own_is_an_owner(inside: Inside, leader: str) -> None:
    """The process's own table does not show the socket: only that of one thread does."""

    def body(box: Box) -> None:
        last = "hear()" if leader == "stays" else "ctypes.CDLL(None).syscall(60, 0)"
        if leader == "ends" and platform.machine() != "x86_64":
            pytest.skip("the number of exit(2) is that of x86-64")
        agent = box.start(
            "s = dial(keep=True)\n"
            "def hide():\n"
            "    ctypes.CDLL(None).unshare(0x400)\n"
            "    say(); time.sleep(60)\n"
            "if os.fork() == 0: replace('import time; time.sleep(60)')\n"
            "threading.Thread(target=hide, daemon=True).start()\n"
            "time.sleep(0.3); s.close(); say()\n" + last,
            box.copy("other"),
        )
        accepted = box.accept()
        agent.hear()
        agent.hear()
        time.sleep(0.1)
        assert box.caller(accepted) is None

    inside(body)


def test_process_that_hides_its_descriptors_is_an_owner(inside: Inside) -> None:
    """An ordinary user cannot list the ``fd`` of a process that is not dumpable, nor need it."""

    def body(box: Box) -> None:
        agent = box.start("ctypes.CDLL(None).prctl(4, 0, 0, 0, 0); s = dial(); hear()")
        caller = box.caller(box.accept())
        assert caller is not None
        assert caller.executable == PYTHON
        agent = box.start(
            "s = dial(keep=True)\n"
            "if os.fork() == 0:\n"
            "    ctypes.CDLL(None).prctl(4, 0, 0, 0, 0); say(); time.sleep(60)\n"
            "replace('print(1, flush=True); input()')",
            box.copy("other"),
        )
        accepted = box.accept()
        agent.hear()
        agent.hear()
        assert box.caller(accepted) is None

    inside(body)


def test_orphan_is_found(inside: Inside) -> None:
    def body(box: Box) -> None:
        for _ in range(3):
            box.start("if os.fork() == 0: time.sleep(0.1); s = dial(); time.sleep(60)")
            caller = box.caller(box.accept())
            assert caller is not None
            assert caller.ancestors == ()

    inside(body)


def test_links_to_an_executable(inside: Inside) -> None:
    """A symbolic link is the file that it leads to; a hard link is a path of its own."""

    def body(box: Box) -> None:
        real, link, twin = box.copy("real"), box.folder / "link", box.folder / "twin"
        link.symlink_to(real)
        os.link(real, twin)
        for program, seen in ((link, real), (twin, twin), (real, real)):
            box.start("s = dial(); hear()", program=str(program))
            caller = box.caller(box.accept())
            assert caller is not None
            assert (caller.executable, caller.sha256) == (str(seen), digest_of(real))

    inside(body)


def test_deleted_or_replaced_executable_is_nobody(inside: Inside) -> None:
    def body(box: Box) -> None:
        for name, keep in (("gone", False), ("replaced", True), ("fake (deleted)", None)):
            program = box.copy(name)
            box.start("s = dial(); hear()", program=program)
            accepted = box.accept()
            if keep is not None:
                assert box.caller(accepted) is not None
                os.link(program, box.folder / f"{name}-twin")
                os.unlink(program)
                if keep:
                    box.copy(name)
            assert box.caller(accepted) is None

    inside(body)


def test_memory_file_with_a_borrowed_name_is_nobody(inside: Inside) -> None:
    def body(box: Box) -> None:
        box.start(
            "m = os.memfd_create('/usr/bin/git', 0); os.write(m, open(sys.argv[1], 'rb').read())\n"
            "os.execv(f'/proc/self/fd/{m}', ['git', '-S', '-c', sys.argv[2]])",
            PYTHON,
            PRELUDE + "s = dial(); hear()",
        )
        assert box.caller(box.accept()) is None

    inside(body)


def test_digest_is_of_what_runs_now(inside: Inside) -> None:
    def body(box: Box) -> None:
        program = box.copy("tool")
        for extra in (b"", b"1", b"2"):
            os.unlink(program)
            Path(program).write_bytes(Path(PYTHON).read_bytes() + extra)
            Path(program).chmod(0o755)
            box.start("s = dial(); hear()", program=program)
            caller = box.caller(box.accept())
            assert caller is not None
            assert caller.sha256 == digest_of(program)

    inside(body)


def test_executable_that_may_not_be_read_has_no_digest(inside: Inside) -> None:
    def body(box: Box) -> None:
        program = box.copy("secret")
        Path(program).chmod(0o111)
        box.start("s = dial(); hear()", program=program)
        caller = box.caller(box.accept())
        assert caller is not None
        assert (caller.executable, bool(caller.sha256)) == (program, os.getuid() == 0)

    inside(body)


def test_script_is_its_interpreter(inside: Inside) -> None:
    def body(box: Box) -> None:
        script = box.folder / "script"
        script.write_text(f"#!{PYTHON}\n{PRELUDE}\ns = dial(); hear()\n")
        script.chmod(0o755)
        box.start("os.execv(sys.argv[1], [sys.argv[1]])", str(script))
        caller = box.caller(box.accept())
        assert caller is not None
        assert caller.executable == PYTHON

    inside(body)


def test_sleeper_is_read_anew_once_it_has_run(inside: Inside) -> None:
    def body(box: Box) -> None:
        agent = box.start("s = dial(); hear(); t = s.dup(); hear(); d = dial(); hear()")
        first = box.accept()
        for _ in range(3):
            assert box.caller(first) is not None
            time.sleep(0.06)
        agent.say()
        time.sleep(0.1)
        agent.say()
        second = box.accept()
        assert box.caller(second) is not None
        assert box.caller(first) is not None

    inside(body)


def test_descriptors_are_few_and_given_back(inside: Inside) -> None:
    def body(box: Box) -> None:
        before = len(os.listdir("/proc/self/fd"))
        agents = []
        for _ in range(12):
            agents.append(box.start("s = dial(); hear()"))
            accepted = box.accept()
            assert box.caller(accepted) is not None
        held = len(os.listdir("/proc/self/fd")) - before
        assert held <= 12 * 6
        for agent in agents:
            agent.say()
        time.sleep(0.5)
        assert box.caller(accepted) is None
        box.start("s = dial(); hear()")
        assert box.caller(box.accept()) is not None
        assert len(os.listdir("/proc/self/fd")) - before <= 12 * 3 + 10

    inside(body)


def test_twenty_processes_take_a_third_of_a_millisecond(inside: Inside) -> None:
    """Idle ones cost next to nothing. The bound has room for a busy machine: see the print."""

    def body(box: Box) -> None:
        box.start(
            "for _ in range(18):\n"
            "    if os.fork() == 0: f = [socket.socket() for _ in range(3)]; time.sleep(60)\n"
            "for _ in range(300): s = dial(); hear()"
        )
        agent = box.start("while 1: s = dial(); hear()")
        box.accept()
        times = []
        accepted = box.accept()
        for _ in range(100):
            begin = time.perf_counter()
            caller = box.caller(accepted)
            times.append(time.perf_counter() - begin)
            assert caller is not None
            agent.say()
            accepted = box.accept()
            time.sleep(0.002)
        middle = sorted(times[20:])[40]
        sys.stderr.write(f"\nidentify among 20 processes: {middle * 1e6:.0f} us\n")
        assert middle < 0.001

    inside(body)
