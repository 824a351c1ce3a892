"""Claims about ``nemoclaw policy check``: it finds what a start would refuse, and runs anywhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from types import SimpleNamespace
from typing import NoReturn

import pytest
from nemoclaw_hookspecs import Host, Plan, Policy, PolicyError
from nemoclaw_testing import make_host

from nemoclaw_core import __version__, checking, cli
from nemoclaw_core import host as host_module
from nemoclaw_core.checking import STAND_IN, Report, check_file
from nemoclaw_core.pipeline import compile_plan
from nemoclaw_core.plugins import PluginManager
from nemoclaw_core.policy import own_code

from .conftest import Ground

WRONG = """version = 1
[policy.default]
extends = ["default"]
process.user = "daemn"
syscalls.profile = "agnet"
syscalls.allow = ["ptrce", "read", "mount"]

[policy.second]
extends = ["default"]
bogus = 1
syscalls.deny = ["opnat"]

[policy.third]
extends = ["second"]

[plugins]
enable = ["mounts", "landlock", "seccomp", "netns", "landlok", "sentinel"]
[plugins.seccomp]
size = 1
[plugins.netns]
"""
TOLD = [
    '4 policy.default.process.user: there is no user "daemn" (did you mean "daemon"?)',
    "5 policy.default.syscalls.profile: there is no profile 'agnet' (use one of minimal, agent, "
    "gpu)",
    "6 policy.default.syscalls.allow[0]: unknown system call 'ptrce' (did you mean ptrace?)",
    "6 policy.default.syscalls.allow[2]: mount cannot be allowed: ",
    '10 policy.second.bogus: unknown key "bogus" (',
    "11 policy.second.syscalls.deny[0]: unknown system call 'opnat' (did you mean openat?)",
    "17 plugins.enable[4]: plugin 'landlok' is not installed (did you mean 'landlock'?)",
    "17 plugins.enable[5]: plugin 'sentinel' is not installed (install it from where you "
    "got nemoclaw (docs/install.md), or take it off plugins.enable)",
    "19 plugins.seccomp.size: plugin 'seccomp' takes no options (",
]

SetHost = Callable[..., None]


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> SetHost:
    """``on(**changes)``: check on a host with everything, less the changes."""

    def arrange(**changes: object) -> None:
        host = make_host(**{"machine": os.uname().machine, **changes})
        monkeypatch.setattr(host_module, "probe", lambda: host)

    return arrange


def bare(on: SetHost) -> None:
    on(landlock_abi=0, namespaces=(), seccomp=False, uid=1000)


def check(ground: Ground, body: str, workdir: str | None = None) -> Report:
    return check_file(str(ground.write(f"version = 1\n{body}\n")), workdir)


def refused(ground: Ground, body: str, workdir: str | None = None) -> tuple[str, ...]:
    with pytest.raises(PolicyError) as caught:
        check(ground, body, workdir)
    return caught.value.problems


# --- what is wrong


@pytest.mark.parametrize("arrange", [lambda on: on(), bare], ids=["able", "bare"])
def test_everything_wrong_is_told_at_once_whatever_the_host(
    arrange: Callable[[SetHost], None],
    on: SetHost,
    ground: Ground,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arrange(on)
    path = ground.write(WRONG)
    assert cli.main(["policy", "check", str(path)]) == 3
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert (out, lines[0]) == ("", f"nemoclaw: {len(TOLD)} problems in {path}")
    assert len(lines) == len(TOLD) + 1, err
    for line, told in zip(lines[1:], TOLD, strict=True):
        assert line.startswith(f"  {path}:{told}"), line


def test_a_start_refuses_what_the_check_tells(
    ground: Ground, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same words, each with its line and what to do, whoever says them."""
    path = ground.write(WRONG.partition("[policy.second]")[0].replace("daemn", "auto"))
    arguments = ["--policy", str(path), "--workdir", str(ground.work), "--dry-run", "--", "true"]
    assert cli.main(["run", *arguments]) == 4
    refusal = capsys.readouterr().err
    assert cli.main(["policy", "check", str(path)]) == 3
    told = capsys.readouterr().err.splitlines()[1:]
    assert len(told) == 3
    assert refusal.splitlines()[1:] == told
    assert "remedy: None" not in refusal


def test_one_problem_is_told_with_its_remedy(
    ground: Ground, capsys: pytest.CaptureFixture[str]
) -> None:
    (problem,) = refused(ground, '[policy.a]\nextends = ["base"]\nsyscalls.deny = ["opnat"]')
    assert problem.endswith(
        ":4 policy.a.syscalls.deny[0]: unknown system call 'opnat' (did you mean openat?)"
    )


def test_a_mistake_in_a_parent_is_told_once(ground: Ground) -> None:
    body = '[policy.a]\nsyscalls.deny = ["opnat"]\n' + "".join(
        f'[policy.b{number}]\nextends = ["a"]\n' for number in range(3)
    )
    assert len(refused(ground, body)) == 1


@pytest.mark.parametrize("grant", ["/", "~/.config/nemoclaw/x"])
def test_a_grant_that_no_host_would_give_is_a_problem(
    grant: str, ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(ground.home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    (ground.home / ".config/nemoclaw/x").mkdir()
    assert len(refused(ground, f"[policy.a]\nfilesystem.write = ['{grant}']")) == 1


def test_a_plugin_that_crashes_on_a_policy_is_a_problem(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(policy: object, host: object) -> NoReturn:
        raise KeyError("tables")

    monkeypatch.setattr("nemoclaw_plugin_seccomp.layer.build", explode)
    (problem,) = refused(ground, "[policy.a]\nextends = ['base']")
    assert "policy.a: plugin 'seccomp' failed in apply_syscall: KeyError: 'tables'" in problem


def test_a_required_layer_that_the_file_leaves_out_is_a_problem(ground: Ground) -> None:
    found = refused(ground, "[policy.a]\n[plugins]\nenable = ['mounts', 'landlock', 'netns']")
    told = '"seccomp" is missing, which nemoclaw requires (add "seccomp" to plugins.enable)'
    assert any(problem.endswith(told) for problem in found)


# --- what is only so on this host


def test_what_ships_starts_where_everything_can_be_enforced(ground: Ground, on: SetHost) -> None:
    on()
    assert check(ground, "[policy.a]\nextends = ['default']\n[policy.b]\n").notes == ()


def test_what_a_host_lacks_is_noted_and_no_mistake(ground: Ground, on: SetHost) -> None:
    bare(on)
    report = check(
        ground,
        "[policy.a]\nextends = ['default']\n"
        "[policy.b]\nextends = ['default']\nfilesystem.compatibility = 'best-effort'",
    )
    strict, lenient = report.notes
    assert [(each.policy, each.starts) for each in report.notes] == [("a", False), ("b", True)]
    for notes in (strict, lenient):
        assert any("Landlock: this kernel does not offer it" in line for line in notes.lines)
        assert all("\n    remedy: " in line for line in notes.lines)


def test_what_only_this_host_refuses_is_noted(ground: Ground, on: SetHost) -> None:
    """Without a PID namespace, ptrace would reach the host's processes."""
    text = "[policy.a]\nextends = ['base']\nsyscalls.allow = ['ptrace']"
    on()
    assert check(ground, text).notes == ()
    on(namespaces=())
    (notes,) = check(ground, text).notes
    assert not notes.starts
    assert "policy.a.syscalls.allow[0]: ptrace cannot be allowed" in notes.lines[0]


def test_a_path_that_is_not_here_is_noted_and_in_a_work_directory_wrong(
    ground: Ground, on: SetHost
) -> None:
    on()
    text = "[policy.a]\nextends = ['base']\nfilesystem.read = ['/nowhere', '/none?', 'src']"
    (notes,) = check(ground, text).notes
    assert not notes.starts
    (line,) = notes.lines
    assert '4 policy.a.filesystem.read[0]: "/nowhere" does not exist (create it, or' in line
    # What is in the work directory says nothing about the file before there is one.
    assert len(refused(ground, text, str(ground.work))) == 2


def test_a_path_may_be_missing_in_a_best_effort_policy(ground: Ground, on: SetHost) -> None:
    on()
    text = "[policy.a]\nfilesystem = { read = ['/nowhere'], compatibility = 'best-effort' }"
    assert check(ground, text).notes == ()
    assert check(ground, text, str(ground.work)).notes == ()


def test_another_user_is_wrong_only_for_a_caller_who_is_not_root(
    ground: Ground, on: SetHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    on()
    text = "[policy.a]\nextends = ['base']\nprocess.user = 'daemon'"
    path = ground.write(f"version = 1\n{text}\n")
    os.chmod(path, 0o644)
    monkeypatch.setattr("os.geteuid", lambda: path.stat().st_uid or 4321)
    (notes,) = check(ground, text).notes
    assert "only root can run an agent as another user" in notes.lines[0]


def test_an_empty_directory_stands_for_the_work_directory(ground: Ground, on: SetHost) -> None:
    assert not os.path.lexists(STAND_IN)
    on()
    for place in ("{workdir}", "**/.env", "{workdir}/.git/hooks"):
        text = f"[policy.a]\nextends = ['default']\nfilesystem.deny = ['{place}']"
        assert check(ground, text).notes == ()


def test_it_runs_where_no_agent_could(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unknown() -> Host:
        raise AssertionError("a kernel that is not Linux was asked as if it were")

    monkeypatch.setattr(checking, "sys", SimpleNamespace(platform="darwin"))
    monkeypatch.setattr(host_module, "probe", unknown)
    path = ground.write("version = 1\n[policy.a]\nextends = ['default']\n")
    assert cli.main(["policy", "check", str(path)]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"{path}: OK (a)"
    assert second.startswith("Agents start on Linux alone")
    assert len(refused(ground, '[policy.a]\nsyscalls.deny = ["opnat"]')) == 1


def test_the_notes_are_printed_and_the_status_is_0(
    ground: Ground, on: SetHost, capsys: pytest.CaptureFixture[str]
) -> None:
    bare(on)
    path = ground.write(
        "version = 1\n[policy.a]\nextends = ['base']\nfilesystem.read = ['/nowhere']\n"
        "[policy.b]\nextends = ['base']\nfilesystem.compatibility = 'best-effort'\n"
    )
    assert cli.main(["policy", "check", str(path)]) == 0
    out = capsys.readouterr().out
    here = f"On this host, with nemoclaw {__version__},"
    assert out.startswith(f"{path}: OK (a, b)\n{here} no agent would start under policy a:\n")
    assert f'\n  {path}:4 policy.a.filesystem.read[0]: "/nowhere" does not exist (' in out
    assert f"\n{here} an agent would start under policy b with gaps:\n" in out


SLIPS = """version = 1
[policy.default]
extends = ["default"]
filesystem.read = ["../x", "/nosuch/a",
  "/nosuch/b"]
[policy.default.process]
user = "nobdy"
max_memory = "4GB"
environment.pass = ["A", "B=", "TOK"]
[policy.default.syscalls]
allow = ["ptrce", 5, "opnat"]
[policy.default.inference]
default = "clod"
sensitive = 5
rules = [{ labels = [], route = "x" }, { labels = ["a"], route = "clud" }]
backends.cloud.type = "x"
backends.cloud.credential = "nope"
[credential.tok]
from_env = "TOK"
[plugins]
enable = "mounts"
"""
SLIPS_TOLD = [
    '4 policy.default.filesystem.read[0]: "../x" holds `..`',
    '4 policy.default.filesystem.read[1]: "/nosuch/a" does not exist',
    '5 policy.default.filesystem.read[2]: "/nosuch/b" does not exist',
    '7 policy.default.process.user: there is no user "nobdy"',
    '8 policy.default.process.max_memory: "4GB" is not a size',
    '9 policy.default.process.environment.pass[1]: "B=" is not the name',
    '9 policy.default.process.environment.pass[2]: "TOK" holds the credential "tok"',
    "11 policy.default.syscalls.allow[0]: unknown system call 'ptrce'",
    "11 policy.default.syscalls.allow[1]: is an integer, not a string",
    "11 policy.default.syscalls.allow[2]: unknown system call 'opnat'",
    '13 policy.default.inference.default: there is no backend "clod"',
    "14 policy.default.inference.sensitive: is an integer, not a string",
    "15 policy.default.inference.rules[0].labels: without a label the rule never matches",
    '15 policy.default.inference.rules[1].route: there is no backend "clud"',
    '17 policy.default.inference.backends.cloud.credential: there is no credential "nope"',
    "21 plugins.enable: is a string, not a list",
]


def test_a_slip_in_one_line_hides_nothing_that_is_wrong_in_another(ground: Ground) -> None:
    path = ground.write(SLIPS)
    with pytest.raises(PolicyError) as caught:
        check_file(str(path), str(ground.work))
    found = list(caught.value.problems)
    assert len(found) == len(SLIPS_TOLD), found
    for line, told in zip(found, SLIPS_TOLD, strict=True):
        assert line.startswith(f"{path}:{told}"), line


@pytest.mark.parametrize(
    "text",
    [
        'inference.default = "y"\ninference.backend.y.type = "x"',
        'inference.default = "y"\ninference.backends.y = 5',
        'inference.default = "y"\ninference.backends.y.type = 5',
        'inference.default = "y"\nextends = ["a b"]',
        'network.allow = [{ host = "a", credential = "k" }]\n[credentials.k]\nfrom_env = "K"',
        'network.allow = [{ host = "a", credential = "k" }]\n[credential.k]\nfrom_evn = "K"',
        'network.allow = [{ host = "a", credential = "k" }]\n[credential.k]\nfrom_env = 5',
        'filesystem.write = ["a", "a/../b"]\nfilesystem.deny = ["b"]',
    ],
)
def test_what_a_slip_leaves_out_is_no_problem_of_its_own(text: str, ground: Ground) -> None:
    path = ground.write(f"version = 1\n[policy.default]\n{text}\n")
    with pytest.raises(PolicyError) as caught:
        check_file(str(path))
    assert len(caught.value.problems) == 1, caught.value.problems


@pytest.mark.parametrize("words", [("policy", "check"), ("policy", "trust")])
def test_who_is_asked_for_a_file_is_not_told_to_name_a_policy(
    words: tuple[str, str], ground: Ground, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*words, str(ground.root / "missing.toml")]) == 3
    err = capsys.readouterr().err
    assert "there is no such policy file" in err
    assert "--policy" not in err


def test_each_policy_of_a_file_is_compiled_once_for_each_host(
    ground: Ground, on: SetHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one that adds nothing to what it extends not at all."""
    compiled: list[tuple[str, int]] = []

    def counted(policy: Policy, host: Host, manager: PluginManager) -> Plan:
        compiled.append((policy.name, host.landlock_abi))
        return compile_plan(policy, host, manager)

    monkeypatch.setattr(checking, "compile_plan", counted)
    on(landlock_abi=6)
    body = "[policy.p0]\nextends = ['base']\n" + "".join(
        f"[policy.p{number}]\nextends = ['p{number - 1}']\n" for number in range(1, 40)
    )
    body += "[policy.other]\nextends = ['p39']\nprocess.max_processes = 7\n"
    report = check(ground, body)
    assert len(report.policies) == 41
    abis = {abi for _, abi in compiled}
    assert len(abis) == 2
    assert sorted(compiled) == sorted((name, abi) for name in ("p0", "other") for abi in abis)


def test_the_installed_plugins_are_looked_up_once_for_a_file(
    ground: Ground, on: SetHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = 0
    of_plugins = own_code.of_plugins

    def counted(enabled: Collection[str]) -> tuple[own_code.Code, ...]:
        nonlocal looked
        looked += 1
        return of_plugins(enabled)

    monkeypatch.setattr(own_code, "of_plugins", counted)
    on()
    check(ground, "[policy.a]\nextends = ['base']\n[policy.b]\nextends = ['a']\n")
    assert looked == 1
