"""What the network layer is on a host, and that it holds on this one."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest
from nemoclaw_hookspecs import (
    FilesystemPolicy,
    Host,
    InferencePolicy,
    LinkUp,
    Listen,
    Netlink,
    NetworkPolicy,
    NetworkRule,
    Origin,
    PluginPolicy,
    Policy,
    ProcessPolicy,
    SyscallPolicy,
    Unshare,
)
from nemoclaw_hookspecs.version import API
from nemoclaw_plugin_netns import NEMOCLAW_API, apply_net

MODE = Origin(file="policies.toml", line=3, key="network.mode")
GITHUB = NetworkRule(
    host="api.github.com",
    name="github read",
    origin=Origin(file="policies.toml", line=7, key="network.allow[0]"),
)
PYPI = NetworkRule(
    host="pypi.org", origin=Origin(file="policies.toml", line=12, key="network.allow[1]")
)


def policy(**network: Any) -> Policy:
    return Policy(
        name="test",
        file="policies.toml",
        filesystem=FilesystemPolicy(workdir="/work", home="/home/agent"),
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
        network=NetworkPolicy(origins={"mode": MODE}, **network),
        inference=InferencePolicy(),
        plugins=PluginPolicy(enable=("netns",)),
    )


def host(*namespaces: str) -> Host:
    return Host(
        machine="x86_64",
        kernel="test",
        uid=1000,
        gid=1000,
        landlock_abi=7,
        namespaces=namespaces,
        seccomp=True,
        idmapped_mounts=False,
        cgroup="none",
    )


def test_the_plugin_speaks_this_contract() -> None:
    assert NEMOCLAW_API[0] == API[0]
    assert NEMOCLAW_API[1] <= API[1]


def test_a_closed_network_is_a_namespace_with_its_loopback_up() -> None:
    layer = apply_net(policy(mode="none"), host("user", "network"))
    assert layer.status == "full"
    assert layer.operations == (
        Unshare(namespaces=("network",), origin=str(MODE)),
        LinkUp(interface="lo", origin=str(MODE)),
    )


def test_without_namespaces_there_is_a_gap_and_no_operation() -> None:
    layer = apply_net(policy(), host("user", "mount"))
    assert layer.status == "none"
    (gap,) = layer.gaps
    assert "loopback" in gap.consequence
    assert "user namespaces" in gap.remedy
    assert gap.origin == str(MODE)


def test_a_gated_network_ends_in_sockets_that_the_service_gets() -> None:
    layer = apply_net(policy(mode="proxy", allow=(GITHUB, PYPI)), host("network"))
    assert layer.status == "full"
    assert layer.service.startswith("nemoclaw_plugin_netns.")
    kinds = [type(each) for each in layer.operations]
    assert kinds[:4] == [Unshare, LinkUp, Netlink, Netlink]
    assert set(kinds[4:]) == {Listen}
    for each in layer.operations:
        if isinstance(each, Netlink):
            assert len(each.messages) == len(each.texts)
        assert each.origin == str(MODE)


def test_without_nftables_the_proxy_is_all_there_is() -> None:
    """Less reach than the policy gives is no hole: whole, strict runs too, and people are told."""
    poor = attrs.evolve(host("network", "mount"), nftables=False)
    layer = apply_net(policy(mode="proxy", allow=(PYPI,)), poor)
    assert layer.status == "full"
    (note,) = layer.notes
    assert "nftables" in note
    assert [each.name for each in layer.operations if isinstance(each, Listen)] == ["proxy", "diag"]
    assert not any(isinstance(each, Netlink) for each in layer.operations)
    rich = attrs.evolve(poor, nftables=True)
    assert apply_net(policy(mode="proxy", allow=(PYPI,)), rich).notes == ()


def test_the_plumbing_does_not_depend_on_the_rules() -> None:
    """Or a reload could not change them."""
    without = apply_net(policy(mode="proxy"), host("network"))
    assert without == apply_net(policy(mode="proxy", allow=(GITHUB,)), host("network"))
    assert without == apply_net(policy(mode="proxy", unknown="ask"), host("network"))


def test_a_rule_with_a_credential_terminates_tls_and_is_no_gap() -> None:
    rule = attrs.evolve(GITHUB, credential="github")
    network = policy(mode="proxy", allow=(rule,))
    viewed = attrs.evolve(host("network", "mount"), ca_bundle="/etc/ssl/ca.pem")
    layer = apply_net(network, viewed)
    assert layer is not None
    assert (layer.gaps, bool(layer.authority)) == ((), True)


def test_rules_of_a_network_that_is_switched_off_are_no_gap() -> None:
    layer = apply_net(policy(mode="none", allow=(GITHUB,), unknown="ask"), host("network"))
    assert layer.status == "full"


# ---- on this kernel -----------------------------------------------------------------------------

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def enter(layer_operations: tuple[object, ...], user: int) -> None:
    """Carry the layer's operations out on this process, with a user namespace if one is needed."""
    flags = 0 if user == 0 else CLONE_NEWUSER
    for each in layer_operations:
        if isinstance(each, Unshare):
            assert each.namespaces == ("network",)
            flags |= CLONE_NEWNET
    if _libc.unshare(flags):
        raise OSError(ctypes.get_errno(), "unshare")
    for each in layer_operations:
        if isinstance(each, LinkUp):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
                up = struct.pack("16sh22x", each.interface.encode(), 1)
                fcntl.ioctl(control, 0x8914, up)


USERS = (0, 1000) if os.getuid() == 0 else (os.getuid(),)


@pytest.fixture(params=USERS, ids=[f"uid{user}" for user in USERS])
def user(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def attempt(user: int) -> Callable[..., str]:
    """Run an action in a child, inside the layer or outside: ``done`` or the error's name."""

    def run(action: Callable[[], object], *, inside: bool) -> str:
        operations = apply_net(policy(), host("user", "network")).operations
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            text = "died"
            try:
                if user != os.getuid():
                    os.setgroups([])
                    os.setresgid(user, user, user)
                    os.setresuid(user, user, user)
                if inside:
                    try:
                        enter(operations, user)
                    except OSError as error:
                        text = f"cannot enter: {error}"
                        raise
                try:
                    action()
                    text = "done"
                except OSError as error:
                    text = errno.errorcode.get(error.errno or 0, str(error))
            finally:
                os.write(writer, text.encode())
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as report:
            text = report.read()
        os.waitpid(child, 0)
        if text.startswith("cannot enter"):
            pytest.skip(f"this host allows no network namespace: {text}")
        return text

    return run


def connect(family: int, address: Any, protocol: int = 0) -> None:
    with socket.socket(family, socket.SOCK_STREAM, protocol) as client:
        client.settimeout(5)
        client.connect(address)


def send(address: Any) -> None:
    """A datagram that is answered, or nothing was reached."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(1)
        client.connect(address)
        client.send(b"ping")
        client.recv(4)


@pytest.fixture
def server() -> Iterator[Any]:
    """A server on the host's loopback, TCP and UDP on one port."""
    with (
        socket.create_server(("127.0.0.1", 0)) as stream,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
    ):
        address = stream.getsockname()
        datagrams.bind(address)

        def answer() -> None:
            while True:
                data, sender = datagrams.recvfrom(16)
                if data == b"stop":
                    return
                datagrams.sendto(b"pong", sender)

        thread = threading.Thread(target=answer)
        thread.start()
        yield address
        datagrams.sendto(b"stop", address)
        thread.join()


ATTACKS: dict[str, Callable[[Any], object]] = {
    "tcp": lambda address: connect(socket.AF_INET, address),
    "mptcp": lambda address: connect(socket.AF_INET, address, 262),
    "udp": send,
    "tcp by a mapped address": lambda address: connect(
        socket.AF_INET6, ("::ffff:127.0.0.1", address[1])
    ),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_the_hosts_loopback_is_out_of_reach(
    name: str, attempt: Callable[..., str], server: Any
) -> None:
    outside = attempt(lambda: ATTACKS[name](server), inside=False)
    if name == "mptcp" and outside in ("EPROTONOSUPPORT", "ENOPROTOOPT"):
        pytest.skip("this kernel has no MPTCP")
    assert outside == "done"
    assert attempt(lambda: ATTACKS[name](server), inside=True) == "ECONNREFUSED"


def test_abstract_sockets_of_the_host_do_not_exist(attempt: Callable[..., str]) -> None:
    name = f"\0netns-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(name)
        listener.listen()
        assert attempt(lambda: connect(socket.AF_UNIX, name), inside=False) == "done"
        assert attempt(lambda: connect(socket.AF_UNIX, name), inside=True) == "ECONNREFUSED"


def test_no_address_outside_has_a_route(attempt: Callable[..., str]) -> None:
    """TEST-NET-1 (RFC 5737): nobody answers there, and inside not even a packet is sent."""
    assert attempt(lambda: connect(socket.AF_INET, ("192.0.2.1", 9)), inside=True) == "ENETUNREACH"


def test_there_is_one_interface(attempt: Callable[..., str]) -> None:
    def count() -> None:
        if [name for _, name in socket.if_nameindex()] != ["lo"]:
            raise OSError(errno.EEXIST, "another interface")

    assert attempt(count, inside=True) == "done"


@pytest.mark.parametrize("address", [("127.0.0.1", 0), ("::1", 0)], ids=["ipv4", "ipv6"])
def test_the_agents_own_servers_are_reachable(
    address: tuple[str, int], attempt: Callable[..., str]
) -> None:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET

    def talk() -> None:
        with socket.socket(family) as listener:
            listener.bind(address)
            listener.listen()
            connect(family, listener.getsockname())

    if attempt(talk, inside=False) == "EADDRNOTAVAIL":
        pytest.skip("this host has no IPv6 loopback")
    assert attempt(talk, inside=True) == "done"
