"""Where attacks are made: servers, names for them, a naive proxy, and sandboxes."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import attrs

from ..callers import PYTHON, User
from ..desks import desk_of
from ..egress.grounds import Gated, Outside
from .origin import MEGABYTE, Asked, NameServer, Origin

HERE = Path(__file__).parent
OURS, VICTIM = "127.0.0.2", "127.0.0.1"
"""Where allowed servers are, and the loopback of the host, which is nobody's."""
KEY = "sk-real-4711471147114711471147114711"
SECRET = "the neighbour's secret 4711"
ALLOWED = {f"{each}.test" for each in ("api", "judged", "denied", "reads", "calls", "curls", "key")}
_HOSTS = {
    OURS: (*ALLOWED, "other.test", "a.wild.test", "victim.wild.test", "evilwild.test",
           "a.b.wild.test",
           "a.wild.test.evil.test", "xn--pi-6kc.test"),
    VICTIM: ("localhost", "loop.wild.test", "loopback.open.test"),
}  # fmt: skip
_PLACE = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'


@attrs.frozen(kw_only=True)
class Made:
    """What became of the attacks on one side."""

    told: dict[str, dict[str, Any]]
    """By attack: what the attacker says."""
    asked: list[Asked]
    names: list[str]
    """What the name server was asked."""

    def worked(self, name: str, evidence: str, policy: str) -> bool:
        """By the evidence that counts for an attack."""
        if evidence == "query":
            return any(f".{name}." in each for each in self.names)
        if evidence == "said":
            return SECRET in self.told[name]["said"]
        if evidence == "done":
            return bool(self.told[name]["done"])
        return any(each.by == name and forbidden(each, policy) for each in self.asked)


def forbidden(asked: Asked, policy: str) -> bool:
    """Whether no rule allows a request, as the server has understood it."""
    host = asked.host.lower().rstrip(".")
    if asked.address != OURS or asked.path == "/open/nested":
        return True
    if policy == "wide":
        return False
    if host not in ALLOWED and not host.endswith(".rebind.test"):
        return True
    if asked.path.startswith("/secret") or len(asked.head) > MEGABYTE or asked.fields > 10_000:
        return True
    if KEY.encode() in asked.head:
        return host != "key.test"
    if host == "calls.test":
        deep = asked.body.count(b"[") > 1000
        return deep or asked.inflated > MEGABYTE or asked.call != "tools/list"
    if host == "denied.test":
        return asked.method == "DELETE"
    if host == "reads.test":
        return asked.method != "GET"
    return host == "curls.test" and asked.path != "/open/first"


@attrs.frozen(kw_only=True)
class Ground:
    """Everything that attacks of one user need."""

    gated: Gated
    resolver: Path
    facts: dict[str, Any]
    asked: list[Asked]
    names: list[str]

    def _seen(self, told: dict[str, Any]) -> Made:
        made = Made(told=told, asked=list(self.asked), names=list(self.names))
        self.asked.clear()
        self.names.clear()
        return made

    def place(self, command: Sequence[str]) -> list[str]:
        """A command where the names are known."""
        return ["unshare", "-m", "sh", "-c", _PLACE, str(self.resolver), *command]

    def outside(self, policies: Sequence[str]) -> Made:
        """Attack the naive proxy."""
        desk = self.gated.desk
        shown = {"key": KEY, "placeholder": "sk-none-0000000000000000000000000000"}
        command = self.place(self.gated.command()[: -len(desk.user.nemoclaw)])
        environment = desk.environment("outside")
        facts = desk.base / "naive.json"
        facts.write_text(json.dumps({**self.facts, **shown}))
        facts.chmod(0o644)
        started = [*command, PYTHON, "-c", (HERE / "naive.py").read_text(), str(facts)]
        with subprocess.Popen(
            started, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as naive:
            assert naive.stdout is not None
            ports = json.loads(naive.stdout.readline())
            fronts = {name: ("127.0.0.1", port) for name, port in ports.items()}
            stage = {**self.facts, "fronts": fronts, "transparent": fronts["transparent"],
                     "patience": 1}  # fmt: skip
            desk.write("stage.json", json.dumps(stage))
            told: dict[str, Any] = {}
            for policy in policies:
                done = subprocess.run(
                    [*command, PYTHON, "-m", "battery", "stage.json", policy],
                    cwd=desk.folder("outside"),
                    env={**environment, "API_KEY": shown["placeholder"]},
                    capture_output=True, text=True, timeout=100,
                )  # fmt: skip
                assert done.returncode == 0, done.stderr
                told.update(json.loads(done.stdout))
            assert naive.stdin is not None
            naive.stdin.close()
        return self._seen(told)

    def inside(self, policies: Sequence[str]) -> Made:
        """Attack the gate."""
        desk = self.gated.desk
        fronts = dict.fromkeys(("narrow", "wide", "te"), ("127.0.0.1", 3128))
        stage = {**self.facts, "fronts": fronts, "transparent": None, "patience": 20}
        desk.write("stage.json", json.dumps(stage))
        told: dict[str, Any] = {}
        for policy in policies:
            file = self.gated.policy(_rules(self.gated, self.facts, policy), f"{policy}.toml")
            command = self.gated.command(
                "run", "-p", file, "--name", policy, "--",
                PYTHON, "-m", "battery", "stage.json", policy,
            )  # fmt: skip
            done = subprocess.run(
                self.place(command), cwd=desk.folder("inside"),
                env={**desk.environment("inside"), "API_KEY": KEY},
                capture_output=True, text=True, timeout=110,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            told.update(json.loads(done.stdout))
        return self._seen(told)


def _rules(gated: Gated, facts: dict[str, Any], policy: str) -> str:
    ports = [facts["plain"], facts["by_length"], facts["secure"]]

    def rule(host: str, http: str = "", **keys: str) -> str:
        written = {"ports": str(ports), "addresses": f"['{OURS}/32']", **keys}
        if http:
            written["http"] = f"[{{ methods = ['*'], path = '{http}' }}]"
        return gated.rule(host, **written)

    denied = "[{ methods = ['*'], path = '/secret/**' }, { methods = ['DELETE'], path = '/**' }]"
    everything = "[{ methods = ['*'], path = '/**' }]"
    if policy == "wide":
        return rule("**", ports=str([*ports, 3128, facts["neighbour"]]))
    calls = "[{ methods = ['POST'], path = '/open/calls', rpc = [{ method = 'tools/list' }] }]"
    return "".join(
        [
            rule("api.test"),
            rule("judged.test", "/open/**"),
            rule("denied.test", "/**", deny_http=denied),
            gated.rule("reads.test", ports=str(ports), addresses=f"['{OURS}/32']",
                       http="[{ methods = ['GET'], path = '/open/**' }]"),
            gated.rule("calls.test", ports=str(ports), addresses=f"['{OURS}/32']", http=calls),
            rule("curls.test", "/open/**", binaries="['/usr/bin/curl']"),
            rule("key.test", credential="'api'"),
            rule("*.wild.test", ports=str([*ports, 3128])),
            rule("victim.wild.test", deny_http=everything),
            rule("*.rebind.test"),
            "[credential.api]\nfrom_env = 'API_KEY'\n",
        ]
    )  # fmt: skip


def server_context(outside: Outside) -> ssl.SSLContext:
    """For servers with the certificate of those outside."""
    folder = outside.authorities.parent
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    return context


@contextmanager
def ground(user: User, outside: Outside, place: Path) -> Iterator[Ground]:
    """A ground for a user's attacks.

    :param outside: whose certificate the servers have.
    :param place: a new directory that the user can read.
    """
    asked: list[Asked] = []
    context = server_context(outside)
    everywhere = [OURS, VICTIM, "::1"]
    place.chmod(0o755)
    hosts, resolver = place / "hosts", place / "resolv.conf"
    hosts.write_text("".join(f"{each} {' '.join(names)}\n" for each, names in _HOSTS.items()))
    server = f"127.{random.randrange(64, 250)}.{random.randrange(250)}.53"
    resolver.write_text(f"nameserver {server}\n")
    with desk_of(user) as desk, ExitStack() as stack:
        names = stack.enter_context(closing(NameServer(server, OURS, VICTIM)))
        plain = stack.enter_context(closing(Origin(everywhere, asked)))
        plain.away = f"http://other.test:{plain.port}/secret/x"
        by_length = stack.enter_context(closing(Origin(everywhere, asked, by_length=True)))
        secure = stack.enter_context(closing(Origin(everywhere, asked, tls=context)))
        gated = Gated(desk, attrs.evolve(outside, hosts=hosts))
        for side in ("outside", "inside"):
            shutil.copytree(
                HERE / "battery", desk.folder(side) / "battery",
                ignore=shutil.ignore_patterns("__pycache__"),
            )  # fmt: skip
        port = stack.enter_context(_neighbours(gated))
        control = next((desk.base / "inside/run/nemoclaw").rglob("*neighbour*"))
        facts = {
            "plain": plain.port, "by_length": by_length.port, "secure": secure.port,
            "name_server": server, "neighbour": port, "control": str(control),
        }  # fmt: skip
        yield Ground(gated=gated, resolver=resolver, facts=facts, asked=asked, names=names.asked)


@contextmanager
def _neighbours(gated: Gated) -> Iterator[int]:
    """Two servers at one port of 127.0.0.1: one of the host's, and one in a sandbox."""
    desk = gated.desk
    folder = desk.base / "neighbour"
    folder.mkdir(0o755)
    (folder / "secret.txt").write_text(SECRET)
    os.chown(folder, desk.user.uid, desk.user.gid)
    with socket.create_server((VICTIM, 0)) as free:
        port: int = free.getsockname()[1]
    serve = [PYTHON, "-m", "http.server", "--bind", VICTIM, str(port)]
    environment = desk.environment("inside")
    subprocess.run(
        gated.command("run", "--name", "neighbour", "--detach", "--", *serve), cwd=folder,
        env=environment, check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    with subprocess.Popen(
        serve, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as there:
        try:
            _wait(port)
            yield port
        finally:
            there.terminate()
            subprocess.run(
                gated.command("stop", "--grace", "0", "neighbour"), cwd=folder, env=environment,
                check=True, capture_output=True, timeout=60,
            )  # fmt: skip


def _wait(port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            socket.create_connection((VICTIM, port)).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise TimeoutError("the neighbour does not answer")
