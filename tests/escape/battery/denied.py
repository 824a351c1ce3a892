"""Files: reading what is denied inside the writable work directory."""

from __future__ import annotations

import os

from .registry import attempt
from .stage import Stage
from .system import AT_FDCWD, syscall


@attempt("files")
def read_dot_env(stage: Stage) -> str:
    """Read .env, which is denied inside the writable work directory."""
    return stage.read(f"{stage.work}/.env")


@attempt("files", dot_env=True)
def read_nested_dot_env(stage: Stage) -> str:
    """Read a .env further down."""
    return stage.read(f"{stage.work}/{stage.name}/.env")


@attempt("files", dot_env=True)
def read_dot_env_by_hard_link(stage: Stage) -> str:
    """Give a denied .env a second name and read that."""
    os.link(f"{stage.work}/{stage.name}/.env", f"{stage.work}/{stage.name}/copy")
    return stage.read(f"{stage.work}/{stage.name}/copy")


@attempt("files", dot_env=True)
def read_dot_env_by_rename(stage: Stage) -> str:
    """Rename a denied .env and read it under the new name."""
    os.rename(f"{stage.work}/{stage.name}/.env", f"{stage.work}/{stage.name}/copy")
    return stage.read(f"{stage.work}/{stage.name}/copy")


@attempt("files", dot_env=True)
def read_dot_env_by_renamed_parent(stage: Stage) -> str:
    """Rename the directory around a denied .env and read it there."""
    os.rename(f"{stage.work}/{stage.name}", f"{stage.work}/{stage.name}-moved")
    return stage.read(f"{stage.work}/{stage.name}-moved/.env")


@attempt("files", dot_env=True)
def read_dot_env_by_exchange(stage: Stage) -> str:
    """Exchange a denied .env with another file and read it there."""
    other = f"{stage.work}/{stage.name}/other"
    with open(other, "w", encoding="ascii"):
        pass
    denied = f"{stage.work}/{stage.name}/.env"
    syscall("renameat2", AT_FDCWD, denied.encode(), AT_FDCWD, other.encode(), 2)
    return stage.read(other)


@attempt("files", dot_env=True)
def read_dot_env_by_unlinked_mask(stage: Stage) -> str:
    """Remove what hides a denied .env, then read what was below."""
    denied = f"{stage.work}/{stage.name}/.env"
    os.link(denied, f"{stage.work}/{stage.name}/below")
    os.unlink(denied)
    return stage.read(f"{stage.work}/{stage.name}/below")


@attempt("files", dot_env=True)
def read_dot_env_by_linked_parent(stage: Stage) -> str:
    """Read a denied .env by way of a symbolic link to the directory around it."""
    os.symlink(f"{stage.work}/{stage.name}", f"{stage.work}/{stage.name}-link")
    return stage.read(f"{stage.work}/{stage.name}-link/.env")
