"""`nemoclaw run` with rules for the network: real clients inside, servers of ours outside."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from .grounds import DIRECT, WAYS, Gated


@WAYS
def test_what_a_rule_names_is_reached_and_nothing_else(gated: Gated, way: str) -> None:
    policy = gated.policy(gated.rule("api.test"))
    plain, secure = gated.outside.plain, gated.outside.secure
    for url in (f"http://api.test:{plain}/x", f"https://api.test:{secure}/x"):
        done = gated.run(policy, f"{way}curl -sS {url}")
        assert (done.returncode, done.stdout) == (0, "page /x\n"), done.stderr
    for url in (f"http://other.test:{plain}/x", f"https://other.test:{secure}/x"):
        done = gated.run(policy, f"{way}curl -sS {url}")
        assert "page" not in done.stdout, url


@WAYS
def test_a_denial_can_be_read_and_is_logged(gated: Gated, way: str) -> None:
    policy = gated.policy(gated.rule("judged.test", http="[{ methods = ['GET'], path = '/a/**' }]"))
    for scheme, port in (("http", gated.outside.plain), ("https", gated.outside.secure)):
        url = f"{scheme}://judged.test:{port}"
        name = f"box-{scheme}"
        done = gated.run(policy, f"{way}curl -sS {url}/a/b && curl -sS {url}/c", "--name", name)
        page, denial = done.stdout.split("\n", 1)
        assert page == "page /a/b", done.stderr
        assert json.loads(denial)["error"] == "policy_denied"
        assert str(gated.desk.base) not in denial
        events = gated.events(name)
        (event,) = [e for e in events if e["metadata"]["event_code"] == "request-denied"]
        assert event["http_request"]["url"]["path"] == "/c"
        assert "policies.toml" in event["unmapped"]["origin"]


def test_a_program_that_knows_no_proxy_can_read_why_a_port_is_refused(gated: Gated) -> None:
    policy = gated.policy(gated.rule("api.test", ports=f"[{gated.outside.secure}]"))
    url = f"http://api.test:{gated.outside.plain}/x"
    done = gated.run(policy, f"{DIRECT}curl -sS {url}", "--name", "box")
    denial = json.loads(done.stdout)
    assert (denial["error"], denial["rule"]) == ("policy_denied", "port")
    (event,) = [e for e in gated.events("box") if e["metadata"]["event_code"] == "egress-denied"]
    assert str(gated.outside.plain) in event["message"]


def test_the_servers_name_in_the_tls_hello_must_be_the_one_that_was_dialled(gated: Gated) -> None:
    """Domain fronting: a connection that is allowed, used for another server."""
    policy = gated.policy(gated.rule("api.test"))
    secure = gated.outside.secure
    script = f"{DIRECT}A=$(getent ahostsv4 api.test | cut -d' ' -f1 | head -1); "
    front = f"curl -sS --resolve other.test:{secure}:$A https://other.test:{secure}/x"
    done = gated.run(policy, script + front)
    assert "page" not in done.stdout
    honest = f"curl -sS --resolve api.test:{secure}:$A https://api.test:{secure}/x"
    done = gated.run(policy, script + honest)
    assert done.stdout == "page /x\n", done.stderr


def test_names_and_protocols_that_no_rule_names_are_refused_at_once(gated: Gated) -> None:
    policy = gated.policy(gated.rule("api.test"))
    script = (
        "import socket, time\n"
        "began = time.monotonic()\n"
        "def tried(kind, what):\n"
        "    s = socket.socket(socket.AF_INET, kind)\n"
        "    s.settimeout(9)\n"
        "    try:\n"
        "        what(s)\n"
        "        return 'reached'\n"
        "    except OSError as error:\n"
        "        return type(error).__name__\n"
        "print(tried(socket.SOCK_DGRAM, lambda s: s.sendto(b'x', ('192.0.2.1', 443))))\n"
        "try:\n"
        "    socket.getaddrinfo('stolen.example.com', 443)\n"
        "except OSError as error:\n"
        "    print('gaierror')\n"
        "print(time.monotonic() - began < 3)\n"
    )
    done = gated.run(policy, f'python3 -c "{script}"', "--name", "box")
    assert done.stdout.splitlines() == ["PermissionError", "gaierror", "True"], done.stderr
    refused = [e["message"] for e in gated.events("box") if "stolen.example.com" in e["message"]]
    assert len(refused) == 1


def test_the_hosts_loopback_is_not_the_sandboxes(gated: Gated) -> None:
    policy = gated.policy(gated.rule("api.test"))
    port = gated.outside.plain
    assert (
        b"page"
        in subprocess.run(
            ["curl", "-sS", f"http://127.0.0.1:{port}/"], capture_output=True, check=True
        ).stdout
    )
    for url in (f"http://127.0.0.1:{port}/", f"http://localhost:{port}/"):
        for way in ("--noproxy '*'", "--noproxy '' -x http://127.0.0.1:3128"):
            done = gated.run(policy, f"curl -sS {way} {url}")
            assert "page" not in done.stdout, (url, way)


def test_a_reload_is_in_force_when_it_says_so(gated: Gated) -> None:
    before = gated.policy(gated.rule("api.test"))
    after = gated.policy(gated.rule("other.test"), name="after.toml")
    plain = gated.outside.plain
    script = (
        f"curl -sS -o /dev/null -w '%{{http_code}} ' http://api.test:{plain}/; touch first; "
        "until [ -e second ]; do sleep 0.02; done; "
        "for h in api other; do "
        f"curl -sS -o /dev/null -w '%{{http_code}} ' http://$h.test:{plain}/; done"
    )
    work = gated.desk.folder("inside")
    running = subprocess.Popen(
        gated.command("run", "-p", before, "--name", "box", "--", "bash", "-c", script),
        cwd=work,
        env=gated.desk.environment("inside"),
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 30
    while not (work / "first").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    done = subprocess.run(
        gated.command("reload", "box", "-p", after),
        cwd=work, env=gated.desk.environment("inside"), capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    (work / "second").touch()
    out, _ = running.communicate(timeout=30)
    assert done.returncode == 0, done.stderr
    assert "+ other.test, - api.test" in done.stderr
    assert out.split() == ["200", "403", "200"]
    codes = [event["metadata"]["event_code"] for event in gated.events("box")]
    assert codes.count("policy-reloaded") == 1


LOCKED = {
    "filesystem.read": "[policy.default.filesystem]\nread = ['/var']\n",
    "plugins.enable": "[plugins]\nenable = ['seccomp', 'netns', 'mounts', 'landlock']\n",
}


@pytest.mark.parametrize("key", LOCKED)
def test_a_reload_changes_nothing_that_is_locked(gated: Gated, key: str) -> None:
    before = gated.policy(gated.rule("api.test"))
    wider = gated.desk.base / "wider.toml"
    wider.write_text(Path(before).read_text() + LOCKED[key])
    os.chown(wider, gated.desk.user.uid, gated.desk.user.gid)
    work = gated.desk.folder("inside")
    environment = gated.desk.environment("inside")
    started = subprocess.run(
        gated.command("run", "-p", before, "--name", "box", "--detach", "--", "sleep", "60"),
        cwd=work, env=environment, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert started.returncode == 0, started.stderr
    try:
        done = subprocess.run(
            gated.command("reload", "box", "-p", str(wider)),
            cwd=work, env=environment, capture_output=True, text=True, timeout=30,
        )  # fmt: skip
        assert done.returncode == 2
        assert key in done.stderr
        events = gated.events("box")
        assert events[-1]["metadata"]["event_code"] == "reload-refused"
    finally:
        subprocess.run(
            gated.command("stop", "--grace", "0", "box"), cwd=work, env=environment, timeout=30,
            check=True,
        )  # fmt: skip


def test_programs_of_other_languages_are_served_too(gated: Gated) -> None:
    gated.desk.needs("node")
    policy = gated.policy(gated.rule("judged.test", http="[{ methods = ['GET'], path = '/a/**' }]"))
    url = f"https://judged.test:{gated.outside.secure}/a/x"
    python = f"python3 -c \"import urllib.request as u; print(u.urlopen('{url}').read())\""
    node = f"node -e \"fetch('{url}').then(r => r.text()).then(console.log)\""
    for way in ("", DIRECT):
        done = gated.run(policy, f"{way}{python}; {node}")
        assert done.stdout == "b'page /a/x\\n'\npage /a/x\n\n", done.stderr


def test_a_sandbox_that_never_connects_leaves_nothing(gated: Gated) -> None:
    policy = gated.policy(gated.rule("api.test"))
    done = gated.run(policy, "true")
    assert (done.returncode, done.stderr) == (0, "")


@WAYS
def test_a_rule_for_an_executable_is_for_no_other(gated: Gated, way: str) -> None:
    plain = gated.outside.plain
    url = f"http://api.test:{plain}/x"
    policy = gated.policy(gated.rule("api.test", binaries="['/usr/bin/curl']"))
    assert gated.run(policy, f"{way}curl -sS {url}").stdout == "page /x\n"
    python = f"python3 -c \"import urllib.request as u; print(u.urlopen('{url}').read())\""
    done = gated.run(policy, f"{way}{python}")
    assert "page" not in done.stdout
    # A child of an allowed program has no right of its own, nor has a copy under another path.
    copied = f"cp /usr/bin/curl ./curl; {way}./curl -sS {url}"
    assert "page" not in gated.run(policy, copied).stdout


def test_a_caller_is_known_where_redirection_has_changed_its_port(gated: Gated) -> None:
    """One source port towards two ports of a server; and another connection like the second."""
    python = os.path.realpath("/usr/bin/python3")
    policy = gated.policy(gated.rule("api.test", binaries=f"['{python}']"))
    script = (
        "import socket\n"
        "def dial(port, source):\n"
        "    s = socket.socket()\n"
        "    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n"
        "    s.bind(('', source))\n"
        "    s.connect((socket.gethostbyname('api.test'), port))\n"
        "    return s\n"
        f"other = dial({gated.outside.plain}, 40001)\n"
        f"first = dial({gated.outside.secure}, 40000)\n"
        f"second = dial({gated.outside.plain}, 40000)\n"
        "second.sendall(b'GET /x HTTP/1.0\\r\\nHost: api.test\\r\\n\\r\\n')\n"
        "print(second.makefile().read())\n"
    )
    done = gated.run(policy, f'{python} -c "{script}"', "--name", "box")
    assert "page /x" in done.stdout, (done.stderr, gated.events("box")[-3:])


def test_an_executable_can_be_pinned(gated: Gated) -> None:
    plain = gated.outside.plain
    digest = hashlib.sha256(Path("/usr/bin/curl").resolve().read_bytes()).hexdigest()
    for sha256, expected in ((digest, "page /x\n"), ("0" * 64, "")):
        binary = f"[{{ path = '/usr/bin/curl', sha256 = '{sha256}' }}]"
        policy = gated.policy(gated.rule("api.test", binaries=binary))
        done = gated.run(policy, f"curl -sS http://api.test:{plain}/x")
        assert ("page" in done.stdout) == bool(expected), done.stdout


def test_ipv6_is_redirected_as_well(gated: Gated) -> None:
    policy = gated.policy(gated.rule("api.test"))
    plain = gated.outside.plain
    done = gated.run(policy, f"{DIRECT}curl -6 -sS http://api.test:{plain}/x")
    assert done.stdout == "page /x\n", done.stderr


HOLDS = "len([n for n in os.listdir('/proc/self/fd') if 'socket' in link(n)])"


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_python_api_opens_the_gate_too(gated: Gated, scheme: str) -> None:
    """Also where TLS is inspected; and lets go of it when a sandbox has ended."""
    policy = gated.policy(gated.rule("api.test", http="[{ methods = ['GET'], path = '/x' }]"))
    port = gated.outside.plain if scheme == "http" else gated.outside.secure
    script = (
        "import os\n"
        "from nemoclaw_core import Sandbox\n"
        "def link(number):\n"
        "    try:\n"
        "        return os.readlink(f'/proc/self/fd/{number}')\n"
        "    except FileNotFoundError:\n"
        "        return ''\n"
        f"with Sandbox('{policy}') as sandbox:\n"
        "    held = set()\n"
        "    for _ in range(3):\n"
        f"        done = sandbox.run(['curl', '-sS', '{scheme}://api.test:{port}/x'],"
        " capture_output=True)\n"
        "        print(done.returncode, done.stdout)\n"
        f"        held.add({HOLDS})\n"
        "    print(len(held))\n"
    )
    user = gated.desk.user
    command = gated.command("IGNORED")
    command = [*command[: -len(user.nemoclaw) - 1], user.nemoclaw[0], "-c", script]
    done = subprocess.run(
        command,
        cwd=gated.desk.folder("inside"),
        env=gated.desk.environment("inside"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "0 b'page /x\\n'\n" * 3 + "1\n", done.stderr
