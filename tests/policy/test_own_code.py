"""Claims about what nemoclaw is imported from: no policy lets an agent write it."""

from __future__ import annotations

import sys
from pathlib import Path

import attrs
import pytest
from nemoclaw_hookspecs import Origin, PathRule, Policy

from nemoclaw_core import imports
from nemoclaw_core.policy import Context, load, own_code, permits
from nemoclaw_core.policy.own_code import Code

from .conftest import Ground

CODE = Origin(file="nemoclaw:", line=0, key="its own code")


def kept(policy: Policy) -> dict[str, PathRule]:
    return {rule.path: rule for rule in policy.filesystem.rules if rule.origin == CODE}


@pytest.fixture
def site(ground: Ground) -> Path:
    """A directory with code in it, in the work directory."""
    found = ground.work / "venv/site"
    (found / "package").mkdir(parents=True)
    return found


def with_code(ground: Ground, body: str, *code: Code) -> Policy:
    return ground.filesystem(body, own_code=code)


def refused(ground: Ground, body: str, *code: Code) -> str:
    return ground.refused_filesystem(body, own_code=code)


def test_the_origin_reads_well() -> None:
    assert str(CODE) == "nemoclaw: its own code"


def test_code_in_a_writable_tree_is_an_island(ground: Ground, site: Path) -> None:
    policy = with_code(ground, "write = ['{workdir}']", Code(str(site)), Code(f"{site}/package"))
    assert {path: rule.access for path, rule in kept(policy).items()} == {str(site): "read"}
    assert permits(policy, f"{site}/package/module.py") == "read"
    assert permits(policy, f"{ground.work}/venv/new") == "write"


def test_code_elsewhere_needs_no_rule_and_no_look(ground: Ground, site: Path) -> None:
    body = "read = ['{workdir}']\nwrite = ['~']"
    without = with_code(ground, body)
    assert with_code(ground, body, Code(str(site))) == without


def test_code_that_is_not_there_yet_cannot_be_made(ground: Ground, site: Path) -> None:
    policy = with_code(ground, "write = ['{workdir}']", Code(f"{ground.work}/sitecustomize.py"))
    rule = kept(policy)[f"{ground.work}/sitecustomize.py"]
    assert (rule.access, rule.kind, rule.fallback) == ("deny", "missing", "")


def test_a_rule_that_names_code_is_refused(ground: Ground, site: Path) -> None:
    for path in (site, site / "package"):
        told = refused(ground, f"write = ['{path}']", Code(str(site)))
        assert "is what nemoclaw itself runs from" in told
    told = refused(ground, "write = ['{workdir}', '{workdir}/venv/site']", Code(str(site)))
    assert "is what nemoclaw itself runs from" in told


def test_a_pattern_that_reaches_code_leaves_it_alone(ground: Ground, site: Path) -> None:
    for folder in (site, ground.work):
        (folder / "some.log").write_text("")
    policy = with_code(ground, "write = ['**/*.log']", Code(str(site)))
    assert permits(policy, f"{site}/some.log") is None
    assert permits(policy, f"{ground.work}/some.log") == "write"


def test_a_prefix_gives_way_to_a_rule_for_a_part_of_it(ground: Ground, site: Path) -> None:
    prefix = Code(f"{ground.work}/venv", whole=False)
    (ground.work / "venv/share").mkdir()
    body = "write = ['{workdir}', '{workdir}/venv/share']"
    policy = with_code(ground, body, prefix, Code(str(site)))
    assert permits(policy, f"{ground.work}/venv/share/x") == "write"
    assert permits(policy, f"{site}/x") == permits(policy, f"{ground.work}/venv/x") == "read"
    assert "itself runs from" in refused(ground, "write = ['{workdir}/venv']", prefix)


def test_what_the_policy_denies_stays_denied(ground: Ground, site: Path) -> None:
    policy = with_code(ground, "write = ['{workdir}']\ndeny = ['venv']", Code(str(site)))
    assert permits(policy, f"{site}/x") is None


def test_a_link_to_code_cannot_be_replaced(ground: Ground, site: Path) -> None:
    tool = ground.root / "tool"
    tool.write_text("")
    (ground.work / "nemoclaw").symlink_to(tool)
    policy = with_code(ground, "write = ['{workdir}']", Code(f"{ground.work}/nemoclaw"))
    assert kept(policy)[f"{ground.work}/nemoclaw"].access == "deny"
    assert str(tool) not in kept(policy)


def test_code_behind_a_link_that_the_agent_can_replace_is_refused(
    ground: Ground, site: Path
) -> None:
    (ground.work / "link").symlink_to(site)
    told = refused(ground, "write = ['{workdir}']", Code(f"{ground.work}/link/package"))
    assert "a symbolic link that the agent can replace" in told


def test_a_link_inside_of_an_island_is_held_by_it(ground: Ground, site: Path) -> None:
    (site / "lib64").symlink_to("package")
    policy = with_code(
        ground, "write = ['{workdir}']", Code(f"{site}/lib64/x"), Code(str(site), whole=False)
    )
    assert list(kept(policy)) == [str(site)]


def test_the_running_interpreter_and_every_package_are_known(ground: Ground) -> None:
    found = {each.path for each in own_code.of_this_process()}
    assert {sys.prefix, sys.base_prefix, sys.executable, imports.CORE, imports.LIBRARY} <= found
    context = Context.at(str(ground.work))
    policy = load(context=attrs.evolve(context, config_dir=ground.context.config_dir))
    plugins = {each.path for each in own_code.of_plugins(policy.plugins.enable)}
    assert {Path(each).name for each in plugins} >= {
        f"nemoclaw_plugin_{name}" for name in policy.plugins.enable
    }
    assert kept(policy) == {}


def test_a_writable_tree_above_the_installation_holds_an_island(ground: Ground) -> None:
    path = ground.write("version = 1\n[policy.default]\nfilesystem.write = ['{workdir}']\n")
    above = Path(imports.CORE).parent.parent
    if above == Path("/"):
        pytest.skip("nothing that could be granted lies above this installation")
    policy = load(str(path), context=Context.at(str(above)))
    assert permits(policy, f"{imports.CORE}/supervisor/refusals.py") == "read"
    assert permits(policy, sys.prefix) in ("read", None)
