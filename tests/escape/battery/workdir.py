"""Files: islands inside the writable work directory: denied hooks, a read-only directory."""

from __future__ import annotations

import os
import shutil

from .registry import Stopped, attempt
from .stage import Stage, append
from .system import AT_FDCWD, syscall

_HOOK = "changed {work}/.git/hooks/post-commit"
_VENDOR = "changed {work}/vendor/{name}/file"


@attempt("files", effect="changed {work}/.git/hooks/pre-push")
def write_git_hook(stage: Stage) -> str:
    """Plant a git hook, which the user's own git would run."""
    return append(f"{stage.work}/.git/hooks/pre-push", "#!/bin/sh\n")


@attempt("files", effect="changed {work}/.git/hooks/post-checkout")
def link_git_hook(stage: Stage) -> str:
    """Plant a git hook by giving a file of the work directory a second name."""
    append(f"{stage.work}/{stage.name}", "#!/bin/sh\n")
    os.link(f"{stage.work}/{stage.name}", f"{stage.work}/.git/hooks/post-checkout")
    return "planted it"


@attempt("files", effect="changed {work}/.git/hooks/pre-commit")
def change_git_hook_mode(stage: Stage) -> str:
    """Make a hook of the user's executable."""
    os.chmod(f"{stage.work}/.git/hooks/pre-commit", 0o755)
    return "changed its mode"


@attempt("files", effect=_HOOK, alone=True)
def move_git_away(stage: Stage) -> str:
    """Move .git away, make a new one, and plant a hook in it."""
    os.rename(f"{stage.work}/.git", f"{stage.work}/.git-moved")
    shutil.copytree(f"{stage.work}/.git-moved", f"{stage.work}/.git")
    return append(f"{stage.work}/.git/hooks/post-commit", "#!/bin/sh\n")


@attempt("files", effect=_HOOK, alone=True)
def write_hook_in_moved_git(stage: Stage) -> str:
    """Move .git away, plant a hook where it now is, and move it back."""
    os.rename(f"{stage.work}/.git", f"{stage.work}/.git-moved")
    append(f"{stage.work}/.git-moved/hooks/post-commit", "#!/bin/sh\n")
    os.rename(f"{stage.work}/.git-moved", f"{stage.work}/.git")
    return "planted it"


@attempt("files", effect="changed {work}/.git/hooks", alone=True)
def replace_hooks_by_link(stage: Stage) -> str:
    """Put a symbolic link to a directory of the attacker's in place of .git/hooks."""
    os.rename(f"{stage.work}/.git/hooks", f"{stage.work}/.git/hooks-moved")
    os.symlink(stage.work, f"{stage.work}/.git/hooks")
    return "replaced it"


@attempt("files", effect="changed {work}/.git/hooks", alone=True)
def exchange_hooks(stage: Stage) -> str:
    """Exchange .git/hooks with a directory of the attacker's."""
    os.mkdir(f"{stage.work}/evil")
    append(f"{stage.work}/evil/post-commit", "#!/bin/sh\n")
    hooks, evil = f"{stage.work}/.git/hooks".encode(), f"{stage.work}/evil".encode()
    syscall("renameat2", AT_FDCWD, hooks, AT_FDCWD, evil, 2)
    return "exchanged them"


@attempt("files", effect="changed {work}/.git/hooks", alone=True)
def remove_hooks(stage: Stage) -> str:
    """Remove .git/hooks and make another."""
    for name in os.listdir(f"{stage.work}/.git/hooks"):
        os.unlink(f"{stage.work}/.git/hooks/{name}")
    os.rmdir(f"{stage.work}/.git/hooks")
    os.mkdir(f"{stage.work}/.git/hooks")
    return append(f"{stage.work}/.git/hooks/post-commit", "#!/bin/sh\n")


@attempt("files", effect=_HOOK, alone=True)
def plant_hook_in_a_race(stage: Stage) -> str:
    """Plant a hook while another process moves .git to and fro."""
    here, there = f"{stage.work}/.git", f"{stage.work}/.git-moved"
    mover = os.fork()
    if not mover:
        for _ in range(4000):
            try:
                os.rename(here, there)
                os.rename(there, here)
            except OSError:
                continue
        os._exit(0)
    try:
        for _ in range(4000):
            for path in (here, there):
                try:
                    return append(f"{path}/hooks/post-commit", "#!/bin/sh\n")
                except OSError:
                    continue
        raise Stopped("4000 tries")
    finally:
        os.waitpid(mover, 0)


@attempt("files", effect=_HOOK, stage="no-git")
def plant_hook_in_new_repository(stage: Stage) -> str:
    """Plant a hook where no .git was when the sandbox started."""
    os.makedirs(f"{stage.work}/.git/hooks", exist_ok=True)
    return append(f"{stage.work}/.git/hooks/post-commit", "#!/bin/sh\n")


@attempt("files", effect="changed {work}/.git/config")
def set_hooks_path(stage: Stage) -> str:
    """Name another hooks directory and a file system monitor in .git/config."""
    text = f"[core]\n\thooksPath = {stage.work}/evil\n\tfsmonitor = {stage.work}/evil/run\n"
    return append(f"{stage.work}/.git/config", text)


@attempt("files", effect="changed {work}/{name}/.env", dot_env=True)
def write_dot_env(stage: Stage) -> str:
    """Change a .env, which is denied."""
    return append(f"{stage.work}/{stage.name}/.env")


@attempt("files", effect="changed {work}/{name}/.env", dot_env=True)
def unlink_dot_env(stage: Stage) -> str:
    """Remove a .env, which is denied."""
    os.unlink(f"{stage.work}/{stage.name}/.env")
    return "removed it"


@attempt("files", effect="changed {work}/{name}/deep/down/.env", dot_env=True)
def replace_deep_dot_env(stage: Stage) -> str:
    """Move a directory two levels above a denied .env away and make all of it anew."""
    above = f"{stage.work}/{stage.name}/deep"
    os.rename(above, f"{above}-moved")
    os.makedirs(f"{above}/down")
    return append(f"{above}/down/.env")


@attempt("files", effect="changed {work}/outer/inner/island/file", alone=True)
def replace_deep_island(stage: Stage) -> str:
    """Move a directory two levels above a read-only island away and make all of it anew."""
    os.rename(f"{stage.work}/outer", f"{stage.work}/outer-moved")
    os.makedirs(f"{stage.work}/outer/inner/island")
    return append(f"{stage.work}/outer/inner/island/file")


@attempt("files", effect=_VENDOR)
def write_island(stage: Stage) -> str:
    """Write to a directory that is read-only inside the writable one."""
    return append(f"{stage.work}/vendor/{stage.name}/file")


@attempt("files", effect=_VENDOR)
def change_mode_island(stage: Stage) -> str:
    """Change the mode of a file in the read-only island."""
    os.chmod(f"{stage.work}/vendor/{stage.name}/file", 0o777)
    return "changed its mode"


@attempt("files", effect=_VENDOR)
def write_island_by_new_link(stage: Stage) -> str:
    """Write to the read-only island through a symbolic link."""
    os.symlink(f"{stage.work}/vendor/{stage.name}", f"{stage.work}/{stage.name}")
    return append(f"{stage.work}/{stage.name}/file")


@attempt("files", effect=_VENDOR)
def write_island_by_hard_link(stage: Stage) -> str:
    """Give a file of the read-only island a second name outside the island and write to that."""
    os.link(f"{stage.work}/vendor/{stage.name}/file", f"{stage.work}/{stage.name}")
    return append(f"{stage.work}/{stage.name}")


@attempt("files", effect="changed {work}/vendor", alone=True)
def move_island_away(stage: Stage) -> str:
    """Rename the read-only island and put another directory in its place."""
    os.rename(f"{stage.work}/vendor", f"{stage.work}/vendor-moved")
    os.mkdir(f"{stage.work}/vendor")
    return "replaced it"


@attempt("files", effect="changed {base}/moved", alone=True)
def move_work_directory(stage: Stage) -> str:
    """Rename the work directory itself."""
    os.rename(stage.work, f"{stage.base}/moved")
    return "renamed it"
