"""Network: reaching servers of the host, and being reached, over IP."""

from __future__ import annotations

import os
import socket
import struct
import time
from typing import Any

from .registry import CannotJudge, Stopped, attempt
from .stage import Stage

PATIENCE = 2.0
MPTCP = 262


def greeting(stage: Stage, connection: socket.socket) -> str:
    """Receive what the host's server sends to everybody: the secret."""
    with connection:
        connection.settimeout(PATIENCE)
        return stage.found(connection.recv(128))


def _tcp(stage: Stage, address: str, protocol: int = 0, family: int = socket.AF_INET) -> str:
    if family == socket.AF_INET6:
        stage.fact("ipv6")
    connection = socket.socket(family, socket.SOCK_STREAM, protocol)
    connection.settimeout(PATIENCE)
    connection.connect((address, stage.fact("tcp")))
    return greeting(stage, connection)


def _udp(stage: Stage, address: str, family: int = socket.AF_INET) -> str:
    if family == socket.AF_INET6:
        stage.fact("ipv6")
    question = socket.socket(family, socket.SOCK_DGRAM)
    question.settimeout(PATIENCE)
    question.sendto(b"?", (address, stage.fact("udp")))
    return greeting(stage, question)


@attempt("network")
def connect_loopback(stage: Stage) -> str:
    """Connect to a server on the host's 127.0.0.1."""
    return _tcp(stage, "127.0.0.1")


@attempt("network")
def connect_loopback_6(stage: Stage) -> str:
    """Connect to a server on the host's ::1."""
    return _tcp(stage, "::1", family=socket.AF_INET6)


@attempt("network")
def connect_any_address(stage: Stage) -> str:
    """Connect to 0.0.0.0, which means the machine itself."""
    return _tcp(stage, "0.0.0.0")


@attempt("network")
def connect_any_address_6(stage: Stage) -> str:
    """Connect to ::, which means the machine itself."""
    return _tcp(stage, "::", family=socket.AF_INET6)


@attempt("network")
def connect_mapped_address(stage: Stage) -> str:
    """Connect to the IPv4 server through an IPv6 socket."""
    return _tcp(stage, "::ffff:127.0.0.1", family=socket.AF_INET6)


@attempt("network")
def connect_other_loopback(stage: Stage) -> str:
    """Connect to another address of the loopback net."""
    return _tcp(stage, "127.8.8.8")


@attempt("network")
def connect_host_address(stage: Stage) -> str:
    """Connect to the host's address on its network."""
    return _tcp(stage, stage.fact("host_address"))


@attempt("network")
def connect_mptcp(stage: Stage) -> str:
    """Connect with multipath TCP, which Landlock does not see."""
    return _tcp(stage, "127.0.0.1", MPTCP)


@attempt("network")
def connect_fast_open(stage: Stage) -> str:
    """Connect with TCP Fast Open, by sending without connecting."""
    connection = socket.socket()
    # Not settimeout(): on a socket that does not block, the call would only begin to connect.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 2, 0))
    connection.sendto(b"?", socket.MSG_FASTOPEN, ("127.0.0.1", stage.fact("tcp")))
    return greeting(stage, connection)


@attempt("network")
def connect_fast_open_option(stage: Stage) -> str:
    """Connect with TCP Fast Open by a socket option."""
    connection = socket.socket()
    connection.settimeout(PATIENCE)
    connection.setsockopt(socket.IPPROTO_TCP, 30, 1)  # TCP_FASTOPEN_CONNECT
    connection.connect(("127.0.0.1", stage.fact("tcp")))
    connection.send(b"?")
    return greeting(stage, connection)


@attempt("network")
def send_udp(stage: Stage) -> str:
    """Ask a UDP server on the host's 127.0.0.1."""
    return _udp(stage, "127.0.0.1")


@attempt("network")
def send_udp_6(stage: Stage) -> str:
    """Ask a UDP server on the host's ::1."""
    return _udp(stage, "::1", family=socket.AF_INET6)


@attempt("network")
def send_udp_to_resolver(stage: Stage) -> str:
    """Ask the host's stub resolver at 127.0.0.53."""
    return _udp(stage, "127.0.0.53")


@attempt("network")
def send_udp_to_host_address(stage: Stage) -> str:
    """Ask a UDP server at the host's address on its network."""
    return _udp(stage, stage.fact("host_address"))


@attempt("network")
def use_inherited_connection(stage: Stage) -> str:
    """Read from a connection that the caller left open."""
    return greeting(stage, socket.socket(fileno=os.dup(stage.fact("leaked")["socket"])))


def _listen(stage: Stage, listener: socket.socket) -> str:
    listener.settimeout(PATIENCE)
    if listener.type == socket.SOCK_DGRAM:
        return stage.found(listener.recv(128))
    listener.listen()
    return greeting(stage, listener.accept()[0])


@attempt("network")
def be_reached(stage: Stage) -> str:
    """Be reached by the host on a TCP port."""
    listener = socket.socket()
    listener.bind(("0.0.0.0", stage.fact("reach_tcp")))
    return _listen(stage, listener)


@attempt("network")
def be_reached_by_udp(stage: Stage) -> str:
    """Be reached by the host on a UDP port."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind(("0.0.0.0", stage.fact("reach_udp")))
    return _listen(stage, listener)


@attempt("network")
def be_reached_without_binding(stage: Stage) -> str:
    """Be reached on a port that listen() chose, without a bind that a rule could see."""
    listener = socket.socket()
    listener.listen()
    # The host looks at the port that is written here, in the directory that both can see.
    path = f"{stage.work}/{stage.name}.part"
    with open(path, "w", encoding="ascii") as file:
        file.write(str(listener.getsockname()[1]))
    os.rename(path, f"{stage.work}/{stage.name}")
    listener.settimeout(PATIENCE)
    return greeting(stage, listener.accept()[0])


@attempt("network", needs="namespace")
def send_raw(stage: Stage) -> str:
    """Open a raw socket."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        return f"descriptor {raw.fileno()}"


@attempt("network", needs="namespace")
def send_raw_6(stage: Stage) -> str:
    """Open a raw IPv6 socket."""
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        return f"descriptor {raw.fileno()}"


@attempt("network", needs="root")
def bind_system_port(stage: Stage) -> str:
    """Take a port below 1024 of the machine's."""
    for port in (1023, 1022, 1021):
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
            except PermissionError:
                raise
            except OSError:
                continue
            return f"port {port}"
    raise CannotJudge("they are all taken")


@attempt("network")
def see_host_connections(stage: Stage) -> str:
    """Find the host's server in /proc/net/tcp."""
    with open("/proc/net/tcp", encoding="ascii") as file:
        if f":{stage.fact('tcp'):04X} " not in file.read():
            raise Stopped("it is not listed")
    return "it is listed"


@attempt("network")
def see_host_interfaces(stage: Stage) -> str:
    """Find the host's interfaces, with an ioctl and in /proc."""
    found = {name for _, name in socket.if_nameindex()} - {"lo"}
    if not found & set(stage.fact("interfaces")):
        raise Stopped("there is none but lo")
    return " ".join(found)


def dump(protocol: int, kind: int, body: bytes, timeout: float = PATIENCE) -> bytes:
    """Everything that a netlink dump request gives."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol) as link:
        link.settimeout(timeout)
        link.send(struct.pack("IHHII", 16 + len(body), kind, 0x301, 1, 0) + body)
        answer: Any = b""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            part = link.recv(65536)
            answer += part
            if struct.unpack_from("H", part, 4)[0] in (2, 3):  # error, done
                break
            if b"\x03\0" in (part[-16:-14], part[-12:-10]):
                break
        return bytes(answer)
