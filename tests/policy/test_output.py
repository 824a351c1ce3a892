"""Claims about what is printed: explain, diff, check and the schema, and the shipped policies."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import tomli

from nemoclaw_core import cli
from nemoclaw_core.policy import diff, explain, load, permits
from nemoclaw_core.policy.document import PolicyTable
from nemoclaw_core.policy.fields import key_name
from nemoclaw_core.policy.files import SHIPPED
from nemoclaw_core.policy.jsonschema import schema
from nemoclaw_core.policy.lines import Lines

from .conftest import Ground, problems_of, resolved
from .test_merge import NETWORK
from .test_robustness import VALID

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(ground: Ground, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in the work directory, with a home of its own."""
    for name in ("CONFIG", "STATE", "CACHE"):
        monkeypatch.delenv(f"XDG_{name}_HOME", raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setenv("HOME", str(ground.home))
    monkeypatch.chdir(ground.work)

    def call(*arguments: str) -> tuple[int, str, str]:
        status = cli.main(list(arguments))
        out, err = capsys.readouterr()
        return status, out, err

    return call


# --- check


def test_check_says_ok_with_the_policies_that_it_read(run: Run, ground: Ground) -> None:
    path = ground.write("version = 1\n[policy.a]\n[policy.b]\n")
    status, out, err = run("policy", "check", str(path))
    assert (status, out.splitlines()[0], err) == (0, f"{path}: OK (a, b)", "")
    assert run("policy", "check", SHIPPED)[0] == 0


def test_check_lists_every_problem_and_exits_with_3(run: Run, ground: Ground) -> None:
    path = ground.write("version = 1\n[policy.a]\nx = 1\nprocess.gpu = 1\n")
    status, out, err = run("policy", "check", str(path))
    assert (status, out) == (3, "")
    assert f"2 problems in {path}" in err
    assert f"{path}:3 policy.a.x: " in err
    assert f"{path}:4 policy.a.process.gpu: " in err


def test_check_looks_paths_up_when_it_is_told_where(run: Run, ground: Ground) -> None:
    path = ground.write("version = 1\n[policy.a]\nfilesystem.read = ['src']\n")
    assert run("policy", "check", str(path))[0] == 0
    status, _, err = run("policy", "check", str(path), "--workdir", ".")
    assert status == 3
    assert '"src" does not exist' in err
    (ground.work / "src").mkdir()
    assert run("policy", "check", str(path), "--workdir", ".")[0] == 0


def test_check_needs_a_file(run: Run) -> None:
    status, _, err = run("policy", "check", "none.toml")
    assert status == 3
    assert "no such policy file" in err


# --- explain


def test_explain_shows_every_value_with_its_line(run: Run, ground: Ground) -> None:
    ground.write(
        "version = 1\n[policy.default]\nextends = ['default']\n"
        "process.timeout = '5m'\nprocess.environment.set = { CI = '1' }\n",
        folder=ground.work,
    )
    status, out, err = run("policy", "explain")
    assert (status, err) == (0, "")
    assert out.startswith("policy default of policies.toml\n")
    rows = dict(re.findall(r"(?m)^  (\S+ +\S.*?)  +(\S+:\d+|built in|always, by nemoclaw)$", out))
    origin = {" ".join(key.split()): place for key, place in rows.items()}
    assert origin["timeout 5m"] == "policies.toml:4"
    assert origin["environment.set CI='1'"] == "policies.toml:5"
    assert origin["read /usr"].startswith(f"{SHIPPED}:")
    assert origin["write " + str(ground.work)].startswith(f"{SHIPPED}:")
    assert origin[f"deny {ground.work}/policies.toml (file)"] == "always, by nemoclaw"
    assert origin["unknown deny"] == "built in"
    line = int(origin["read /usr"].rpartition(":")[2])
    assert '"/usr"' in Path(SHIPPED).read_text().splitlines()[line - 1]


def test_explain_shows_a_denial_that_only_took_a_grant_away(run: Run, ground: Ground) -> None:
    (ground.home / "tools").mkdir()
    policy = ground.write(
        'version = 1\n[policy.a.filesystem]\nread = ["/usr", "~/tools"]\n'
        'deny = ["~/tools", "/usr/share"]\n'
    )
    status, out, err = run("policy", "explain", f"{policy}:a", "--no-plugins")
    assert (status, err) == (0, "")
    line = next(each for each in out.splitlines() if "~/tools" in each)
    assert line.split()[:2] == ["deny", "~/tools"]
    assert "(nothing left to deny)" in line
    assert line.endswith(f"{policy}:4")
    assert "/usr/share  (nothing" not in out
    data = json.loads(run("policy", "explain", f"{policy}:a", "--no-plugins", "--json")[1])
    values = [each["value"] for each in data["values"] if each["key"] == "deny"]
    assert {"path": "~/tools", "kind": "idle"} in values
    assert data["plugins"] == {}


def test_explain_leaves_out_what_plugins_say_when_asked(run: Run, ground: Ground) -> None:
    _, whole, _ = run("policy", "explain")
    _, short, _ = run("policy", "explain", "--no-plugins")
    assert "plugin seccomp" in whole
    assert short == whole.partition("\n\nplugin ")[0] + "\n"


def test_explain_gives_one_json_document(run: Run, ground: Ground) -> None:
    status, out, _ = run("policy", "explain", "default", "--json")
    assert status == 0
    data = json.loads(out)
    assert (data["policy"], data["file"]) == ("default", SHIPPED)
    assert data["workdir"] == str(ground.work)
    write = [each for each in data["values"] if each["key"] == "write"]
    assert [each["value"]["path"] for each in write] == [str(ground.work)]
    assert write[0]["origin"]["key"] == "policy.default.filesystem.write[0]"


def test_explain_prints_the_list_of_system_calls(run: Run, ground: Ground) -> None:
    policy = ground.write(
        "version = 1\n[policy.a]\nextends = ['base']\nsyscalls.deny = ['socket']\n"
    )
    status, text, _ = run("policy", "explain", f"{policy}:a")
    assert status == 0
    _, _, shown = text.partition("\nplugin seccomp\n")
    rows = [line.removeprefix("  ") for line in shown.splitlines()]
    calls = {row.partition(":")[0]: row.partition(": ")[2] for row in rows}
    assert len(calls) > 300
    assert calls["read"].startswith("allowed")
    assert calls["clone"].startswith("allowed if")
    assert calls["ptrace"].startswith("EPERM")
    assert calls["socket"].startswith("EPERM")
    data = json.loads(run("policy", "explain", f"{policy}:a", "--json")[1])
    assert data["plugins"] == {"seccomp": rows}


def test_explain_shows_network_and_inference_and_no_option_of_a_backend(ground: Ground) -> None:
    text = NETWORK.replace('type = "anthropic"', 'type = "anthropic"\ntoken = "hunter2"')
    policy = resolved(text, ground.context)
    shown = explain.as_text(policy, "/") + json.dumps(explain.as_data(policy, {}))
    assert "**.b.com:80,443" in shown
    assert "GET|HEAD /r/**" in shown
    assert "y, z from 1 -> ask  redact irreversible" in shown
    assert "token" in shown
    assert "hunter2" not in shown


def test_explain_leaves_no_key_of_a_policy_out(ground: Ground) -> None:
    asking = NETWORK.replace("[policy.low]\n", "[policy.low]\nnetwork.unknown = 'ask'\n", 1)
    policy = resolved(asking, ground.context)
    shown = {(each.domain, each.key.partition(".")[0]) for each in explain.values(policy)}
    for section in attrs.fields(attrs.resolve_types(PolicyTable)):
        if section.name == "extends":
            continue
        table = section.type.__args__[0]  # type: ignore[union-attr]
        for field in attrs.fields(table):
            key = key_name(field.name)
            listed = {"read", "write", "deny", "allow", "hosts", "environment"}
            assert (section.name, key) in shown or key in listed, (section.name, key)


# --- diff


def test_the_same_policy_differs_in_nothing(run: Run) -> None:
    assert run("policy", "diff", "default", "default") == (0, "", "")


def test_diff_says_more_less_and_other_by_domain(run: Run, ground: Ground) -> None:
    ground.write(
        "version = 1\n[policy.a]\nextends = ['base']\nfilesystem.read = ['{workdir}']\n"
        "syscalls.deny = ['bpf']\nprocess.environment.set = { T = 'hunter2' }\n"
        "[policy.b]\nextends = ['base']\nfilesystem.write = ['{workdir}']\n"
        "filesystem.deny = ['/etc']\nprocess.max_memory = 0\nprocess.max_processes = 5\n"
        "network.mode = 'proxy'\nnetwork.allow = [{ host = 'a.com' }]\n",
        folder=ground.work,
    )
    status, out, _ = run("policy", "diff", "a", "b", "--json")
    assert status == 1
    data = json.loads(out)
    domains = data["domains"]
    assert not data["same"]
    assert f"{ground.work}: read -> write" in domains["filesystem"]["more"]
    assert "/etc: read -> nothing" in domains["filesystem"]["less"]
    assert domains["process"]["more"] == ["max_memory: 4GiB -> no limit"]
    assert domains["process"]["less"] == ["max_processes: 512 -> 5"]
    assert domains["process"]["other"] == ["environment sets T is gone"]
    assert domains["syscalls"] == {"more": ["denies bpf no longer"], "less": [], "other": []}
    assert domains["network"]["more"] == ["mode: none -> proxy", "allows a.com:443"]
    assert "hunter2" not in out
    status, text, _ = run("policy", "diff", "a", "b")
    assert status == 1
    assert f"  + {ground.work}: read -> write" in text
    assert "  - /etc: read -> nothing" in text


def test_diff_turned_round_says_the_opposite(ground: Ground) -> None:
    first = resolved("version = 1\n[policy.default]\nextends = ['default']\n", ground.context)
    second = resolved(
        "version = 1\n[policy.default]\nextends = ['readonly']\nprocess.gpu = true\n"
        "filesystem.tmp = 'shared'\nfilesystem.compatibility = 'best-effort'\n",
        ground.context,
    )
    turn = {"more": "less", "less": "more", "other": "other"}
    forth = diff.compare(first, second)
    back = diff.compare(second, first)
    assert sorted((each.domain, turn[each.direction]) for each in forth) == sorted(
        (each.domain, each.direction) for each in back
    )
    assert ("process", "more") in {(each.domain, each.direction) for each in forth}


# --- schema


def test_the_schema_is_one_json_document_and_takes_no_argument(run: Run) -> None:
    status, out, _ = run("schema")
    assert status == 0
    assert json.loads(out) == schema()
    assert run("schema", "x")[0] == 2


@pytest.fixture(scope="module")
def validator() -> Any:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(schema())
    return jsonschema.Draft202012Validator(schema())


def test_the_schema_accepts_what_the_reader_accepts(validator: Any) -> None:
    with open(SHIPPED, "rb") as file:
        validator.validate(tomli.load(file))
    for text in (VALID, NETWORK):
        assert problems_of(text) == []
        validator.validate(tomli.loads(text))


@pytest.mark.parametrize(
    "body",
    [
        "exends = []",
        "filesystem.raed = []",
        "filesystem.read = 'x'",
        "filesystem.read = ['']",
        "filesystem.tmp = 'x'",
        "process.max_memory = '4GB'",
        "process.max_memory = -1",
        "process.max_processes = 0",
        "process.timeout = 30",
        "process.gpu = 1",
        "process.environment.set = { CI = 1 }",
        "process.environment.pass = ['A=B']",
        "syscalls.allow = ['open(2)']",
        "network.allow = [{}]",
        "network.allow = [{ host = 'a', ports = [0] }]",
        "network.allow = [{ host = 'a', binaries = [3] }]",
        "network.allow = [{ host = 'a', http = [{ methods = ['get'], path = '/' }] }]",
        "inference.hosts = ['*.a']",
        "inference.rules = [{ labels = ['a'] }]",
        "inference.backends.x = {}",
        "[credential.x]\nfrom_env = 'A'\nfrom_file = 'b'",
        "[plugins]\nenable = 'x'",
        "[other]",
    ],
)
def test_the_schema_refuses_what_the_reader_refuses(validator: Any, body: str) -> None:
    text = f"version = 1\n[policy.default]\n{body}\n"
    assert problems_of(text)
    assert list(validator.iter_errors(tomli.loads(text)))


def described(node: Any, at: str = "") -> Iterator[tuple[str, bool]]:
    if isinstance(node, dict):
        for name, child in node.get("properties", {}).items():
            yield f"{at}.{name}", bool(child.get("description"))
            yield from described(child, f"{at}.{name}")
        for key in ("additionalProperties", "items"):
            yield from described(node.get(key), f"{at}[]")


def test_every_key_of_a_policy_is_described_in_the_schema() -> None:
    policies = schema()["properties"]["policy"]
    bare = [key for key, documented in described(policies) if not documented]
    assert [key for key in bare if not key.endswith(".type")] == []


# --- what ships


def test_the_default_policy_lets_work_and_keeps_secrets(ground: Ground) -> None:
    (ground.work / "app").mkdir()
    (ground.work / "app/.env").write_text("")
    (ground.home / ".ssh").mkdir()
    policy = load(None, context=ground.context)
    assert policy.compatibility == "strict"
    assert permits(policy, f"{ground.work}/x") == "write"
    assert permits(policy, "/usr/bin/env") == "read"
    for hidden in (
        f"{ground.work}/.git/hooks/pre-commit",
        f"{ground.work}/app/.env",
        f"{ground.work}/policies.toml",
        f"{ground.home}/.ssh/id",
        f"{ground.home}/x",
        f"{ground.context.config_dir}/policies.toml",
    ):
        assert permits(policy, hidden) is None, hidden
    assert policy.network.mode == "none"
    assert set(policy.process.environment_pass) == {
        "LANG", "LC_ALL", "LC_CTYPE", "TERM", "TZ", "COLORTERM", "PATH", "NO_COLOR",
    }  # fmt: skip


def test_the_home_stays_out_of_reach_when_it_is_granted(ground: Ground) -> None:
    policy = load(None, context=attrs.evolve(ground.context, workdir=ground.context.home))
    (ground.home / ".ssh").mkdir()
    policy = load(None, context=attrs.evolve(ground.context, workdir=ground.context.home))
    assert permits(policy, f"{ground.home}/.ssh/id") is None
    assert permits(policy, f"{ground.context.config_dir}/policies.toml") is None


def test_the_readonly_policy_writes_nothing(ground: Ground) -> None:
    policy = load("readonly", context=ground.context)
    assert permits(policy, f"{ground.work}/x") == "read"
    assert not [rule for rule in policy.filesystem.rules if rule.access == "write"]


def test_every_key_of_the_shipped_file_has_a_line() -> None:
    text = Path(SHIPPED).read_text()
    lines = Lines(text)
    data = tomli.loads(text)
    for name, table in data["policy"].items():
        for section in table:
            line = text.splitlines()[lines["policy", name, section] - 1]
            assert section in line


def test_a_policy_is_loaded_in_a_moment(ground: Ground) -> None:
    load(None, context=ground.context)
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        load(None, context=ground.context)
        best = min(best, time.perf_counter() - start)
    assert best < 0.06


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import nemoclaw_core.policy, sys; print('cattrs' in sys.modules, 'tomli' in sys.modules)"
    )
    out = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert out.stdout == "False False\n"
