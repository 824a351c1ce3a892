"""Network: socket families other than IP, most of which no network namespace or rule covers."""

from __future__ import annotations

import socket
import struct

from .inet import dump
from .registry import Stopped, attempt
from .stage import Stage, first


def _make(family: int, kind: int, protocol: int) -> str:
    with socket.socket(family, kind, protocol) as made:
        return f"descriptor {made.fileno()}"


@attempt("network")
def open_machine_socket(stage: Stage) -> str:
    """Open a vsock socket, which speaks with the hypervisor."""
    return _make(40, socket.SOCK_STREAM, 0)


@attempt("network", needs="namespace")
def open_packet_socket(stage: Stage) -> str:
    """Open a packet socket."""
    return _make(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))


@attempt("network", needs="namespace")
def open_express_socket(stage: Stage) -> str:
    """Open an express data path socket."""
    return _make(44, socket.SOCK_RAW, 0)


@attempt("network")
def open_sctp_socket(stage: Stage) -> str:
    """Open an SCTP socket."""
    return _make(socket.AF_INET, socket.SOCK_STREAM, 132)


@attempt("network")
def open_rare_socket(stage: Stage) -> str:
    """Open a socket of a family or protocol that hardly anybody needs."""
    rare = {
        "AX25": (3, socket.SOCK_DGRAM, 0),
        "APPLETALK": (5, socket.SOCK_DGRAM, 0),
        "RDS": (21, socket.SOCK_SEQPACKET, 0),
        "PPPOX": (24, socket.SOCK_STREAM, 0),
        "LLC": (26, socket.SOCK_STREAM, 0),
        "CAN": (29, socket.SOCK_RAW, 1),
        "TIPC": (30, socket.SOCK_STREAM, 0),
        "BLUETOOTH": (31, socket.SOCK_RAW, 1),
        "PHONET": (35, socket.SOCK_DGRAM, 0),
        "ALG": (38, socket.SOCK_SEQPACKET, 0),
        "NFC": (39, socket.SOCK_SEQPACKET, 0),
        "KCM": (41, socket.SOCK_DGRAM, 0),
        "QIPCRTR": (42, socket.SOCK_DGRAM, 0),
        "SMC": (43, socket.SOCK_STREAM, 0),
        "MCTP": (45, socket.SOCK_DGRAM, 0),
        "DCCP": (socket.AF_INET, 6, 33),
        "UDPLITE": (socket.AF_INET, socket.SOCK_DGRAM, 136),
        "L2TP": (socket.AF_INET, socket.SOCK_DGRAM, 115),
        "VSOCK datagrams": (40, socket.SOCK_DGRAM, 0),
        "VSOCK packets": (40, socket.SOCK_SEQPACKET, 0),
    }
    return first([(name, lambda made=made: _make(*made)) for name, made in rare.items()])


def _netlink(protocol: int) -> str:
    return _make(socket.AF_NETLINK, socket.SOCK_RAW, protocol)


@attempt("network")
def open_netfilter(stage: Stage) -> str:
    """Open the packet filter's configuration interface."""
    return _netlink(12)


@attempt("network")
def open_audit(stage: Stage) -> str:
    """Open the audit interface."""
    return _netlink(9)


@attempt("network")
def hear_device_events(stage: Stage) -> str:
    """Listen to the kernel's device events."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 15) as events:
        events.bind((0, 1))
        return f"descriptor {events.fileno()}"


@attempt("network")
def open_other_netlink(stage: Stage) -> str:
    """Open any other netlink interface than routing's."""
    names = {4: "SOCK_DIAG", 6: "XFRM", 8: "ISCSI", 10: "FIB_LOOKUP", 11: "CONNECTOR"}
    names |= {16: "GENERIC", 18: "SCSITRANSPORT", 20: "RDMA", 21: "CRYPTO", 22: "SMC"}
    return first([(name, lambda number=number: _netlink(number)) for number, name in names.items()])


@attempt("network")
def list_host_sockets(stage: Stage) -> str:
    """List the host's sockets with the diagnosis interface."""
    request = struct.pack("BBBxI", socket.AF_INET, socket.IPPROTO_TCP, 0, 0xFFF) + bytes(48)
    if struct.pack(">H", stage.fact("tcp")) not in dump(4, 20, request):
        raise Stopped("the host's server is not listed")
    return "the host's server is listed"


@attempt("network")
def list_host_links(stage: Stage) -> str:
    """List the host's interfaces by netlink."""
    answer = dump(0, 18, bytes(16))
    found = [name for name in stage.fact("interfaces") if name.encode() + b"\0" in answer]
    if not found:
        raise Stopped("none of the host's is listed")
    return " ".join(found)


@attempt("network")
def list_host_addresses(stage: Stage) -> str:
    """Learn the host's address by netlink."""
    answer = dump(0, 22, bytes(8))
    if socket.inet_aton(stage.fact("host_address")) not in answer:
        raise Stopped("it is not listed")
    return "it is listed"


@attempt("network", needs="namespace")
def change_routes(stage: Stage) -> str:
    """Bring an interface down by netlink (one that does not exist)."""
    answer = b""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as link:
        body = struct.pack("BxHiII", 0, 0, 0x7FFFFFF0, 0, 1)
        link.send(struct.pack("IHHII", 32, 16, 5, 1, 0) + body)
        answer = link.recv(4096)
    code = -struct.unpack_from("i", answer, 16)[0]
    if code != 19:  # ENODEV: it was looked for
        raise OSError(code, "refused", "RTM_NEWLINK")
    return "the kernel looked for the interface"
