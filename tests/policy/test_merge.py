"""Claims about extends: lists add, scalars override, tables merge, each value keeps its line."""

from __future__ import annotations

import pytest

from nemoclaw_core.policy import load, merge
from nemoclaw_core.policy.document import PolicyTable
from nemoclaw_core.policy.problems import Key

from .conftest import Ground, problems_of, resolved

FAMILY = """version = 1

[policy.low]
process.timeout = "1m"
process.max_processes = 10
process.environment = { pass = ["LANG", "TERM"], set = { A = "low", B = "low" } }
syscalls.deny = ["bpf"]

[policy.left]
extends = ["low"]
process.timeout = "2m"
process.environment = { pass = ["TZ"], set = { B = "left" } }

[policy.right]
extends = ["low"]
process.max_processes = 30

[policy.default]
extends = ["left", "right"]
process.environment.pass = ["TERM", "CI"]
syscalls.deny = ["bpf", "ptrace"]
syscalls.action = "kill"
"""


def test_lists_add_base_first_and_repeat_nothing(ground: Ground) -> None:
    policy = resolved(FAMILY, ground.context)
    assert policy.process.environment_pass == ("LANG", "TERM", "TZ", "CI")
    assert policy.syscalls.deny == ("bpf", "ptrace")


def test_scalars_override_and_a_sibling_does_not_undo_them(ground: Ground) -> None:
    policy = resolved(FAMILY, ground.context)
    # `right` comes after `left` and inherits `low`'s timeout, which must not win over `left`'s.
    assert policy.process.timeout == 120
    assert policy.process.max_processes == 30
    assert policy.syscalls.action == "kill"


def test_tables_merge_by_key(ground: Ground) -> None:
    policy = resolved(FAMILY, ground.context)
    assert policy.process.environment_set == {"A": "low", "B": "left"}


def test_every_value_keeps_the_line_that_said_it(ground: Ground) -> None:
    policy = resolved(FAMILY, ground.context)
    origins = policy.process.origins
    assert str(origins["timeout"]) == "p.toml:11 policy.left.process.timeout"
    assert str(origins["max_processes"]) == "p.toml:16 policy.right.process.max_processes"
    assert str(origins["environment.pass[1]"]) == "p.toml:6 policy.low.process.environment.pass[1]"
    assert str(origins["environment.pass[3]"]) == (
        "p.toml:20 policy.default.process.environment.pass[1]"
    )
    assert str(origins["environment.set.B"]) == "p.toml:12 policy.left.process.environment.set.B"
    # A list as a whole stands where its first item was written.
    assert str(policy.syscalls.origins["deny"]) == "p.toml:7 policy.low.syscalls.deny"
    assert str(policy.syscalls.origins["deny[0]"]) == "p.toml:7 policy.low.syscalls.deny[0]"
    assert str(policy.syscalls.origins["deny[1]"]) == "p.toml:21 policy.default.syscalls.deny[1]"
    assert "gpu" not in origins


def test_what_nobody_says_is_the_narrowest(ground: Ground) -> None:
    policy = resolved("version = 1\n[policy.default]\n", ground.context)
    assert [rule for rule in policy.filesystem.rules if rule.access != "deny"] == []
    assert policy.filesystem.tmp == "private"
    assert policy.compatibility == "strict"
    assert policy.process.environment_pass == ()
    assert not policy.process.gpu
    assert policy.process.max_processes == 512
    assert policy.process.max_memory == 4 << 30
    assert policy.network.mode == "none"
    assert policy.inference.default == policy.inference.sensitive == "deny"
    assert policy.syscalls.profile == "agent"
    assert policy.syscalls.action == "errno"


def test_a_policy_extends_those_that_ship(ground: Ground) -> None:
    text = "version = 1\n[policy.default]\nextends = ['base']\nfilesystem.read = ['/proc/sys']\n"
    policy = resolved(text, ground.context)
    assert {"/usr", "/etc", "/proc/sys"} <= {rule.path for rule in policy.filesystem.rules}
    usr = next(rule for rule in policy.filesystem.rules if rule.path == "/usr")
    assert usr.origin.file.endswith("policies.toml")
    assert usr.origin.key == "policy.base.filesystem.read[0]"


def test_a_policy_of_the_same_file_comes_before_one_that_ships(ground: Ground) -> None:
    text = "version = 1\n[policy.default]\nextends = ['base']\n[policy.base]\nprocess.gpu = true\n"
    policy = resolved(text, ground.context)
    assert policy.process.gpu
    assert policy.process.environment_pass == ()


def test_a_policy_can_build_on_the_shipped_one_of_its_own_name(ground: Ground) -> None:
    text = "version = 1\n[policy.default]\nextends = ['default']\nprocess.gpu = true\n"
    policy = resolved(text, ground.context)
    assert policy.process.gpu
    assert str(ground.work) in {rule.path for rule in policy.filesystem.rules}


def test_circles_are_refused_with_the_way_round() -> None:
    text = (
        "version = 1\n[policy.a]\nextends = ['b']\n[policy.b]\nextends = ['c']\n"
        "[policy.c]\nextends = ['b']\n[policy.d]\nextends = ['d']\n"
    )
    found = problems_of(text)
    assert "7 policy.c.extends[0]: extends itself in a circle: b -> c -> b" in found
    # Its own name can only mean a shipped policy, and none is called so.
    assert any(each.startswith('9 policy.d.extends[0]: there is no policy "d"') for each in found)


def test_a_derived_policy_takes_a_grant_back_by_denying_it(ground: Ground) -> None:
    (ground.work / "a").mkdir()
    text = (
        "version = 1\n[policy.low]\nfilesystem.write = ['{workdir}', '/opt?']\n"
        "filesystem.read = ['/etc']\n"
        "[policy.default]\nextends = ['low']\nfilesystem.deny = ['/etc', '{workdir}/a']\n"
    )
    policy = resolved(text, ground.context)
    granted = {rule.path for rule in policy.filesystem.rules if rule.access != "deny"}
    assert "/etc" not in granted
    assert str(ground.work) in granted
    assert str(ground.work / "a") in {
        rule.path for rule in policy.filesystem.rules if rule.access == "deny"
    }


NETWORK = """version = 1
[policy.low]
network.mode = "proxy"
network.allow = [{ host = "a.com" }]
[policy.low.inference]
default = "cloud"
rules = [{ labels = ["x"], route = "deny" }]
[policy.low.inference.backends.cloud]
type = "openai"
base_url = "https://a.com"
[policy.default]
extends = ["low"]
[[policy.default.network.allow]]
host = "A.com"
[[policy.default.network.allow]]
host = "**.B.com"
name = "b"
ports = [80, 443]
binaries = ["/usr/bin/git", { path = "~/x/*", sha256 = "%s" }]
http = [{ methods = ["GET", "HEAD"], path = "/r/**" }]
deny_http = [{ methods = ["*"], path = "/r/secret" }]
tls = "terminate"
addresses = ["10.0.0.0/8"]
credential = "c"
[[policy.default.inference.rules]]
labels = ["y", "z"]
route = "ask"
min_confidence = 1
redact = "irreversible"
[policy.default.inference.backends.cloud]
type = "anthropic"
[credential.c]
from_env = "C"
""" % ("0" * 64)


def test_network_and_inference_keys_become_the_contract_types(ground: Ground) -> None:
    policy = resolved(NETWORK, ground.context)
    assert [rule.host for rule in policy.network.allow] == ["a.com", "**.b.com"]
    rule = policy.network.allow[1]
    assert str(rule.origin) == "p.toml:15 policy.default.network.allow[1]"
    assert rule.name == "b"
    assert rule.ports == (80, 443)
    assert [each.path for each in rule.binaries] == ["/usr/bin/git", f"{ground.home}/x/*"]
    assert rule.binaries[1].sha256 == "0" * 64
    assert (rule.http[0].methods, rule.http[0].path) == (("GET", "HEAD"), "/r/**")
    assert rule.deny_http[0].methods == ("*",)
    assert (rule.tls, rule.addresses, rule.credential) == ("terminate", ("10.0.0.0/8",), "c")
    assert policy.network.allow[0].ports == (443,)
    first, second = policy.inference.rules
    assert (first.labels, first.route, first.min_confidence) == (("x",), "deny", 0.5)
    assert (second.min_confidence, second.redact) == (1.0, "irreversible")
    assert policy.inference.backends["cloud"].type == "anthropic"
    assert policy.inference.backends["cloud"].options == {}


def test_a_backend_of_the_base_can_be_named_by_the_derived(ground: Ground) -> None:
    text = (
        "version = 1\n[policy.low.inference.backends.cloud]\ntype = 'x'\n"
        "[policy.default]\nextends = ['low']\ninference.default = 'cloud'\n"
    )
    assert resolved(text, ground.context).inference.default == "cloud"


PLUGINS = "version = 1\n[policy.default]\n[plugins]\n"
ALL = "enable = ['mounts', 'landlock', 'seccomp', 'netns', 'audit']\n"


def test_a_file_without_plugins_uses_those_that_ship(ground: Ground) -> None:
    plugins = resolved("version = 1\n[policy.default]\n", ground.context).plugins
    assert plugins.enable == plugins.required == ("mounts", "landlock", "seccomp", "netns")


@pytest.mark.parametrize("required", ["", "required = []\n", "required = ['audit']\n"])
def test_no_file_drops_a_required_layer(ground: Ground, required: str) -> None:
    plugins = resolved(PLUGINS + ALL + required, ground.context).plugins
    assert {"mounts", "landlock", "seccomp", "netns"} <= set(plugins.required)
    assert plugins.enable[-1] == "audit"
    assert ("audit" in plugins.required) == ("audit" in required)


@pytest.mark.parametrize("enable", ["[]", "['mounts', 'landlock', 'seccomp']", "['audit']"])
def test_enable_without_a_required_layer_is_refused(enable: str) -> None:
    assert '"netns" is missing, which nemoclaw requires' in "\n".join(
        problems_of(f"{PLUGINS}enable = {enable}\n")
    )


def test_tables_of_plugins_reach_the_policy(ground: Ground) -> None:
    text = PLUGINS + ALL + "[plugins.audit]\nsink = 'x'\n"
    plugins = resolved(text, ground.context).plugins
    assert plugins.options == {"audit": {"sink": "x"}}
    assert str(plugins.origins["audit.sink"]) == "p.toml:6 plugins.audit.sink"


def chain(count: int, last: str = '"base"') -> str:
    """A file of policies of which each extends the one before it."""
    tables = [f"[policy.p0]\nextends = [{last}]\nsyscalls.deny = ['bpf']\n"]
    tables += [
        f"[policy.p{number}]\nextends = ['p{number - 1}']\nprocess.max_processes = {number}\n"
        for number in range(1, count)
    ]
    return "version = 1\n" + "".join(tables)


def test_a_chain_may_be_longer_than_the_interpreters_stack_is_deep(ground: Ground) -> None:
    policy = load(f"{ground.write(chain(2500))}:p2499", context=ground.context)
    assert policy.syscalls.deny == ("bpf",)
    assert policy.process.max_processes == 2499
    assert policy.process.origins["max_processes"].key == "policy.p2499.process.max_processes"


def test_a_child_is_merged_from_its_parents_and_not_from_all_that_they_extend(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[object] = []
    written = merge._written

    def counted(table: object, at: Key = ()) -> list[tuple[Key, object]]:
        opened.append(table)
        return written(table, at)

    monkeypatch.setattr(merge, "_written", counted)
    load(f"{ground.write(chain(200))}:p100", context=ground.context)
    assert len([each for each in opened if isinstance(each, PolicyTable)]) < 210


def test_a_long_circle_is_told_once_and_in_short() -> None:
    (found,) = problems_of(chain(3000, last="'p2999'"))
    assert "p2998 -> p2997 -> (2992 more) -> p4 -> " in found
    assert len(found) < 300


def test_what_two_parents_share_is_there_once_and_in_order(ground: Ground) -> None:
    text = """version = 1
[policy.a]
syscalls.deny = ["bpf", "ptrace"]
process.environment.set = { A = "a", B = "a" }
[policy.b]
extends = ["a"]
syscalls.deny = ["kexec_load"]
[policy.c]
extends = ["a"]
syscalls.deny = ["mount", "ptrace"]
process.environment.set = { B = "c" }
[policy.d]
extends = ["b", "c", "b"]
[policy.default]
extends = ["c", "d"]
"""
    policy = resolved(text, ground.context)
    assert policy.syscalls.deny == ("bpf", "ptrace", "mount", "kexec_load")
    assert policy.process.environment_set == {"A": "a", "B": "c"}
