"""Claims about ``nemoclaw policy try``."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nemoclaw_core import cli
from nemoclaw_core.egress import lookups

Try = Callable[..., tuple[int, str, str]]

POLICY = """\
version = 1

[policy.default.network]
mode = "proxy"

[[policy.default.network.allow]]
name = "github"
host = "api.github.com"
http = [{ methods = ["GET"], path = "/repos/**" }]

[[policy.default.network.allow]]
host = "mcp.test"
http = [
  { methods = ["GET", "POST"], path = "/mcp", rpc = [{ method = "tools/call", tool = "read_*" }] },
]

[[policy.default.network.allow]]
host = "*.example.com"
ports = [22]
binaries = ["BINARY"]

[[policy.default.network.allow]]
host = "inner.test"
addresses = ["10.0.0.0/8"]

[policy.broken.filesystem]
read = ["/does/not/exist"]

[policy.broken.network]
mode = "proxy"
allow = [{ host = "a.test" }]
"""


@pytest.fixture
def attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Try:
    """Try URLs against the policy above."""
    program = tmp_path / "program"
    program.write_text("")
    file = tmp_path / "file" / "policies.toml"
    file.parent.mkdir()
    file.write_text(POLICY.replace("BINARY", str(program.resolve())))
    for name in ("CONFIG", "STATE", "CACHE"):
        monkeypatch.delenv(f"XDG_{name}_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)

    def call(*arguments: str, name: str = "default") -> tuple[int, str, str]:
        status = cli.main(["policy", "try", f"{file}:{name}", *arguments])
        out, err = capsys.readouterr()
        return status, out, err

    return call


def test_it_says_which_rule_allows(attempt: Try) -> None:
    status, out, err = attempt("https://API.github.com/repos/a/../b?x#y")
    assert (status, err) == (0, "")
    first, second, third, fourth = out.splitlines()
    assert first == "allow  https://API.github.com/repos/a/../b?x#y"
    assert second.split() == ["rule", '"github",', "each", "request", "is", "judged"]
    assert third.strip() == "sent on as /repos/b"
    assert fourth.strip().endswith("policies.toml:6 policy.default.network.allow[0]")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["https://api.github.com/user"], "path"),
        (["--method", "POST", "https://api.github.com/repos/a"], "method"),
        (["http://api.github.com/repos/a"], "port"),
        (["https://evil.test"], "no-rule"),
        (["https://127.1/"], "address"),
        (["https://api.github.com@evil.test/"], "malformed-host"),
        (["https://u:p@api.github.com/"], "malformed-host"),
        (["https://api.github.com/repos/a%2f..%2fb"], "malformed-path"),
        (["tcp://a.example.com:22"], "caller-unknown"),
        (["--binary", "/bin/sh", "tcp://a.example.com:22"], "binary"),
    ],
)
def test_it_says_what_is_denied_and_why(attempt: Try, arguments: list[str], code: str) -> None:
    status, out, _ = attempt(*arguments)
    assert status == 1
    assert out.startswith("deny ")
    assert f" {code}: " in out


def test_one_denial_among_several_urls_is_the_status(attempt: Try) -> None:
    status, out, _ = attempt("https://api.github.com/repos/a", "evil.test", "--json")
    assert status == 1
    allowed, denied = json.loads(out)
    assert (allowed["action"], allowed["rule"], allowed["path"]) == ("allow", "github", "/repos/a")
    assert (denied["action"], denied["rule"], denied["port"]) == ("deny", "no-rule", 443)
    assert "evil.test" in denied["remedy"]


def test_a_program_can_be_named(attempt: Try, tmp_path: Path) -> None:
    os.symlink(tmp_path / "program", tmp_path / "link")
    status, _, _ = attempt("--binary", str(tmp_path / "link"), "a.example.com:22")
    assert status == 0


def test_a_body_and_a_message_can_be_named(attempt: Try, tmp_path: Path) -> None:
    text = '{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "%s"}}'
    (tmp_path / "body").write_text(text % "read_file")
    status, out, _ = attempt("--method", "POST", "https://mcp.test/mcp")
    assert status == 1
    assert "write one with --data" in out
    status, out, _ = attempt("--data", f"@{tmp_path / 'body'}", "https://mcp.test/mcp")
    assert (status, "tools/call read_file" in out) == (0, True)
    status, out, _ = attempt("--data", text % "drop", "https://mcp.test/mcp")
    assert (status, " rpc: tools/call drop: " in out) == (1, True)
    status, out, _ = attempt("wss://mcp.test/mcp")
    assert (status, "write one with --message" in out) == (0, True)
    for tool, expected in (("read_file", 0), ("drop", 1)):
        assert attempt("--message", text % tool, "wss://mcp.test/mcp")[0] == expected
    assert attempt("--data", "@/does/not/exist", "https://mcp.test/mcp")[0] == 2


def test_it_needs_nothing_of_this_host(attempt: Try) -> None:
    """The files that a policy grants need not be here to see where it lets an agent connect."""
    assert attempt("https://a.test", name="broken")[0] == 0


def test_it_looks_names_up_only_when_it_is_told_to(
    attempt: Try, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def resolve(name: str) -> list[str]:
        asked.append(name)
        return {"inner.test": ["10.0.0.1", "127.0.0.1"]}.get(name, ["192.168.0.1"])

    monkeypatch.setattr(lookups, "resolve_outside", resolve)
    assert attempt("https://inner.test", "https://api.github.com/repos/a")[0] == 0
    assert asked == []
    status, out, _ = attempt("--resolve", "https://inner.test")
    assert (status, asked) == (0, ["inner.test"])
    assert "leads to 10.0.0.1" in out
    assert "127.0.0.1 (loopback)" in out
    status, out, _ = attempt("--resolve", "https://api.github.com/repos/a")
    assert status == 1
    assert "address: api.github.com leads to private addresses alone" in out


@pytest.mark.parametrize(
    "url", ["", "ftp://a.test", "tcp://a.test", "https://a.test:0", "https://"]
)
def test_what_is_no_url_is_a_mistake_of_the_user(attempt: Try, url: str) -> None:
    status, out, err = attempt(url)
    assert (status, out) == (2, "")
    assert "remedy: " in err


def test_a_broken_policy_is_told(attempt: Try, tmp_path: Path) -> None:
    (tmp_path / "file" / "policies.toml").write_text("version = 1\n[policy.default]\nx = 1\n")
    assert attempt("https://a.test")[0] == 3


def test_nothing_in_a_url_reaches_the_terminal_as_a_command(attempt: Try) -> None:
    _, out, _ = attempt("https://a.test/\x1b[2J", "https://a\x1b[2J.test/")
    assert "\x1b" not in out


def test_the_documents_keys_are_stable(attempt: Try) -> None:
    document: Any = json.loads(attempt("evil.test", "--json")[1])
    assert list(document[0]) == [
        "url", "action", "rule", "reason", "origin", "remedy", "host", "port", "path", "tls",
        "inspect", "addresses", "note",
    ]  # fmt: skip


def test_a_credential_is_not_sent_without_tls(attempt: Try, tmp_path: Path) -> None:
    file = tmp_path / "keyed.toml"
    rule = 'host = "keyed.test", ports = [80, 443], credential = "key"'
    text = f"version = 1\n[policy.default.network]\nmode = 'proxy'\nallow = [{{ {rule} }}]\n"
    file.write_text(f"{text}[credential.key]\nfrom_env = 'KEY'\n")
    assert run("policy", "try", str(file), "https://keyed.test/x") == 0
    assert run("policy", "try", str(file), "http://keyed.test/x") == 1
    file.write_text(f"{text}[credential.key]\nfrom_env = 'KEY'\nplain = true\n")
    assert run("policy", "try", str(file), "http://keyed.test/x") == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("https://api.github.com/", "--method", "get"), "write GET"),
        (("https://api.github.com/", "--message", "x"), "ws:// and wss://"),
        (("wss://api.github.com/", "--data", "{}"), "http:// and https://"),
    ],
)
def test_what_a_url_cannot_carry_is_a_mistake(
    attempt: Try, arguments: tuple[str, ...], told: str
) -> None:
    status, _, err = attempt(*arguments)
    assert status == 2
    assert told in err


def run(*arguments: str) -> int:
    """The status of a command."""
    return cli.main(list(arguments))
