"""What is in the wheels: one package each, the licence, the types, the shipped policy."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import ZipFile

import pytest

if TYPE_CHECKING:
    from .conftest import Distribution, Wheel

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.timeout(600)


def test_every_distribution_is_built(
    distributions: tuple[Distribution, ...], built: dict[str, Wheel]
) -> None:
    assert set(built) == {each.name for each in distributions}
    assert {
        "nemoclaw",
        "nemoclaw-hookspecs",
        "nemoclaw-testing",
        "nemoclaw-plugin-landlock",
        "nemoclaw-plugin-mounts",
        "nemoclaw-plugin-netns",
        "nemoclaw-plugin-seccomp",
    } <= set(built)


def test_a_wheel_installs_its_own_package_and_nothing_else(
    distributions: tuple[Distribution, ...], built: dict[str, Wheel]
) -> None:
    for each in distributions:
        tops = {name.split("/")[0] for name in built[each.name].names}
        tops = {top for top in tops if not top.endswith((".dist-info", ".data"))}
        assert tops == {each.package}


def test_wheels_carry_licence_types_and_the_supported_python(
    distributions: tuple[Distribution, ...], built: dict[str, Wheel]
) -> None:
    licence = (ROOT / "LICENSE").read_bytes()
    for each in distributions:
        wheel = built[each.name]
        assert wheel.metadata["License-Expression"] == "Apache-2.0", each.name
        assert wheel.metadata["Requires-Python"] == ">=3.10", each.name
        assert f"{each.package}/py.typed" in wheel.names, each.name
        assert str(wheel.metadata.get_payload()).strip(), f"{each.name} has an empty README"
        (where,) = [name for name in wheel.names if name.endswith("/licenses/LICENSE")]
        assert wheel.content(where) == licence, each.name


def test_wheels_carry_every_module_and_no_tests(
    distributions: tuple[Distribution, ...], built: dict[str, Wheel]
) -> None:
    for each in distributions:
        modules = {
            f"{each.package}/{path.relative_to(each.sources)}"
            for path in each.sources.rglob("*.py")
        }
        names = set(built[each.name].names)
        assert modules <= names, each.name
        assert not [name for name in names if "/tests/" in name], each.name


def test_the_shipped_policy_is_in_the_wheel(built: dict[str, Wheel]) -> None:
    shipped = (ROOT / "policies.toml").read_bytes()
    assert built["nemoclaw"].content("nemoclaw_core/policies.toml") == shipped


def test_the_shipped_policy_is_found_in_a_checkout() -> None:
    link = ROOT / "nemoclaw_core" / "policies.toml"
    assert link.readlink() == Path("../policies.toml")
    assert link.read_bytes() == (ROOT / "policies.toml").read_bytes()


def test_a_wheel_from_the_checkout_equals_the_one_from_its_sdist(
    built: dict[str, Wheel], tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir"]
    subprocess.run([*command, str(tmp_path), str(ROOT)], check=True, capture_output=True)
    (direct,) = tmp_path.glob("nemoclaw-*.whl")
    assert sorted(ZipFile(direct).namelist()) == sorted(built["nemoclaw"].names)


def test_plugins_ask_for_the_contract_by_compatible_version(built: dict[str, Wheel]) -> None:
    for name, wheel in built.items():
        if name.startswith("nemoclaw-plugin-"):
            ours = [text for text in wheel.requirements if text.startswith("nemoclaw")]
            assert ours == ["nemoclaw-hookspecs~=1.0"], name


def test_plugins_are_found_by_entry_point(built: dict[str, Wheel]) -> None:
    for name, wheel in built.items():
        if name.startswith("nemoclaw-plugin-"):
            (where,) = [each for each in wheel.names if each.endswith("/entry_points.txt")]
            plugin = name.removeprefix("nemoclaw-plugin-")
            package = name.replace("-", "_")
            lines = wheel.content(where).decode().split()
            assert lines == ["[nemoclaw]", plugin, "=", package]


def test_the_contract_depends_on_pluggy_and_attrs_alone(built: dict[str, Wheel]) -> None:
    names = {re.split(r"[^\w-]", text)[0] for text in built["nemoclaw-hookspecs"].requirements}
    assert names == {"attrs", "pluggy"}


def test_constraints_name_no_host_and_pin_everything() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert pins
    for line in pins:
        assert re.fullmatch(r"[a-z0-9-]+==[\w.]+( ; [\w' .<>=!]+)?", line), line
        assert not line.startswith("nemoclaw"), "our own versions come from the checkout"


def test_constraints_pin_every_requirement(built: dict[str, Wheel]) -> None:
    pinned = set(re.findall(r"(?m)^([a-z0-9-]+)==", (ROOT / "constraints.txt").read_text()))
    for name, wheel in built.items():
        for text in wheel.metadata.get_all("Requires-Dist", []):
            wanted = re.split(r"[^\w-]", text)[0]
            assert wanted in pinned or wanted in built, f"{name} needs {wanted}"
    assert "hatchling" in pinned
