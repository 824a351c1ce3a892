"""Claims about nemoclaw's own files: no policy reaches them, written down or not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from nemoclaw_hookspecs import Origin, PathRule, Policy

from nemoclaw_core.policy import Context, load, permits

from .conftest import Ground

WALLS = Origin(file="nemoclaw", line=0, key="walls")


def walls(policy: Policy) -> dict[str, PathRule]:
    return {rule.path: rule for rule in policy.filesystem.rules if rule.origin == WALLS}


def test_private_directories_inside_a_grant_are_denied(ground: Ground) -> None:
    config = ground.context.config_dir
    for access in ("read", "write"):
        policy = ground.filesystem(f"{access} = ['~']")
        assert walls(policy)[config].kind == "directory"
        assert permits(policy, f"{config}/policies.toml") is None
        assert permits(policy, f"{ground.home}/other") == access


def test_a_private_directory_that_does_not_exist_yet_is_denied_too(ground: Ground) -> None:
    state = f"{ground.home}/.local/state/nemoclaw"
    for access in ("read", "write"):
        policy = ground.filesystem(f"{access} = ['~']", private_paths=(state,))
        assert walls(policy)[state].kind == "missing"


def test_private_directories_outside_of_every_grant_need_no_rule(ground: Ground) -> None:
    assert ground.context.config_dir not in walls(ground.filesystem("write = ['{workdir}']"))


def test_a_grant_inside_a_private_directory_is_refused(ground: Ground) -> None:
    inner = Path(ground.context.config_dir, "inner")
    inner.mkdir()
    for path in (ground.context.config_dir, str(inner)):
        for access in ("read", "write"):
            told = ground.refused_filesystem(f"{access} = ['{path}']")
            assert "is nemoclaw's own directory, which no agent may reach" in told
    told = ground.refused_filesystem("write = ['{workdir}']", workdir=str(inner))
    assert "is nemoclaw's own directory" in told


def test_a_private_directory_behind_a_link_is_denied_where_it_is(ground: Ground) -> None:
    (ground.root / "disk/nemoclaw").mkdir(parents=True)
    (ground.root / "state").symlink_to("disk/nemoclaw")
    private = (f"{ground.root}/state",)
    policy = ground.filesystem(f"write = ['{ground.root}/disk']", private_paths=private)
    assert walls(policy)[f"{ground.root}/disk/nemoclaw"].kind == "directory"


def test_a_private_directory_behind_a_link_that_the_agent_can_replace_is_refused(
    ground: Ground,
) -> None:
    (ground.root / "disk/nemoclaw").mkdir(parents=True)
    (ground.home / ".cache").symlink_to(ground.root / "disk")
    private = (f"{ground.home}/.cache/nemoclaw",)
    told = ground.refused_filesystem("write = ['~']", private_paths=private)
    assert "cannot be kept from the agent" in told


def test_the_policy_file_in_use_is_denied(ground: Ground) -> None:
    text = "version = 1\n[policy.default]\nextends = ['base']\nfilesystem.write = ['{workdir}']\n"
    path = ground.write(text, "mine.toml", ground.work)
    policy = load(str(path), context=ground.context)
    assert walls(policy)[str(path)].kind == "file"
    told = ground.refused(
        text.replace("['{workdir}']", f"['{ground.root}/policies/policies.toml']")
    )
    assert "is the policy file in use, which no agent may reach" in told


def test_the_policy_file_behind_a_link_is_denied_with_the_link(ground: Ground) -> None:
    text = "version = 1\n[policy.default]\nfilesystem.write = ['{workdir}']\n"
    real = ground.write(text, "real.toml", ground.work)
    (ground.work / "link.toml").symlink_to("real.toml")
    policy = load(str(ground.work / "link.toml"), context=ground.context)
    assert {str(real), f"{ground.work}/link.toml"} <= walls(policy).keys()


def test_the_shipped_file_is_denied_where_a_grant_reaches_it(ground: Ground) -> None:
    from nemoclaw_core.policy.files import SHIPPED

    policy = ground.filesystem(f"read = ['{os.path.dirname(SHIPPED)}']")
    assert permits(policy, SHIPPED) is None


def test_an_agent_cannot_create_the_policy_of_the_next_start(ground: Ground) -> None:
    """``./policies.toml`` is looked up first: an agent that could write it would choose its own
    walls the next time."""
    body = "write = ['{workdir}']"
    policy = ground.filesystem(body, cwd=str(ground.work))
    assert walls(policy)[f"{ground.work}/policies.toml"].kind == "missing"
    # Also when the start was made from somewhere else: the next one may be made from there.
    assert f"{ground.work}/policies.toml" in walls(ground.filesystem(body))
    (ground.work / "sub").mkdir()
    inner = ground.filesystem(body, cwd=str(ground.work / "sub"))
    assert f"{ground.work}/sub/policies.toml" in walls(inner)
    (ground.work / "policies.toml").write_text("version = 1\n")
    assert walls(ground.filesystem(body))[f"{ground.work}/policies.toml"].kind == "file"
    # What the agent can only read it cannot make.
    (ground.work / "policies.toml").unlink()
    assert walls(ground.filesystem("read = ['{workdir}']")) == {}


def test_the_file_of_a_credential_is_denied(ground: Ground) -> None:
    (ground.home / "key").write_text("secret")
    text = (
        "version = 1\n[policy.default]\nfilesystem.read = ['~']\n"
        "[credential.openai]\nfrom_file = '~/key'\n"
    )
    policy = ground.load(text)
    assert permits(policy, f"{ground.home}/key") is None
    assert permits(policy, f"{ground.home}/other") == "read"
    told = ground.refused(text.replace("['~']", "['~/key']"))
    assert "is the file of a credential" in told


def test_walls_come_last(ground: Ground) -> None:
    (ground.work / ".env").write_text("")
    policy = ground.filesystem("write = ['~', '{workdir}']\ndeny = ['**/.env']")
    accesses = [(rule.access, rule.origin == WALLS) for rule in policy.filesystem.rules]
    assert accesses == sorted(accesses, key=lambda each: (each[0] == "deny", each[1]))
    assert accesses[-1] == ("deny", True)


def test_no_policy_can_grant_a_wall_back(ground: Ground) -> None:
    policy = ground.filesystem("read = ['~']\nwrite = ['~/.config']")
    assert permits(policy, f"{ground.home}/.config/x") == "write"
    assert permits(policy, f"{ground.context.config_dir}/x") is None


@pytest.mark.parametrize("name", ["CONFIG", "CACHE", "STATE"])
def test_the_directories_of_a_start_without_the_variables_are_denied_too(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The attack: an agent whose start kept them elsewhere writes the next start's default policy,
    plan, or note of what its user vouched for."""
    usual = {"CONFIG": ".config", "CACHE": ".cache", "STATE": ".local/state"}[name]
    monkeypatch.setenv("HOME", str(ground.home))
    monkeypatch.setenv(f"XDG_{name}_HOME", str(ground.root / "elsewhere"))
    policy = ground.filesystem("write = ['~']", private_paths=Context.at("/").private_paths)
    assert permits(policy, f"{ground.home}/{usual}/nemoclaw/x") is None
    assert permits(policy, f"{ground.home}/{usual}/other") == "write"
