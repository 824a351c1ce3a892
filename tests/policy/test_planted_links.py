"""The attack: an agent leaves a symbolic link where its policy names a path, and the next start
follows it out of the work directory."""

from __future__ import annotations

import os
from pathlib import Path

import attrs
import pytest
from nemoclaw_hookspecs import PolicyError

from nemoclaw_core import trust
from nemoclaw_core.observe import observe
from nemoclaw_core.policy import load_observed, permits

from .conftest import Ground, resolved
from .test_trust import view


@pytest.fixture
def secret(ground: Ground) -> Path:
    """A key in the user's home."""
    path = ground.home / ".ssh/id_ed25519"
    path.parent.mkdir()
    path.write_text("the key")
    return path


def test_the_link_would_lead_to_the_key(ground: Ground, secret: Path) -> None:
    (ground.work / "data").symlink_to(secret.parent)
    assert (ground.work / "data" / secret.name).read_text() == "the key"


@pytest.mark.parametrize(
    "body",
    [
        "write = ['{workdir}', '{workdir}/data']",
        "write = ['{workdir}/data', '{workdir}']",
        "read = ['{workdir}/data']\nwrite = ['{workdir}']",
        "read = ['{workdir}/data/id_ed25519']\nwrite = ['{workdir}']",
        "read = ['{workdir}/data?']\nwrite = ['{workdir}']",
        "read = ['{workdir}/da*']\nwrite = ['{workdir}']",
        "read = ['{workdir}/data/*']\nwrite = ['{workdir}']",
        "read = ['{workdir}/data/**']",
        "write = ['{workdir}/data']",
        "read = ['{workdir}']\nwrite = ['{workdir}/data']",
        "compatibility = 'best-effort'\nwrite = ['{workdir}', 'data']",
    ],
)
def test_a_planted_link_is_not_followed(ground: Ground, secret: Path, body: str) -> None:
    (ground.work / "data").symlink_to(secret.parent)
    told = ground.refused_filesystem(body)
    assert f"{ground.work}/data is a symbolic link in a place that the agent can write" in told
    assert "could have been planted" in told


def test_without_the_link_the_same_policies_are_accepted(ground: Ground, secret: Path) -> None:
    (ground.work / "data").mkdir()
    policy = ground.filesystem("write = ['{workdir}', '{workdir}/data']")
    assert permits(policy, f"{ground.work}/data") == "write"
    assert permits(policy, str(secret)) is None


def test_a_link_planted_deeper_or_behind_another_is_not_followed(
    ground: Ground, secret: Path
) -> None:
    (ground.work / "a").mkdir()
    (ground.work / "a/b").symlink_to(secret.parent)
    (ground.root / "outside").symlink_to(ground.work / "a")
    told = ground.refused_filesystem(f"read = ['{ground.root}/outside/b']\nwrite = ['{{workdir}}']")
    assert f"{ground.work}/a/b is a symbolic link in a place" in told


def test_a_link_in_any_written_tree_counts_not_only_in_the_work_directory(
    ground: Ground, secret: Path
) -> None:
    (ground.root / "cache").mkdir()
    (ground.root / "cache/x").symlink_to(secret.parent)
    told = ground.refused_filesystem(
        f"read = ['{ground.root}/cache/x']\nwrite = ['{ground.root}/cache']"
    )
    assert "could have been planted" in told


def test_a_link_in_a_shared_tmp_is_not_followed(ground: Ground, secret: Path) -> None:
    link = Path(f"/tmp/nemoclaw-test-{os.getpid()}")
    link.symlink_to(secret.parent)
    try:
        body = f"read = ['{link}']\ntmp = "
        assert "could have been planted" in ground.refused_filesystem(body + "'shared'")
        assert permits(ground.filesystem(body + "'private'"), str(secret)) == "read"
    finally:
        link.unlink()


def test_a_link_of_another_user_is_not_followed(ground: Ground, secret: Path) -> None:
    link = ground.root / "theirs"
    link.symlink_to(secret.parent)
    body = f"read = ['{link}']"
    assert permits(ground.filesystem(body), str(secret)) == "read"
    if os.geteuid() == 0:
        os.lchown(link, 4321, 4321)
        told = ground.refused_filesystem(body)
    else:
        # As another user sees it; a policy file of one's own cannot be written for them.
        context = attrs.evolve(ground.context, uid=os.geteuid() + 1)
        with pytest.raises(PolicyError) as caught:
            resolved(f"version = 1\n[policy.default.filesystem]\n{body}\n", context)
        told = str(caught.value)
    assert f"{link} is a symbolic link of user" in told


def test_a_denied_link_is_denied_itself_and_where_it_leads(ground: Ground) -> None:
    (ground.work / "shared.env").write_text("")
    (ground.work / "app").mkdir()
    (ground.work / "app/.env").symlink_to("../shared.env")
    (ground.work / "dangling").symlink_to("made/later")
    policy = ground.filesystem("write = ['{workdir}']\ndeny = ['**/.env', 'dangling']")
    denied = {rule.path: rule.kind for rule in policy.filesystem.rules if rule.access == "deny"}
    assert denied[f"{ground.work}/app/.env"] == "file"
    assert denied[f"{ground.work}/shared.env"] == "file"
    assert denied[f"{ground.work}/dangling"] == "file"
    assert denied[f"{ground.work}/made/later"] == "missing"
    assert policy.filesystem.links == ()


def test_a_denial_through_a_link_that_the_agent_can_replace_is_refused(ground: Ground) -> None:
    (ground.root / "gits/hooks").mkdir(parents=True)
    (ground.work / ".git").symlink_to(ground.root / "gits")
    told = ground.refused_filesystem("write = ['{workdir}']\ndeny = ['.git/hooks']")
    assert "cannot be kept from the agent" in told
    assert f"{ground.work}/.git, a symbolic link that the agent can replace" in told
    # Where the agent cannot write, the link stays what it is.
    policy = ground.filesystem(
        f"read = ['{{workdir}}', '{ground.root}/gits']\ndeny = ['.git/hooks']"
    )
    assert permits(policy, f"{ground.root}/gits/hooks/x") is None


def test_a_planted_link_cannot_turn_a_denial_into_a_grant(ground: Ground, secret: Path) -> None:
    (ground.work / ".env").symlink_to(secret)
    policy = ground.filesystem("write = ['{workdir}']\ndeny = ['**/.env']")
    assert permits(policy, str(secret)) is None
    assert permits(policy, f"{ground.work}/.env") is None


@pytest.mark.parametrize("target", ["/", "/usr/lib", "{work}/..", "inner"])
def test_a_planted_link_does_not_choose_what_the_next_start_hides(
    ground: Ground, target: str
) -> None:
    """The attack: `ln -s / .env`, or a chain of links, so that nothing is left to run."""
    (ground.work / "inner").symlink_to("/usr/bin")
    (ground.work / ".env").symlink_to(target.format(work=ground.work))
    policy = ground.filesystem("read = ['/usr']\nwrite = ['{workdir}']\ndeny = ['**/.env']")
    assert permits(policy, "/usr/bin/env") == "read"
    assert permits(policy, f"{ground.work}/x") == "write"
    assert permits(policy, f"{ground.work}/.env") is None
    told = "\n".join(policy.filesystem.notes)
    assert f"{ground.work}/.env" in told
    assert "by its name" in told


@pytest.mark.parametrize("target", ["/", "/usr", "{work}/..", "{work}", "inner"])
def test_nor_where_the_denied_path_is_written_down(ground: Ground, target: str) -> None:
    """The attack: `ln -s /usr .git/hooks`, for the next start with the policy that ships."""
    (ground.work / ".git").mkdir()
    (ground.work / ".git/inner").symlink_to("/usr/bin")
    (ground.work / ".git/hooks").symlink_to(target.format(work=ground.work))
    policy = ground.filesystem("read = ['/usr']\nwrite = ['{workdir}']\ndeny = ['.git/hooks']")
    assert permits(policy, "/usr/bin/env") == "read"
    assert permits(policy, f"{ground.work}/x") == "write"
    assert permits(policy, f"{ground.work}/.git/hooks") is None
    assert "by its name" in "\n".join(policy.filesystem.notes)


def test_a_denied_path_where_the_agent_cannot_write_is_denied_where_it_leads(
    ground: Ground,
) -> None:
    (ground.root / "outside").write_text("")
    (ground.work / "secret").symlink_to(ground.root / "outside")
    body = f"read = ['{ground.root}/outside', '{{workdir}}']\ndeny = ['secret']"
    policy = ground.filesystem(body)
    assert permits(policy, f"{ground.root}/outside") is None


@pytest.mark.parametrize(
    "body",
    [
        "read = ['{data}']",
        "write = ['{data}']",
        "read = ['{data}/id_ed25519']",
        "read = ['{data}?']",
        "read = ['{before}/*']",
        "read = ['{root}/**/data']",
        "compatibility = 'best-effort'\nwrite = ['{data}']",
    ],
)
def test_a_link_that_an_agent_planted_elsewhere_is_not_followed(
    ground: Ground, secret: Path, body: str
) -> None:
    """The attack: it is planted in one work directory, for the policy of another one."""
    before = ground.root / "before"
    before.mkdir()
    (before / "data").symlink_to(secret.parent)
    body = body.format(before=before, data=before / "data", root=ground.root)
    assert permits(ground.filesystem(body), str(secret)) is not None, "it works before"
    trust.record_writable(view(before))
    told = ground.refused_filesystem(body)
    assert f"{before}/data is a symbolic link in a place that an earlier agent could write" in told
    assert f"write {secret.parent}" in told


def test_a_cached_plan_that_follows_it_is_used_no_more(ground: Ground, secret: Path) -> None:
    before = ground.root / "before"
    before.mkdir()
    (before / "data").symlink_to(secret.parent)
    path = ground.write(f"version = 1\n[policy.default.filesystem]\nread = ['{before}/data']\n")
    _, observations = load_observed(str(path), ground.context)
    trust.record_writable(view(ground.work))
    assert all(observe(each, what) == value for each, what, value in observations)
    trust.record_writable(view(before))
    assert any(observe(each, what) != value for each, what, value in observations)


def test_a_fifo_in_a_directorys_place_is_covered(ground: Ground) -> None:
    """The attack: `mkfifo .git`, so that the next start stops at it."""
    os.mkfifo(ground.work / ".git")
    policy = ground.filesystem("write = ['{workdir}']\ndeny = ['.git/hooks']")
    denied = {rule.path: rule.kind for rule in policy.filesystem.rules if rule.access == "deny"}
    assert denied[f"{ground.work}/.git"] == "file"
    told = ground.refused_filesystem("write = ['{workdir}', '.git']")
    assert "named pipe" in told
    policy = ground.filesystem("write = ['{workdir}']\nread = ['.g*']")
    assert permits(policy, f"{ground.work}/.git") == "write"
