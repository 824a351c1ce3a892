"""`nemoclaw run` with rules for the network on hosts that lack what it is usually made of."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from .grounds import DIRECT, Gated

WRAPPER = Path(__file__).parents[1] / "degraded/without_namespaces.py"


def run_without_nftables(
    gated: Gated, policy: str, script: str
) -> subprocess.CompletedProcess[str]:
    wrapper = gated.desk.base / WRAPPER.name
    wrapper.write_text(WRAPPER.read_text())
    wrapper.chmod(0o644)
    interpreter = gated.desk.user.nemoclaw[0]
    command = gated.command("run", "-p", policy, "--no-cache", "--", "bash", "-c", script)
    at = command.index(interpreter)
    return subprocess.run(
        [*command[:at], interpreter, str(wrapper), "nftables", *command[at:]],
        cwd=gated.desk.folder("inside"),
        env=gated.desk.environment("inside"),
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_without_nftables_programs_that_ask_for_the_proxy_are_served(gated: Gated) -> None:
    plain, secure = gated.outside.plain, gated.outside.secure
    policy = gated.policy(gated.rule("api.test"))
    script = (
        f"curl -sS http://api.test:{plain}/x; curl -sS https://api.test:{secure}/y; "
        f"curl -sS http://other.test:{plain}/x"
    )
    done = run_without_nftables(gated, policy, script)
    first, second, denial = done.stdout.splitlines()
    assert (first, second) == ("page /x", "page /y"), done.stderr
    assert json.loads(denial)["rule"] == "no-rule"
    assert done.stderr.startswith("nemoclaw: without nftables on this host")


def test_without_nftables_there_is_nothing_else_and_nobody_waits(gated: Gated) -> None:
    policy = gated.policy(gated.rule("api.test"))
    script = (
        "import socket, time\n"
        "began = time.monotonic()\n"
        "def tried(kind, to):\n"
        "    try:\n"
        "        s = socket.socket(socket.AF_INET6 if ':' in to else socket.AF_INET, kind)\n"
        "        s.settimeout(9)\n"
        f"        s.connect((to, {gated.outside.plain}))\n"
        "        s.send(b'x')\n"
        "        return 'reached'\n"
        "    except OSError as error:\n"
        "        return 'refused'\n"
        "for to in ('192.0.2.1', '127.0.0.1', '10.0.0.1', '169.254.169.254', '2001:db8::1'):\n"
        "    print(tried(socket.SOCK_STREAM, to))\n"
        "print(tried(socket.SOCK_DGRAM, '192.0.2.1'))\n"
        "try:\n"
        "    socket.getaddrinfo('api.test', 443)\n"
        "except OSError as error:\n"
        "    print('refused')\n"
        "print(time.monotonic() - began < 3)\n"
    )
    done = run_without_nftables(gated, policy, f'{DIRECT}python3 -c "{script}"')
    assert done.stdout.split() == ["refused"] * 7 + ["True"], (done.stdout, done.stderr)
