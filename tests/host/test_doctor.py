"""``nemoclaw doctor``: its verdict agrees with what a start would do, here and elsewhere."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from nemoclaw_hookspecs.errors import LayerUnavailable, UsageError

from nemoclaw_core import host as host_module
from nemoclaw_core.cli import doctor, main
from nemoclaw_core.host import Examination, examine
from nemoclaw_core.launcher import kernel
from nemoclaw_core.pipeline import compile_plan
from nemoclaw_core.planning import context_for
from nemoclaw_core.plugins import PluginManager, discover
from nemoclaw_core.policy import load

SHIPPED = {"landlock", "mounts", "netns", "seccomp"}
NEWUSER = kernel.CLONE_FLAGS["user"]

POLICIES = """\
version = 1

[policy.default]
extends = ["default"]

[policy.relaxed]
extends = ["default"]
[policy.relaxed.filesystem]
compatibility = "best-effort"

[policy.broken]
extends = ["default"]
[policy.broken.filesystem]
read = ["/does/not/exist"]
"""


@pytest.fixture(autouse=True)
def installed() -> None:
    missing = SHIPPED - {plugin.name for plugin in discover()}
    if missing:
        pytest.skip(f"not installed here: {', '.join(sorted(missing))} (make install)")


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A work directory with a policies.toml, and a home beside it."""
    root = Path(os.path.realpath(tempfile.mkdtemp(prefix="doctor-")))
    for name in ("work", "home"):
        (root / name).mkdir()
    (root / "work" / "policies.toml").write_text(POLICIES)
    monkeypatch.chdir(root / "work")
    monkeypatch.setenv("HOME", str(root / "home"))
    for name in ("CONFIG", "STATE", "CACHE"):
        monkeypatch.delenv(f"XDG_{name}_HOME", raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    yield root / "work"
    shutil.rmtree(root)


Report = dict[str, Any]


@pytest.fixture
def report(
    project: Path, simulate: Callable[..., Any], change: Any, plain_user: int
) -> Callable[..., Report]:
    """The report of a plain user, after changes to the machine."""
    # Imports everything: a plain user may have no access to root's interpreter.
    doctor.diagnose(None, None)
    for path in (project.parent, *project.parent.iterdir(), project / "policies.toml"):
        os.chown(path, plain_user, plain_user)

    def run(*changes: Callable[[], object], policy: str | None = None) -> Report:
        return dict(
            simulate(
                change.become(plain_user),
                *changes,
                run=lambda: doctor.as_data(doctor.diagnose(policy, None)),
            )
        )

    return run


def verdict(report: Report, name: str) -> Any:
    return next(each for each in report["policies"] if each["policy"].endswith(f":{name}"))


@pytest.fixture
def free(here: dict[int, Examination], plain_user: int) -> None:
    host = here[plain_user].host
    if len(host.namespaces) < 7 or host.landlock_abi < 6:
        pytest.skip("this host cannot enforce everything to begin with")


@pytest.mark.usefixtures("free")
def test_a_whole_host_runs_the_shipped_policy_strictly(report: Callable[..., Report]) -> None:
    found = report()
    assert found["runs"]
    default = verdict(found, "default")
    assert default["strict"]
    assert default["error"] is None
    assert {layer["plugin"] for layer in default["layers"]} == {*SHIPPED, "core"}


def test_every_policy_that_a_name_finds_is_judged(report: Callable[..., Report]) -> None:
    found = report()
    names = [each["policy"].rpartition(":")[2] for each in found["policies"]]
    assert names[0] == "default"
    assert set(names) >= {"default", "relaxed", "broken", "base", "readonly"}
    assert len(names) == len(set(names))


def test_a_policy_that_cannot_be_resolved_says_why(report: Callable[..., Report]) -> None:
    broken = report(policy="broken")
    assert not broken["runs"]
    (only,) = broken["policies"]
    assert only["error"]["code"] == "policy"
    assert "/does/not/exist" in only["error"]["text"]


@pytest.mark.usefixtures("free")
def test_without_user_namespaces_strict_is_refused_and_best_effort_runs(
    report: Callable[..., Report], change: Any
) -> None:
    found = report(change.refuse("clone", errno.EPERM, NEWUSER))
    assert not found["runs"]
    default, relaxed = verdict(found, "default"), verdict(found, "relaxed")
    assert (default["runs"], default["strict"]) == (False, False)
    assert (relaxed["runs"], relaxed["strict"]) == (True, False)
    gaps = [gap for layer in default["layers"] for gap in layer["gaps"] if gap["blocks_strict"]]
    assert {"mounts", "netns", "landlock"} <= {
        layer["plugin"] for layer in default["layers"] if layer["gaps"]
    }
    for gap in gaps:
        assert gap["what"]
        assert gap["consequence"]
        assert gap["remedy"]


@pytest.mark.usefixtures("free")
def test_a_limit_of_zero_is_reported_with_its_sysctl(
    report: Callable[..., Report], change: Any, plain_user: int
) -> None:
    found = report(change.no_user_namespaces(plain_user))
    (check,) = (each for each in found["checks"] if each["subject"] == "namespace.user")
    assert not check["works"]
    assert "user.max_user_namespaces" in check["remedy"]
    assert found["host"]["namespaces"] == []


@pytest.mark.usefixtures("free")
def test_without_landlock_strict_is_refused(report: Callable[..., Report], change: Any) -> None:
    found = report(change.refuse("landlock_create_ruleset", errno.EOPNOTSUPP))
    assert found["host"]["landlock_abi"] == 0
    assert not found["runs"]
    assert verdict(found, "relaxed")["runs"]


@pytest.mark.usefixtures("free")
@pytest.mark.parametrize("abi", [1, 2, 3, 4, 5])
def test_the_verdict_is_that_of_a_start_for_every_older_landlock(
    abi: int, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older kernel, simulated by its facts."""
    found = examine()
    host = attrs.evolve(found.host, landlock_abi=abi)
    monkeypatch.setattr(doctor, "examine", lambda: attrs.evolve(found, host=host))
    judged = doctor.diagnose("default", None)
    assert not judged.runs
    policy = load("default", context=context_for(str(project)))
    manager = PluginManager()
    manager.load(policy.plugins)
    with pytest.raises(LayerUnavailable) as refusal:
        compile_plan(policy, host, manager)
    assert judged.verdicts[0].blocking
    for gap in judged.verdicts[0].blocking:
        assert gap.what in str(refusal.value)


def test_in_the_home_directory_another_directory_stands_for_the_work_directory(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.parent / "home")
    before = set(os.listdir(tempfile.gettempdir()))
    judged = doctor.diagnose("readonly", None)
    assert "home directory" in judged.note
    left = set(os.listdir(tempfile.gettempdir())) - before
    assert not any(name.startswith("nemoclaw-doctor-") for name in left)


def test_a_work_directory_that_is_none_is_a_mistake_of_the_caller(project: Path) -> None:
    with pytest.raises(UsageError):
        doctor.diagnose(None, str(project / "missing"))


def test_a_program_that_the_agent_cannot_reach_is_named(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = project.parent / "home" / ".pyenv" / "bin"
    tools.mkdir(parents=True)
    shutil.copy("/bin/true", tools / "python3")
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    (judged,) = doctor.diagnose("readonly", None).verdicts
    found = {each.command: each for each in judged.unreachable}
    assert found["python3"].path == str(tools / "python3")
    assert found["python3"].because == "is not in the policy"
    if os.path.exists("/usr/bin/python3"):
        # It has one: nothing to mend.
        assert (found["python3"].instead, found["python3"].remedy) == ("/usr/bin/python3", "")
    assert "sh" not in found
    monkeypatch.setenv("PATH", str(tools))
    (judged,) = doctor.diagnose("readonly", None).verdicts
    (found_alone,) = (each for each in judged.unreachable if each.command == "python3")
    assert f'read = ["{tools.parent}"]' in found_alone.remedy


def test_the_folder_of_a_wrapper_is_never_suggested(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shims = project.parent / "home" / ".pyenv" / "shims"
    shims.mkdir(parents=True)
    for name in ("sh", "git"):
        (shims / name).write_text('#!/bin/sh\nexec /elsewhere/"$0" "$@"\n')
        (shims / name).chmod(0o755)
    (shims / "git").rename(shims / "node")
    monkeypatch.setenv("PATH", f"{shims}:/usr/bin:/bin")
    monkeypatch.setattr("nemoclaw_core.cli.verdict.PROGRAMS", ("sh", "node"))
    (judged,) = doctor.diagnose("readonly", None).verdicts
    found = {each.command: each for each in judged.unreachable}
    assert "sh" not in found, "the agent has another"
    if not os.path.exists("/usr/bin/node"):
        assert "a script that starts it from elsewhere" in found["node"].because
        assert "read =" not in found["node"].remedy


@pytest.mark.skipif(os.getuid() != 0, reason="only root's agent is somebody else")
def test_a_program_in_a_directory_that_the_agents_id_cannot_enter_is_named(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = project / "tools"
    tools.mkdir(mode=0o700)
    shutil.copy("/bin/true", tools / "node")
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    (judged,) = doctor.diagnose("readonly", None).verdicts
    (found,) = (each for each in judged.unreachable if each.command == "node")
    assert f"{tools} has mode 700" in found.because
    assert found.remedy.startswith(f"chmod o+x {tools}")


def test_the_exit_status_is_the_verdict(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = doctor.main(["--policy", "default", "--json"])
    printed = json.loads(capsys.readouterr().out)
    assert status == (0 if printed["runs"] else 1)
    assert doctor.main(["--policy", "broken"]) == 1
    assert "would be refused" in capsys.readouterr().out
    assert doctor.main(["--policy", "no-such-policy"]) == 1
    assert "no-such-policy" in capsys.readouterr().out


def test_the_text_says_what_is_missing_and_how_to_fix_it(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = examine()
    host = attrs.evolve(found.host, landlock_abi=0, namespaces=())
    monkeypatch.setattr(doctor, "examine", lambda: attrs.evolve(found, host=host))
    assert doctor.main(["--policy", "default"]) == 1
    text = capsys.readouterr().out
    assert "default (strict): would be refused" in text
    assert "not enforced: " in text
    assert "fix: " in text
    assert doctor.main(["--policy", "relaxed"]) == 0
    assert "would run, with gaps" in capsys.readouterr().out


@pytest.mark.usefixtures("free")
def test_the_headline_and_the_layers_say_the_same(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = examine()
    pids = (("pids", "/sys/fs/cgroup"),)
    for controllers, words, layer in (
        (
            (*pids, ("memory", "/sys/fs/cgroup")),
            "with all of it enforced\n",
            "core.process: full\n",
        ),
        (pids, "enforced, some less tightly than written\n", "core.process: partial\n"),
    ):
        host = attrs.evolve(found.host, cgroup="v2", cgroup_paths=controllers)
        monkeypatch.setattr(doctor, "examine", lambda host=host: attrs.evolve(found, host=host))
        assert doctor.main(["--policy", "default"]) == 0
        text = capsys.readouterr().out
        assert words in text
        assert layer in text
        assert ("looser than written: memory limit" in text) == ("partial" in layer)
        assert ("4GiB holds for each process" in text) == ("partial" in layer)
        # And so it is told before a start.
        monkeypatch.setattr(host_module, "probe", lambda host=host: host)
        assert main(["run", "--dry-run", "--", "true"]) == 0
        text = capsys.readouterr().out
        assert ("4GiB holds for each process" in text) == ("partial" in layer)
        assert ("max_memory (no memory cgroup: for each process)" in text) == ("partial" in layer)


def test_it_imports_nothing_heavy(project: Path) -> None:
    code = (
        "import sys; from nemoclaw_core.cli import main; main(['doctor', '--json']); "
        "heavy = {'aiohttp', 'pyroute2', 'numpy', 'onnxruntime', 'rich', 'pydantic', 'asyncio'}; "
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.returncode == 0
