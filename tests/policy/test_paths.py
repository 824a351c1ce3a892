"""Claims about paths: variables, patterns, what is missing, links, and which rules come of it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from nemoclaw_hookspecs import Link, PathRule, Policy

from nemoclaw_core.policy import permits

from .conftest import Ground


def rules(policy: Policy, access: str) -> dict[str, PathRule]:
    return {rule.path: rule for rule in policy.filesystem.rules if rule.access == access}


def test_variables_and_relative_paths_are_filled_in(ground: Ground) -> None:
    for name in ("work/a", "work/b", "home/c", "home/d", "work/~x"):
        (ground.root / name).mkdir()
    policy = ground.filesystem("read = ['{workdir}/a', './/b/.', '{home}/c/', '~/d', './~x']")
    assert set(rules(policy, "read")) == {
        f"{ground.work}/a",
        f"{ground.work}/b",
        f"{ground.home}/c",
        f"{ground.home}/d",
        f"{ground.work}/~x",
    }
    policy = ground.filesystem("read = ['~']\nwrite = ['{workdir}']")
    assert set(rules(policy, "read")) == {str(ground.home)}
    assert set(rules(policy, "write")) == {str(ground.work)}


def test_a_rule_says_what_is_there_whose_it_is_and_which_line_says_so(ground: Ground) -> None:
    (ground.work / "file").write_text("")
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(ground.work)
        server.bind("socket")
    policy = ground.filesystem("read = [\n '{workdir}/file',\n 'socket', '/dev/null', '/etc' ]")
    found = rules(policy, "read")
    kinds = {Path(path).name: rule.kind for path, rule in found.items()}
    assert kinds == {"file": "file", "socket": "socket", "null": "device", "etc": "directory"}
    rule = found[f"{ground.work}/file"]
    assert (rule.uid, rule.gid) == (os.geteuid(), os.stat(ground.work / "file").st_gid)
    assert rule.origin.line == 4
    assert rule.origin.key == "policy.default.filesystem.read[0]"


def test_a_missing_path_is_refused_in_strict_with_the_remedy(ground: Ground) -> None:
    told = ground.refused_filesystem("read = ['/etc']\nwrite = ['{workdir}/out']")
    assert "policies.toml:4 policy.default.filesystem.write[0]" in told
    assert f'"{{workdir}}/out" does not exist (it is {ground.work}/out)' in told
    assert 'create it, or write "{workdir}/out?" if it need not be there' in told


def test_a_file_in_the_place_of_a_directory_is_told(ground: Ground) -> None:
    (ground.work / "f").write_text("")
    told = ground.refused_filesystem("read = ['f/inner']")
    assert f"does not exist: {ground.work}/f is a file" in told


def test_a_missing_path_is_dropped_where_the_policy_allows_it(ground: Ground) -> None:
    assert rules(ground.filesystem("read = ['/nowhere?', '/etc?']"), "read").keys() == {"/etc"}
    text = "compatibility = 'best-effort'\nread = ['/nowhere']\nwrite = ['{workdir}']"
    policy = ground.filesystem(text)
    assert rules(policy, "read") == {}
    assert permits(policy, "/nowhere") is None


def test_patterns_stand_for_what_exists(ground: Ground) -> None:
    for name in ("src/a.py", "src/b.txt", "src/deep/c.py", ".env", "src/.env"):
        path = ground.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    policy = ground.filesystem(
        "read = ['src/*.py', '{workdir}/none/*']\nwrite = ['src/de*']\ndeny = ['**/.env']"
    )
    assert rules(policy, "read").keys() == {f"{ground.work}/src/a.py"}
    assert rules(policy, "write").keys() == {f"{ground.work}/src/deep"}
    policy = ground.filesystem("write = ['{workdir}']\ndeny = ['**/.env']")
    assert {f"{ground.work}/.env", f"{ground.work}/src/.env"} <= rules(policy, "deny").keys()


def test_a_star_in_the_name_of_the_work_directory_is_no_pattern(ground: Ground) -> None:
    odd = ground.root / "we*rd"
    odd.mkdir()
    (ground.root / "weird").mkdir()
    policy = ground.filesystem("write = ['{workdir}']", workdir=str(odd))
    assert rules(policy, "write").keys() == {str(odd)}
    told = ground.refused_filesystem("deny = ['**/.env']", workdir=str(odd))
    assert "itself holds a `*`" in told


def test_a_pattern_with_too_many_matches_is_refused(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        (ground.work / name).write_text("")
    monkeypatch.setattr("nemoclaw_core.policy.crowds.MOST", 2)
    assert "matches 3 paths" in ground.refused_filesystem("read = ['*']")


def test_links_on_the_way_are_followed_and_recorded(ground: Ground) -> None:
    (ground.root / "real/inner").mkdir(parents=True)
    (ground.root / "one").symlink_to("real")
    (ground.root / "two").symlink_to(f"{ground.root}/one/../one")
    policy = ground.filesystem(f"read = ['{ground.root}/two/inner']")
    assert rules(policy, "read").keys() == {f"{ground.root}/real/inner"}
    links = {(link.path, link.target) for link in policy.filesystem.links}
    assert links == {
        (f"{ground.root}/two", f"{ground.root}/one/../one"),
        (f"{ground.root}/one", "real"),
    }
    link: Link = policy.filesystem.links[0]
    assert link.origin.key == "policy.default.filesystem.read[0]"


def test_links_that_lead_in_a_circle_are_refused(ground: Ground) -> None:
    (ground.root / "a").symlink_to("b")
    (ground.root / "b").symlink_to("a")
    assert "lead in a circle" in ground.refused_filesystem(f"read = ['{ground.root}/a/x']")


def test_a_link_to_the_root_cannot_be_written(ground: Ground) -> None:
    (ground.root / "all").symlink_to("/")
    told = ground.refused_filesystem(f"write = ['{ground.root}/all']")
    assert "is the root directory: everything would be writable" in told


def test_the_root_cannot_be_the_work_directory(ground: Ground) -> None:
    for workdir in ("/", "//", "/etc/.."):
        told = ground.refused_filesystem("read = ['/etc']", workdir=workdir)
        assert "the work directory cannot be the root directory" in told
    told = ground.refused_filesystem("", workdir=str(ground.root / "none"))
    assert "is not a directory" in told


def test_the_work_directory_is_no_link(ground: Ground) -> None:
    """It was found without one: one that is there now was put there since."""
    (ground.root / "all").symlink_to("/")
    told = ground.refused_filesystem("read = ['/etc']", workdir=str(ground.root / "all"))
    assert "became a symbolic link while it was looked at" in told


def test_the_same_path_twice_is_one_rule_and_write_includes_read(ground: Ground) -> None:
    policy = ground.filesystem("read = ['{workdir}', '.', '/etc']\nwrite = ['./']")
    assert rules(policy, "read").keys() == {"/etc"}
    assert rules(policy, "write").keys() == {str(ground.work)}


def test_a_rule_that_repeats_the_one_above_it_is_left_out(ground: Ground) -> None:
    for name in ("a/b", "a/c/d"):
        (ground.work / name).mkdir(parents=True)
    policy = ground.filesystem(
        "read = ['/etc', '/etc/ssl?', 'a', 'a/c/d']\nwrite = ['.', 'a/c']\ndeny = ['a/b', 'a/b/x']"
    )
    assert rules(policy, "read").keys() == {"/etc", f"{ground.work}/a", f"{ground.work}/a/c/d"}
    assert rules(policy, "write").keys() == {str(ground.work), f"{ground.work}/a/c"}
    assert f"{ground.work}/a/b/x" not in rules(policy, "deny")
    assert permits(policy, f"{ground.work}/a/c/x") == "write"
    assert permits(policy, f"{ground.work}/a/c/d") == "read"
    assert permits(policy, f"{ground.work}/a/b/x") is None


def test_a_missing_denied_path_is_kept_only_where_it_could_be_created(ground: Ground) -> None:
    (ground.work / "island").mkdir()
    policy = ground.filesystem(
        "read = ['/etc', 'island']\nwrite = ['.']\n"
        "deny = ['.git/hooks', '/etc/none', 'island/none', '/nowhere/x']"
    )
    denied = rules(policy, "deny")
    kept = denied[f"{ground.work}/.git/hooks"]
    assert (kept.kind, kept.uid, kept.gid) == ("missing", -1, -1)
    assert not {"/etc/none", f"{ground.work}/island/none", "/nowhere/x"} & denied.keys()


def test_a_file_where_a_denied_path_needs_a_directory_is_held_in_place(ground: Ground) -> None:
    """A git worktree has a file ``.git``: an agent that replaced it by a directory could make the
    hooks that the policy denies."""
    (ground.work / ".git").write_text("gitdir: elsewhere\n")
    policy = ground.filesystem("write = ['.']\ndeny = ['.git/hooks']")
    assert rules(policy, "read")[f"{ground.work}/.git"].kind == "file"
    assert permits(policy, f"{ground.work}/.git") == "read"
    assert permits(policy, f"{ground.work}/x") == "write"
    assert f"{ground.work}/.git/hooks" not in rules(policy, "deny")


def test_deny_wins_over_what_is_granted_below_it(ground: Ground) -> None:
    (ground.work / "a/b").mkdir(parents=True)
    policy = ground.filesystem("read = ['/etc', 'a/b']\nwrite = ['a']\ndeny = ['.']")
    assert rules(policy, "read").keys() == {"/etc"}
    assert rules(policy, "write") == {}
    assert permits(policy, f"{ground.work}/a/b") is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root may search every directory")
def test_what_cannot_be_looked_at_is_refused_or_denied_whole(ground: Ground) -> None:
    (ground.work / "closed/inner").mkdir(parents=True)
    (ground.work / "closed").chmod(0)
    try:
        told = ground.refused_filesystem("read = ['closed/inner']")
        assert "cannot be looked at: permission denied" in told
        for deny in ("closed/inner", "**/inner"):
            policy = ground.filesystem(f"write = ['.']\ndeny = ['{deny}']")
            assert f"{ground.work}/closed" in rules(policy, "deny")
    finally:
        (ground.work / "closed").chmod(0o755)
