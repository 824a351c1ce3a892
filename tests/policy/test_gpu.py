"""Claims about ``process.gpu``, with stand-ins for the device files of a GPU."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pytest
from nemoclaw_hookspecs import (
    BindMount,
    LandlockRuleset,
    LayerUnavailable,
    PathRule,
    Plan,
    Policy,
    SeccompFilter,
)
from nemoclaw_testing import make_host, make_policy, make_rule

from nemoclaw_core.pipeline import compile_plan
from nemoclaw_core.plugins import PluginManager
from nemoclaw_core.policy import gpu
from nemoclaw_core.policy.check import read_shipped, read_source
from nemoclaw_core.policy.locate import Located
from nemoclaw_core.policy.resolve import resolve
from nemoclaw_core.policy.walk import Entry, Observer

from .conftest import Ground

if TYPE_CHECKING:
    from nemoclaw_testing.pytest_plugin import RunInSandbox

NVIDIA = ("/dev/nvidia0", "/dev/nvidia1", "/dev/nvidia-uvm", "/dev/nvidiactl")
TEXT = """
version = 1
[policy.default]
extends = ["default"]
process.gpu = true
"""
# LANDLOCK_ACCESS_FS_WRITE_FILE, READ_FILE and IOCTL_DEV (landlock(7)).
OPEN = 1 << 1 | 1 << 2 | 1 << 15


class Stage(Observer):
    """The real file system, in which these device files are as well."""

    def __init__(self, *paths: str) -> None:
        super().__init__()
        self.paths = paths

    def entry(self, path: str) -> Entry:
        if path in self.paths:
            return Entry("device", 0, 0)
        return super().entry(path)

    def expand(self, pattern: str) -> tuple[list[str], list[str]]:
        found, unlistable = super().expand(pattern)
        if pattern in gpu.PATTERNS:
            shape = re.compile(pattern.replace("*", "[^/]*"))
            found += [path for path in self.paths if shape.fullmatch(path)]
        return found, unlistable


def resolved(ground: Ground, *paths: str, text: str = TEXT) -> Policy:
    """The policy ``default`` of a text on a host with these device files."""
    shipped, _ = read_shipped()
    source = read_source("gpu.toml", text.encode(), "", shipped)
    located = Located(source=source, name="default", shipped=shipped)
    return resolve(located, ground.context, Stage(*paths))


def plan(policy: Policy) -> Plan:
    manager = PluginManager()
    manager.load(policy.plugins)
    return compile_plan(policy, make_host(machine=os.uname().machine), manager)


def devices(policy: Policy) -> dict[str, PathRule]:
    return {rule.path: rule for rule in policy.filesystem.rules if rule.kind == "device"}


# --- which files


@pytest.mark.parametrize(
    "path",
    [
        *NVIDIA,
        "/dev/nvidia-uvm-tools",
        "/dev/nvidia15",
        "/dev/nvidia-caps/nvidia-cap3",
        "/dev/nvidia-caps/nvidia-cap12",
        "/dev/kfd",
        "/dev/dri/renderD128",
        "/dev/dxg",
    ],
)
def test_what_computes_on_a_gpu_is_granted(path: str) -> None:
    assert gpu.devices(Stage(path)) == (path,)


@pytest.mark.parametrize(
    "path",
    [
        "/dev/nvidia-modeset",
        "/dev/nvidia-nvswitchctl",
        "/dev/nvidia-fs0",
        "/dev/nvidia-caps/nvidia-cap1",
        "/dev/nvidia-caps/nvidia-cap2",
        "/dev/dri/card0",
        "/dev/sda",
        "/dev/nvidia0/renderD128",
    ],
)
def test_other_devices_of_its_driver_are_not(path: str) -> None:
    assert gpu.devices(Stage(path)) == ()


def test_only_a_device_file_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("nvidia0", "kfd"):
        (tmp_path / name).write_text("")
    (tmp_path / "nvidia1").symlink_to("/dev/null")
    (tmp_path / "nvidia2").mkdir()
    monkeypatch.setattr(gpu, "PATTERNS", (f"{tmp_path}/*",))
    assert gpu.devices(Observer()) == ()


def test_a_plan_from_before_the_driver_was_loaded_is_not_used_after(ground: Ground) -> None:
    """A cached plan is used while every observation still holds."""
    observer = Observer()
    gpu.devices(observer)
    looked_at = {path for path, what, _ in observer.observations() if what == "glob"}
    assert looked_at == set(gpu.PATTERNS)


# --- what becomes of them


def test_the_policy_grants_them_at_the_line_that_asks(ground: Ground) -> None:
    found = devices(resolved(ground, *NVIDIA))
    assert set(found) == set(NVIDIA)
    assert {(rule.access, str(rule.origin)) for rule in found.values()} == {
        ("write", "gpu.toml:5 policy.default.process.gpu")
    }


@pytest.mark.parametrize("text", [TEXT.replace("true", "false"), TEXT.replace("process", "# ")])
def test_without_the_key_there_is_none(ground: Ground, text: str) -> None:
    policy = resolved(ground, *NVIDIA, text=text)
    assert devices(policy) == {}
    (filters,) = [
        step.operation for step in plan(policy).steps if isinstance(step.operation, SeccompFilter)
    ]
    assert filters.name == "agent"


def test_one_that_is_denied_stays_denied(ground: Ground) -> None:
    policy = resolved(ground, *NVIDIA, text=f"{TEXT}filesystem.deny = ['/dev/nvidia1']\n")
    granted = [path for path, rule in devices(policy).items() if rule.access != "deny"]
    assert sorted(granted) == sorted(set(NVIDIA) - {"/dev/nvidia1"})


def test_a_grant_of_the_whole_directory_does_not_swallow_them(ground: Ground) -> None:
    """What a directory shows is mounted nodev: a device opens only by a rule of its own."""
    policy = resolved(ground, *NVIDIA, text=f"{TEXT}filesystem.write = ['/dev']\n")
    assert set(NVIDIA) <= set(devices(policy))


def test_each_layer_opens_them(ground: Ground) -> None:
    operations = [step.operation for step in plan(resolved(ground, *NVIDIA)).steps]
    mounted = {
        each.target: each
        for each in operations
        if isinstance(each, BindMount) and each.kind == "device"
    }
    assert set(mounted) == set(NVIDIA)
    for path, each in mounted.items():
        assert (each.source, each.read_only, each.owner) == (path, False, None)
    rulesets = [each for each in operations if isinstance(each, LandlockRuleset)]
    for ruleset in rulesets:
        rights = {rule.path: rule.access for rule in ruleset.rules}
        assert {rights[path] for path in NVIDIA} == {OPEN}
    (filters,) = [each for each in operations if isinstance(each, SeccompFilter)]
    assert (len(rulesets), filters.name) == (1, "gpu")


# --- a host without


def test_strict_refuses_a_host_without_a_gpu(ground: Ground) -> None:
    with pytest.raises(LayerUnavailable) as caught:
        plan(resolved(ground))
    told = str(caught.value)
    assert "gpu.toml:5 policy.default.process.gpu: a GPU (core): the agent finds none" in told
    assert "nvidia-smi" in told


def test_strict_refuses_when_cuda_could_not_start(ground: Ground) -> None:
    with pytest.raises(LayerUnavailable, match="the GPU's /dev/nvidia-uvm") as caught:
        plan(resolved(ground, "/dev/nvidia0", "/dev/nvidiactl"))
    assert "nvidia-modprobe -u -c 0" in str(caught.value)
    plan(resolved(ground, "/dev/kfd", "/dev/dri/renderD128"))  # nobody else has such a file


def test_best_effort_starts_and_says_so(ground: Ground) -> None:
    found = plan(resolved(ground, text=f"{TEXT}filesystem.compatibility = 'best-effort'\n"))
    (core,) = [layer for layer in found.layers if layer.plugin == "core"]
    assert "a GPU" in [gap.what for gap in core.gaps]


def test_a_policy_that_denies_the_gpu_that_it_asks_for_is_told(ground: Ground) -> None:
    text = f"{TEXT}filesystem.deny = {list(NVIDIA)}\n"
    with pytest.raises(LayerUnavailable, match="the agent finds none"):
        plan(resolved(ground, *NVIDIA, text=text))


def test_reading_alone_is_no_use_of_a_gpu() -> None:
    read = make_rule("/dev/nvidia0", "read", "device")
    assert gpu.missing((read,)) == "every device file"
    assert gpu.missing((attrs.evolve(read, access="write"),)) == "nvidia-uvm"
    assert gpu.missing(make_policy().filesystem.rules) == "every device file"


# --- for real


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> str:
    """A device below /dev that anybody may open, and no sandbox has."""
    # Opened and closed, neither does anything.
    for path in ("/dev/net/tun", "/dev/fuse", "/dev/autofs"):
        if os.path.exists(path) and os.stat(path).st_mode & stat.S_IROTH:
            monkeypatch.setattr(gpu, "PATTERNS", (path,))
            monkeypatch.setattr(gpu, "_NAME", re.compile(path.rpartition("/")[2]))
            return path
    pytest.skip("this host has no device to stand for a GPU")


def test_the_agent_opens_the_device_and_only_when_it_was_asked_for(
    ground: Ground, sandbox: RunInSandbox, stand_in: str
) -> None:
    def opened(text: str, name: str) -> str:
        policy = ground.write(text, f"{name}.toml")
        line = f"test -c {stand_in} && : < {stand_in}"
        done = sandbox(["sh", "-c", line], policy=f"{policy}:default")
        return "opened" if done.returncode == 0 else (done.stderr or b"").decode()

    os.close(os.open(stand_in, os.O_RDONLY))
    assert opened(TEXT, "with") == "opened"
    assert opened(TEXT.replace("true", "false"), "without") != "opened"


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes a device file that gives zeros, where GPUs are looked for."""
    folder = tmp_path / "devices"
    folder.mkdir()
    monkeypatch.setattr(gpu, "PATTERNS", (f"{folder}/*",))

    def make(name: str) -> None:
        try:
            os.mknod(folder / name, stat.S_IFCHR | 0o666, os.makedev(1, 5))
        except PermissionError:
            pytest.skip("only root can make a device file")
        (folder / name).chmod(0o666)

    return make


def test_the_agent_reads_from_a_device_of_the_right_name(
    ground: Ground, sandbox: RunInSandbox, node: Callable[[str], None], tmp_path: Path
) -> None:
    for name in ("nvidia0", "nvidia-uvm", "nvidia-modeset"):
        node(name)
    policy = ground.write(TEXT, "gpu.toml")
    line = f"cd {tmp_path}/devices && ls && head -c 3 nvidia0 | od -An -tx1"
    done = sandbox(["sh", "-c", line], policy=f"{policy}:default")
    assert done.returncode == 0, done.stderr
    assert (done.stdout or b"").decode().split() == ["nvidia-uvm", "nvidia0", "00", "00", "00"]
