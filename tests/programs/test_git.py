"""git on a local repository: clone, commit, branch, merge, stash, gc."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..desks import Desk

SCRIPT = """set -eu
export GIT_AUTHOR_NAME=Agent GIT_AUTHOR_EMAIL=agent@example.org GIT_AUTHOR_DATE='@1000000000 +0000'
export GIT_COMMITTER_NAME=Agent GIT_COMMITTER_EMAIL=agent@example.org
export GIT_COMMITTER_DATE='@1000000000 +0000'
git init -q -b main origin
(cd origin && echo one > file && git add file && git commit -q -m first)
git clone -q origin copy
cd copy
git switch -q -c topic && echo two >> file && git commit -q -a -m second
git switch -q main && echo other > other && git add . && git commit -q -m third
git merge -q --no-edit topic
echo dirty >> other && git stash -q && git stash pop -q && git checkout -q other
git worktree add -q ../tree topic && git -C ../tree log --oneline | wc -l
git gc -q && git fsck --no-progress
git push -q origin topic
git log --format=%s --topo-order
git status --porcelain
git rev-parse HEAD
"""


def test_git_clones_commits_and_merges(desk: Desk) -> None:
    desk.needs("git")
    desk.write("script.sh", SCRIPT)
    out = desk.agree("bash", "script.sh")
    assert {"first", "second", "third", "Merge branch 'topic'"} <= set(out.splitlines())


def test_git_begins_a_repository_in_an_empty_folder(desk: Desk) -> None:
    desk.needs("git")
    out = desk.agree(
        "sh",
        "-c",
        "set -eu; git init -q -b main; echo one > file; git add -A; "
        "git -c user.name=Agent -c user.email=agent@example.org commit -q -m first; "
        "git log --format=%s; git status --porcelain; git clone -q . copy; cat copy/file",
    )
    assert out == "first\none\n"
    left = desk.folder("inside") / ".git"
    assert not (left / "hooks").exists()
    assert (left / "HEAD").exists()
    done = desk.run("outside", ["git", "-C", str(desk.folder("inside")), "fsck"])
    assert done.code == 0, f"what the agent left is not usable outside: {done.err}"


def test_git_works_in_a_repository_that_was_there_before(desk: Desk) -> None:
    desk.needs("git")
    for side in ("outside", "inside"):
        for command in (
            ["git", "init", "-q", "-b", "main"],
            ["git", "config", "user.name", "Agent"],
            ["git", "config", "user.email", "agent@example.org"],
        ):
            # Both repositories are made without walls, by the person whose project it is.
            folder = desk.folder(side)
            done = desk.run("outside", ["env", "-C", str(folder), *command])
            assert done.code == 0, done.err
    desk.write("README", "hello\n")
    desk.write(
        "script.sh",
        "set -eu\ngit add README\ngit commit -q -m 'from the agent'\ngit log --format='%an %s'\n",
    )
    assert desk.agree("sh", "script.sh") == "Agent from the agent\n"
    done = desk.run("outside", ["git", "-C", str(desk.folder("inside")), "fsck"])
    assert done.code == 0, f"what the agent left is not usable outside: {done.err}"
