"""What a policy becomes on a host: rules, what is handled, and gaps."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from nemoclaw_hookspecs import Host, LandlockRuleset, Layer, Policy
from nemoclaw_hookspecs.version import API
from nemoclaw_plugin_landlock import NEMOCLAW_API, apply_fs, rights

MakePolicy = Callable[..., Policy]
MakeHost = Callable[..., Host]
VIEW = ("user", "mount", "pid", "network")
NO_NETWORK = ("user", "mount", "pid")
NETWORK_ONLY = ("user", "network")


def ruleset(layer: Layer) -> LandlockRuleset:
    (operation,) = layer.operations
    assert isinstance(operation, LandlockRuleset)
    return operation


def granted(layer: Layer) -> dict[str, int]:
    return {rule.path: rule.access for rule in ruleset(layer).rules}


def test_the_plugin_speaks_this_contract() -> None:
    assert NEMOCLAW_API[0] == API[0]
    assert NEMOCLAW_API[1] <= API[1]


def test_a_whole_host_has_no_gap(make_policy: MakePolicy, make_host: MakeHost) -> None:
    layer = apply_fs(make_policy(("read", "/usr"), ("write", "/work")), make_host())
    assert layer.status == "full"
    made = ruleset(layer)
    assert (made.handled_fs, made.handled_net, made.scoped) == (0xFFFF, 0, 3)
    assert made.restrict_flags == rights.LOG_NEW_EXEC_ON


def test_rules_name_the_policy_line(make_policy: MakePolicy, make_host: MakeHost) -> None:
    layer = apply_fs(make_policy(("read", "/usr"), ("write", "/work")), make_host())
    origins = {rule.path: rule.origin for rule in ruleset(layer).rules}
    assert origins["/usr"] == "policies.toml:10 filesystem.read"
    assert origins["/work"] == "policies.toml:11 filesystem.write"
    assert origins["/tmp"] == "policies.toml:5 filesystem.tmp"


def test_read_and_write_by_kind(make_policy: MakePolicy, make_host: MakeHost) -> None:
    paths = granted(
        apply_fs(
            make_policy(
                ("read", "/usr"),
                ("write", "/work"),
                ("read", "/etc/passwd", "file"),
                ("write", "/var/note", "file"),
                ("read", "/dev/kvm", "device"),
                ("write", "/dev/fuse", "device"),
                ("write", "/run/agent.sock", "socket"),
            ),
            make_host(),
        )
    )
    assert paths["/usr"] == rights.READ_TREE
    assert paths["/work"] == rights.WRITE_TREE
    assert paths["/etc/passwd"] == rights.EXECUTE | rights.READ_FILE
    assert paths["/var/note"] == (
        rights.EXECUTE | rights.READ_FILE | rights.WRITE_FILE | rights.TRUNCATE
    )
    assert paths["/dev/kvm"] == rights.READ_FILE
    assert paths["/dev/fuse"] == rights.READ_FILE | rights.WRITE_FILE | rights.IOCTL_DEV
    assert "/run/agent.sock" not in paths  # ABI 7 has no right for it; seccomp and mounts decide.


def test_a_named_socket_can_be_reached_where_landlock_guards_sockets(
    make_policy: MakePolicy, make_host: MakeHost
) -> None:
    policy = make_policy(("write", "/run/agent.sock", "socket"), ("write", "/work"))
    paths = granted(apply_fs(policy, make_host(abi=9)))
    assert paths["/run/agent.sock"] == rights.RESOLVE_UNIX
    assert not paths["/work"] & rights.RESOLVE_UNIX


def test_a_denied_rule_is_not_granted(make_policy: MakePolicy, make_host: MakeHost) -> None:
    policy = make_policy(
        ("read", "/data"), ("deny", "/data/private"), ("write", "/data/private/mine")
    )
    for host in (make_host(), make_host(namespaces=())):
        paths = granted(apply_fs(policy, host))
        assert "/data/private" not in paths
        assert "/data/private/mine" not in paths


def test_deny_hides_what_a_view_provides(make_policy: MakePolicy, make_host: MakeHost) -> None:
    paths = granted(apply_fs(make_policy(("deny", "/tmp"), ("deny", "/home")), make_host()))
    assert "/tmp" not in paths
    assert "/home/agent" not in paths


def test_the_policy_decides_for_a_path_that_the_view_provides_too(
    make_policy: MakePolicy, make_host: MakeHost
) -> None:
    paths = granted(apply_fs(make_policy(("read", "/tmp")), make_host()))
    assert paths["/tmp"] == rights.READ_TREE


def test_a_view_shows_the_hosts_directory_where_the_policy_grants_it(
    make_policy: MakePolicy, make_host: MakeHost
) -> None:
    """There is no private /tmp or home then, and no rule that would let the agent write there."""
    for shown in ("/", "/home"):
        paths = granted(apply_fs(make_policy(("read", shown)), make_host()))
        assert "/home/agent" not in paths
        assert ("/tmp" in paths) == (shown != "/")


def test_a_shared_tmp_is_written_also_where_the_root_is_shown(
    make_policy: MakePolicy, make_host: MakeHost
) -> None:
    paths = granted(apply_fs(make_policy(("read", "/"), tmp="shared"), make_host()))
    assert paths["/tmp"] == rights.WRITE_TREE


@pytest.mark.parametrize("missing", ["mount", "pid"])
def test_a_view_takes_a_mount_and_a_pid_namespace(
    make_policy: MakePolicy, make_host: MakeHost, missing: str
) -> None:
    kinds = tuple(kind for kind in VIEW if kind != missing)
    paths = granted(apply_fs(make_policy(("read", "/usr")), make_host(namespaces=kinds)))
    assert not {"/", "/tmp", "/home/agent", "/proc", "/dev/shm"} & set(paths)


def test_rules_that_a_wider_one_implies_are_left_out(
    make_policy: MakePolicy, make_host: MakeHost
) -> None:
    policy = make_policy(
        ("read", "/usr"), ("read", "/usr/lib"), ("write", "/usr/local"), ("read", "/usrlocal")
    )
    paths = granted(apply_fs(policy, make_host()))
    assert "/usr/lib" not in paths
    assert {"/usr", "/usr/local", "/usrlocal"} <= set(paths)


def test_of_two_rules_for_one_path_the_narrower_counts(
    make_policy: MakePolicy, make_host: MakeHost
) -> None:
    for rules in ((("read", "/w"), ("write", "/w")), (("write", "/w"), ("read", "/w"))):
        for host in (make_host(), make_host(namespaces=())):
            assert granted(apply_fs(make_policy(*rules), host))["/w"] == rights.READ_TREE


@pytest.mark.parametrize(
    ("tmp", "expected"),
    [("private", {"/tmp", "/home/agent"}), ("shared", {"/tmp"}), ("none", set())],
)
def test_tmp_and_home_in_a_view(
    make_policy: MakePolicy, make_host: MakeHost, tmp: str, expected: set[str]
) -> None:
    layer = apply_fs(make_policy(tmp=tmp), make_host())
    assert set(granted(layer)) & {"/tmp", "/home/agent", "/var/tmp"} == expected
    assert layer.status == "full"


def test_a_view_has_its_own_devices_terminals_and_proc(
    make_policy: MakePolicy, make_host: MakeHost
) -> None:
    paths = granted(apply_fs(make_policy(), make_host()))
    for name in ("null", "zero", "full", "random", "urandom", "tty"):
        assert paths[f"/dev/{name}"] == rights.READ_FILE | rights.WRITE_FILE | rights.IOCTL_DEV
    assert paths["/dev/pts"] & rights.IOCTL_DEV
    assert paths["/dev/shm"] == rights.WRITE_TREE
    assert paths["/proc"] == rights.READ_FILE | rights.READ_DIR
    assert paths["/"] == rights.READ_DIR


@pytest.mark.parametrize("enable", [("landlock",), ("landlock", "netns")])
def test_a_view_that_no_plugin_makes_is_not_counted_on(
    make_policy: MakePolicy, make_host: MakeHost, enable: tuple[str, ...]
) -> None:
    """Rules for a private home would open the host's, were the view missing."""
    layer = apply_fs(make_policy(("read", "/usr"), enable=enable), make_host())
    assert set(granted(layer)) == {"/usr", *(f"/dev/{name}" for name in DEVICES)}
    assert layer.status == "partial"
    assert any("mounts" in gap.remedy for gap in layer.gaps)


DEVICES = ("null", "zero", "full", "random", "urandom", "tty")


def test_without_a_view_the_hosts_shared_places_stay_closed(
    make_policy: MakePolicy, make_host: MakeHost
) -> None:
    layer = apply_fs(make_policy(("read", "/usr")), make_host(namespaces=NETWORK_ONLY))
    assert set(granted(layer)) == {"/usr", *(f"/dev/{name}" for name in DEVICES)}
    (gap,) = layer.gaps
    assert "private /tmp" in gap.what
    assert gap.origin == "policies.toml:5 filesystem.tmp"


def test_without_a_view_a_shared_tmp_is_granted(
    make_policy: MakePolicy, make_host: MakeHost
) -> None:
    layer = apply_fs(make_policy(tmp="shared"), make_host(namespaces=NETWORK_ONLY))
    assert granted(layer)["/tmp"] == rights.WRITE_TREE
    assert layer.status == "full"


def test_without_a_view_a_shared_tmp_with_a_denied_path_is_given_up(
    make_policy: MakePolicy, make_host: MakeHost
) -> None:
    policy = make_policy(("deny", "/tmp/keys"), tmp="shared")
    layer = apply_fs(policy, make_host(namespaces=NETWORK_ONLY))
    assert "/tmp" not in granted(layer)
    assert "/tmp/keys" in layer.gaps[0].consequence


def test_without_a_view_a_tree_with_a_denied_path_is_given_up(
    make_policy: MakePolicy, make_host: MakeHost
) -> None:
    policy = make_policy(
        ("write", "/work"),
        ("read", "/work/src"),
        ("deny", "/work/.git/hooks", "missing"),
        tmp="none",
    )
    layer = apply_fs(policy, make_host(namespaces=NETWORK_ONLY))
    paths = granted(layer)
    assert "/work" not in paths
    assert paths["/work/src"] == rights.READ_TREE
    (gap,) = layer.gaps
    assert "/work/.git/hooks (policies.toml:12 filesystem.deny)" in gap.consequence
    assert gap.origin == "policies.toml:10 filesystem.write"
    assert "user namespaces" in gap.remedy


def test_without_a_view_a_tree_with_a_read_only_island_can_only_be_read(
    make_policy: MakePolicy, make_host: MakeHost
) -> None:
    policy = make_policy(("write", "/work"), ("read", "/work/vendor"), tmp="none")
    layer = apply_fs(policy, make_host(namespaces=NETWORK_ONLY))
    assert granted(layer)["/work"] == rights.READ_TREE
    (gap,) = layer.gaps
    assert "/work/vendor" in gap.consequence


def test_with_a_view_islands_and_denied_paths_cost_nothing(
    make_policy: MakePolicy, make_host: MakeHost
) -> None:
    policy = make_policy(("write", "/work"), ("read", "/work/vendor"), ("deny", "/work/.env"))
    layer = apply_fs(policy, make_host())
    assert granted(layer)["/work"] == rights.WRITE_TREE
    assert layer.status == "full"


def test_without_a_network_namespace_no_port_is_granted(
    make_policy: MakePolicy, make_host: MakeHost
) -> None:
    layer = apply_fs(make_policy(), make_host(namespaces=NO_NETWORK))
    made = ruleset(layer)
    assert made.handled_net == rights.NET_BIND_TCP | rights.NET_CONNECT_TCP
    assert made.ports == ()
    (gap,) = layer.gaps
    assert "MPTCP" in gap.consequence


def test_a_network_namespace_that_no_plugin_makes_is_not_counted_on(
    make_policy: MakePolicy, make_host: MakeHost
) -> None:
    layer = apply_fs(make_policy(enable=("landlock", "mounts")), make_host())
    assert ruleset(layer).handled_net
    assert any("netns" in gap.remedy for gap in layer.gaps)


EXPECTED_GAPS = {1: 5, 2: 4, 3: 3, 4: 3, 5: 2, 6: 0, 7: 0, 8: 0, 9: 0, 10: 0, 11: 0}


@pytest.mark.parametrize("abi", EXPECTED_GAPS)
def test_each_right_that_an_older_abi_lacks_is_a_gap(
    make_policy: MakePolicy, make_host: MakeHost, abi: int
) -> None:
    layer = apply_fs(make_policy(("write", "/work"), ("read", "/usr")), make_host(abi=abi))
    assert len(layer.gaps) == EXPECTED_GAPS[abi]
    for gap in layer.gaps:
        assert gap.what
        assert gap.consequence
        assert "Linux" in gap.remedy
        assert gap.origin == "policies.toml:6 filesystem.compatibility"
    made = ruleset(layer)
    for rule in made.rules:
        assert rule.access
        assert not rule.access & ~made.handled_fs, rule


def test_a_gap_says_which_wall_is_left(make_policy: MakePolicy, make_host: MakeHost) -> None:
    def consequence(namespaces: tuple[str, ...]) -> str:
        gaps = apply_fs(make_policy(tmp="none"), make_host(5, namespaces)).gaps
        return next(gap.consequence for gap in gaps if "signal" in gap.what)

    assert "PID namespace" in consequence(VIEW)
    assert "any process of its user" in consequence(())


def test_without_landlock_there_is_a_gap_and_no_operation(
    make_policy: MakePolicy, make_host: MakeHost
) -> None:
    layer = apply_fs(make_policy(), make_host(abi=0))
    assert layer.status == "none"
    (gap,) = layer.gaps
    assert "lsm=" in gap.remedy


def test_without_landlock_net_and_network_namespace_the_network_is_a_gap(
    make_policy: MakePolicy, make_host: MakeHost
) -> None:
    layer = apply_fs(make_policy(tmp="none"), make_host(abi=3, namespaces=NO_NETWORK))
    assert ruleset(layer).handled_net == 0
    assert any("limit on the network" in gap.what for gap in layer.gaps)
