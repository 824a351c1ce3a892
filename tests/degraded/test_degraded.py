"""Hosts that cannot enforce everything: strict refuses, best-effort runs and says what is missing.

The plans are made for a host that has less than this one, and carried out on this one, as root and
as an ordinary user: what the plan leaves out is really not there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from nemoclaw_hookspecs import Host, LayerUnavailable, Plan

from nemoclaw_core import planning, seal
from nemoclaw_core.host import probe
from nemoclaw_core.launcher import wire
from nemoclaw_core.pipeline import compile_plan
from nemoclaw_core.plugins import PluginManager
from nemoclaw_core.policy import load
from nemoclaw_core.supervisor.launcher import Launcher
from nemoclaw_core.supervisor.session import Command

pytest.importorskip("nemoclaw_plugin_mounts")

POLICY = """version = 1
[policy.test]
extends = ["base"]
[policy.test.filesystem]
write = ["{workdir}"]
compatibility = "%s"
"""


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    for name in ("STATE", "CACHE", "CONFIG"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    found = Path(tempfile.mkdtemp(prefix="nemoclaw-degraded-", dir="/var/tmp"))
    if os.getuid() == 0:
        # Without mounts nothing shows root's files as the agent's.
        os.chown(found, 65532, 65532)
    monkeypatch.chdir(found)
    yield found
    shutil.rmtree(found)


def compiled(work: Path, tmp_path: Path, compatibility: str, **less: Any) -> Plan:
    """The plan for this host, less what ``less`` says."""
    file = tmp_path / "test.toml"
    file.write_text(POLICY % compatibility)
    policy = load(f"{file}:test", context=planning.context_for(str(work)))
    manager = PluginManager()
    manager.load(policy.plugins)
    host: Host = attrs.evolve(probe(), **less)
    return compile_plan(policy, host, manager)


def run(plan: Plan, script: str) -> tuple[int, bytes]:
    """Carry a plan out, and run a shell script under it: exit code and output."""
    launcher = Launcher.execute()
    reader, writer = os.pipe()
    launcher.prepare(seal.encode(plan))
    _, channel = launcher.spawn(f"degraded-{os.getpid()}")
    status = -1
    try:
        while (report := wire.receive_report(channel)) is not None:
            if report[0] == wire.READY:
                command = Command(
                    ["sh", "-c", script],
                    environment={"PATH": "/usr/bin:/bin"},
                    workdir=plan.workdir,
                )
                wire.send_request(channel, ("run", 0, command.request()), (writer, writer, writer))
            elif report[0] == wire.EXITED:
                status = os.waitstatus_to_exitcode(report[2])
            assert report[0] not in (wire.FAILED, wire.LEFT_BEHIND), report
    finally:
        os.close(writer)
        channel.close()
        launcher.close()
    with open(reader, "rb") as file:
        return status, file.read()


def missing(plan: Plan) -> str:
    return "\n".join(gap.what for layer in plan.layers for gap in layer.gaps)


@pytest.mark.parametrize("abi", range(6))
def test_strict_refuses_an_older_landlock(work: Path, tmp_path: Path, abi: int) -> None:
    with pytest.raises(LayerUnavailable) as refused:
        compiled(work, tmp_path, "strict", landlock_abi=abi)
    assert "landlock" in str(refused.value)
    assert "remedy" in str(refused.value)


@pytest.mark.parametrize("abi", range(1, 6))
def test_best_effort_runs_on_an_older_landlock_and_says_what_is_missing(
    work: Path, tmp_path: Path, abi: int
) -> None:
    plan = compiled(work, tmp_path, "best-effort", landlock_abi=abi)
    assert f"this kernel has {abi}" in missing(plan)
    status, output = run(plan, "echo made > made && cat made; cat /etc/shadow; exit 7")
    assert (status, output.splitlines()[0]) == (7, b"made")
    assert b"Permission denied" in output
    assert (work / "made").exists()


def test_strict_refuses_a_host_without_namespaces(work: Path, tmp_path: Path) -> None:
    with pytest.raises(LayerUnavailable) as refused:
        compiled(work, tmp_path, "strict", namespaces=())
    for kind in ("network", "mount", "pid", "ipc"):
        assert f"{kind} namespace" in str(refused.value)


def test_best_effort_runs_without_namespaces_and_says_what_is_missing(
    work: Path, tmp_path: Path
) -> None:
    plan = compiled(work, tmp_path, "best-effort", namespaces=())
    for kind in ("network", "mount", "pid", "ipc"):
        assert f"{kind} namespace" in missing(plan)
    secret = tmp_path / "secret"
    secret.write_text("secret\n")
    connect = "import socket; socket.socket(socket.AF_INET)"
    script = f"""
        echo ran
        echo x > made 2>/dev/null && echo MADE
        cat {secret} 2>/dev/null && echo READ
        echo x > /tmp/nemoclaw-degraded-{os.getpid()} 2>/dev/null && echo WROTE
        python3 -c '{connect}' 2>/dev/null && echo SOCKET
        exit 0"""
    outside = subprocess.run(["sh", "-c", script], capture_output=True, cwd=work, check=True)
    assert {b"MADE", b"READ", b"WROTE", b"SOCKET"} <= set(outside.stdout.split())
    os.unlink(f"/tmp/nemoclaw-degraded-{os.getpid()}")
    (work / "made").unlink()
    status, output = run(plan, f"({script}) 2>/dev/null")
    assert f"keeping {work}/policies.toml from being made" in missing(plan)
    assert (status, output) == (0, b"ran\nMADE\n")


def test_without_a_pid_namespace_orphans_are_ended_too(work: Path, tmp_path: Path) -> None:
    plan = compiled(work, tmp_path, "best-effort", namespaces=())
    marker = f"{os.getpid()}{time.monotonic_ns() % 10**6}"
    tree = f"setsid sh -c 'sleep {marker} & setsid sleep {marker} & :' & sleep 0.3; exit 4"
    assert run(plan, tree)[0] == 4
    left = subprocess.run(["pgrep", "-f", f"sleep {marker}"], capture_output=True, check=False)
    assert left.stdout == b""
