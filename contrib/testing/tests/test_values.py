"""Claims about the values that tests are built with."""

from __future__ import annotations

from collections.abc import Callable

from nemoclaw_hookspecs import NAMESPACES, Host, Policy
from nemoclaw_testing import HOSTS, make_host, make_policy, make_rule


def test_a_policy_differs_only_as_asked(policy_factory: Callable[..., Policy]) -> None:
    policy = policy_factory(process={"max_processes": 3}, compatibility="best-effort")
    assert policy.process.max_processes == 3
    assert policy.process.max_open_files == make_policy().process.max_open_files
    assert policy.compatibility == "best-effort"
    assert {rule.access for rule in policy.filesystem.rules} == {"read", "write", "deny"}


def test_a_host_differs_only_as_asked(host_factory: Callable[..., Host]) -> None:
    assert host_factory() == make_host()
    assert host_factory(namespaces=["pid"]).namespaces == frozenset({"pid"})
    assert make_host().namespaces == frozenset(NAMESPACES)


def test_a_missing_path_has_no_owner() -> None:
    assert make_rule("/x", "deny", "missing").uid == -1
    assert make_rule("/x").uid == 1000


def test_the_hosts_cover_what_differs_between_machines() -> None:
    assert len(set(HOSTS)) == len(HOSTS)
    assert {host.landlock_abi for host in HOSTS} == set(range(8))
    for abi in range(8):
        spaces = {bool(host.namespaces) for host in HOSTS if host.landlock_abi == abi}
        assert spaces == {True, False}
    pairs = {(host.machine, host.uid) for host in HOSTS}
    assert pairs == {(machine, uid) for machine in ("x86_64", "aarch64") for uid in (0, 1000)}
    assert {host.seccomp for host in HOSTS} == {True, False}
    for kind in NAMESPACES:
        assert any(host.namespaces == frozenset(NAMESPACES) - {kind} for host in HOSTS)
