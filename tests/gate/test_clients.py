"""Programs that people use, unmodified, inside: what a rule allows they get, and nothing else.

Each is run in a sandbox with proxy variables and without, through rules that judge requests and
through such that let TLS pass; and outside, where what is denied inside is there to be had.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ..callers import PATH, PYTHON, User, copy_installation
from ..desks import Desk, desk_of
from ..egress.grounds import Gated, Outside
from ..egress.test_http2_runs import calls, pages
from .clients import CLIENTS, Client
from .shops import live, shop

__all__ = ["calls", "pages"]

# The first test runs all of it; the others look at the outcome.
pytestmark = pytest.mark.timeout(300)

SITES = {
    "allowed": "https://judged.test:{port}/open",
    "denied": "https://judged.test:{port}/secret",
    "passed": "https://api.test:{port}/open",
}
"""By a rule that judges requests: allowed, and denied; by one that lets TLS pass: allowed."""
WAYS = {
    "proxied": {},
    "direct": dict.fromkeys(["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"]),
}
HERE = Path(__file__).parent
TRUSTED = "/etc/ssl/certs/ca-certificates.crt"
_BUNDLES = (
    "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO",
    "NODE_EXTRA_CA_CERTS", "PIP_CERT",
)  # fmt: skip


def missing(client: Client) -> str:
    """Why a client cannot be run here; empty if it can."""
    for need in client.needs:
        if shutil.which(need, path=PATH) is None and not os.path.isdir(need):
            return f"{need} is missing"
    if client.modules and _version(PYTHON) != sys.version_info[:2]:
        return f"{PYTHON} is another version of Python than that of the tests"
    return ""


def _version(python: str) -> tuple[int, ...]:
    script = "import sys; print(*sys.version_info[:2])"
    done = subprocess.run([python, "-c", script], capture_output=True, text=True, check=True)
    return tuple(map(int, done.stdout.split()))


@pytest.fixture(scope="module")
def results(
    users: Mapping[str, User],
    outside: Outside,
    pages: tuple[int, int],
    calls: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, Any]]:
    """What became of each job, and the events that it left."""
    folder = outside.authorities.parent
    place = tmp_path_factory.mktemp("shop")
    with shop(folder, place) as server, live(folder) as port, desk_of(users["user"]) as desk:
        ports = {"shop": server.server_port, "http2": pages[1], "live": port, "calls": calls}
        gated = Gated(desk, outside)
        ours = [client for client in CLIENTS if not missing(client)]
        _equip(desk, ours)
        yield {
            **_outside(gated, _jobs(ours, ports, "outside", desk)),
            **_inside(gated, _jobs(ours, ports, "inside", desk), list(ports.values())),
        }


def _equip(desk: Desk, clients: list[Client]) -> None:
    for client in clients:
        name = f"client.{client.name}"
        if client.name == "go":
            source = desk.base / "client.go"
            source.write_text(client.file)
            subprocess.run(
                ["go", "build", "-o", desk.base / "built", source], check=True, cwd=desk.base,
                env={**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local"},
            )  # fmt: skip
            desk.write(name, (desk.base / "built").read_bytes(), 0o755)
        elif client.file:
            desk.write(name, client.file)
    lent = desk.base / "lent"
    lent.mkdir()
    for root in {module for client in clients for module in client.modules}:
        copy_installation(lent, root)
    for side in ("outside", "inside"):
        (desk.folder(side) / "lent").symlink_to(lent)
    desk.write("runner.py", (HERE / "runner.py").read_bytes())


def _jobs(
    clients: list[Client], ports: Mapping[str, int], side: str, desk: Desk
) -> list[dict[str, Any]]:
    found = []
    outside = {"outside": dict.fromkeys(_BUNDLES, TRUSTED)}
    for client, site in itertools.product(clients, SITES):
        if (side == "outside" and site != "denied") or (client.slow and site == "passed"):
            continue
        for way, variables in (WAYS if side == "inside" else outside).items():
            there = {
                "SITE": SITES[site].format(port=ports[client.server]),
                "PYTHONPATH": str(desk.base / "lent"),
            }
            job = {
                "id": f"{client.name}-{site}-{way}",
                "script": client.script,
                "folder": str(desk.folder(side)),
                "variables": {**variables, **there},
            }
            found.append(job)
    return found


def _outside(gated: Gated, jobs: list[dict[str, Any]]) -> dict[str, Any]:
    desk = gated.desk
    desk.write("jobs.json", json.dumps(jobs))
    command = gated.command()[: -len(desk.user.nemoclaw)]
    done = subprocess.run(
        [*command, PYTHON, "runner.py", "jobs.json"], cwd=desk.folder("outside"),
        env=desk.environment("outside"), capture_output=True, text=True, timeout=100, check=True,
    )  # fmt: skip
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def _inside(gated: Gated, jobs: list[dict[str, Any]], ports: list[int]) -> dict[str, Any]:
    desk = gated.desk
    desk.write("jobs.json", json.dumps(jobs))
    requests = "[{ methods = ['*'], path = '/open/**' }, { methods = ['*'], path = '/open.*/*' }]"
    policy = gated.policy(
        gated.rule("judged.test", ports=str(ports), http=requests)
        + gated.rule("api.test", ports=str(ports))
        + f"[policy.default.filesystem]\nread = ['{desk.base}/lent']\n"
    )
    done = subprocess.run(
        gated.command("run", "-p", policy, "--name", "box", "--", PYTHON, "runner.py", "jobs.json"),
        cwd=desk.folder("inside"), env=desk.environment("inside"), capture_output=True, text=True,
        timeout=110,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout), "events": gated.events("box")}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_a_client_gets_what_is_allowed_and_nothing_else(
    client: Client, way: str, results: dict[str, Any]
) -> None:
    if reason := missing(client):
        pytest.skip(reason)
    there = results[f"{client.name}-denied-outside"]
    assert client.content in there["said"], f"not even outside: {there}"
    for site in ("allowed", "passed")[: 1 if client.slow else 2]:
        allowed = results[f"{client.name}-{site}-{way}"]
        assert allowed["code"] == 0, allowed
        assert client.content in allowed["said"], allowed
    denied = results[f"{client.name}-denied-{way}"]
    assert client.content not in denied["said"], denied
    assert re.search(client.denial, denied["said"]), denied


def test_each_denial_is_an_event(results: dict[str, Any]) -> None:
    codes = [event["metadata"]["event_code"] for event in results["events"]]
    count = sum(not missing(client) for client in CLIENTS)
    # npm and pip ask again where they are refused; nobody asks less than once.
    assert codes.count("request-denied") >= 2 * count
    assert codes.count("request-allowed") >= 2 * count
    denied = [e for e in results["events"] if e["metadata"]["event_code"] == "request-denied"]
    assert {event["http_request"]["url"]["hostname"] for event in denied} == {"judged.test"}
    assert all("/secret" in event["http_request"]["url"]["path"] for event in denied)
