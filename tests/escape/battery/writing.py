"""Files: changing contents, names and metadata outside the writable part of the policy."""

from __future__ import annotations

import os

from .registry import attempt
from .stage import Stage, append, opened, set_flags


@attempt("files", effect="changed {target}")
def write_neighbour(stage: Stage) -> str:
    """Write to a file of the same user outside the work directory."""
    return append(stage.target)


@attempt("files", effect="changed {home}/.bashrc")
def write_bashrc(stage: Stage) -> str:
    """Append a command to ~/.bashrc."""
    return append(f"{stage.home}/.bashrc")


@attempt("files", effect="changed {home}/{name}")
def create_in_home(stage: Stage) -> str:
    """Create a file in the home directory."""
    return append(f"{stage.home}/{stage.name}")


@attempt("files", effect="changed {home}/.config/autostart")
def create_autostart(stage: Stage) -> str:
    """Plant a program that the user's desktop would start."""
    os.makedirs(f"{stage.home}/.config/autostart", exist_ok=True)
    return append(f"{stage.home}/.config/autostart/{stage.name}.desktop")


@attempt("files", effect="changed {target}")
def write_by_old_link(stage: Stage) -> str:
    """Write through a symbolic link that lay in the work directory before."""
    return append(f"{stage.work}/links/{stage.name}")


@attempt("files", effect="changed {target}")
def truncate_outside(stage: Stage) -> str:
    """Empty a file outside."""
    os.truncate(stage.target, 0)
    return "emptied it"


@attempt("files", effect="changed {target}")
def unlink_outside(stage: Stage) -> str:
    """Remove a file outside."""
    os.unlink(stage.target)
    return "removed it"


@attempt("files", effect="changed {target}")
def rename_outside(stage: Stage) -> str:
    """Rename a file outside."""
    os.rename(stage.target, f"{stage.target}-moved")
    return "renamed it"


@attempt("files", effect="changed {target}")
def replace_outside(stage: Stage) -> str:
    """Move a file of the work directory over one outside."""
    append(f"{stage.work}/{stage.name}")
    os.rename(f"{stage.work}/{stage.name}", stage.target)
    return "replaced it"


@attempt("files", effect="changed {home}/targets/{name}/made")
def make_directory_outside(stage: Stage) -> str:
    """Make a directory outside."""
    os.mkdir(f"{stage.directory}/made")
    return "made one"


@attempt("files", effect="changed {home}/targets/{name}/made")
def make_link_outside(stage: Stage) -> str:
    """Make a symbolic link outside."""
    os.symlink("/nowhere", f"{stage.directory}/made")
    return "made one"


@attempt("files", effect="changed {home}/targets/{name}/made")
def make_hard_link_outside(stage: Stage) -> str:
    """Give a file of the work directory a second name outside."""
    append(f"{stage.work}/{stage.name}")
    os.link(f"{stage.work}/{stage.name}", f"{stage.directory}/made")
    return "made one"


@attempt("files", effect="changed {target}")
def change_mode_outside(stage: Stage) -> str:
    """Open a private file outside to everybody."""
    os.chmod(stage.target, 0o777)
    return "changed its mode"


@attempt("files", effect="changed {target}")
def change_owner_outside(stage: Stage) -> str:
    """Set owner and group of a file outside."""
    os.chown(stage.target, os.getuid(), os.getgid())
    return "set its owner"


@attempt("files", effect="changed {target}")
def change_times_outside(stage: Stage) -> str:
    """Set the times of a file outside."""
    os.utime(stage.target, (1, 1))
    return "set its times"


@attempt("files", effect="changed {target}")
def set_attribute_outside(stage: Stage) -> str:
    """Set an extended attribute of a file outside."""
    os.setxattr(stage.target, "user.planted", b"1")
    return "set one"


@attempt("files", effect="changed {target}")
def set_flags_outside(stage: Stage) -> str:
    """Set an inode flag of a file outside."""
    return set_flags(stage.target)


@attempt("files", effect="changed {target}")
def write_by_inherited_directory(stage: Stage) -> str:
    """Write relative to an inherited directory descriptor."""
    leaked = stage.fact("leaked")["directory"]
    path = f"../targets/{stage.name}/file"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND, dir_fd=leaked)
    os.write(descriptor, b"planted\n")
    return "wrote"


@attempt("files", effect="changed {target}", stdin="file")
def reopen_standard_input(stage: Stage) -> str:
    """Open standard input, a file given for reading only, again for writing."""
    return append("/proc/self/fd/0")


@attempt("files", effect="changed {target}", stdin="file")
def change_mode_of_standard_input(stage: Stage) -> str:
    """Change the mode of the file that is standard input."""
    os.fchmod(0, 0o777)
    return "changed its mode"


@attempt("files")
def write_fifo_outside(stage: Stage) -> str:
    """Send to a host process through a FIFO in the home directory."""
    return opened(stage.path("fifo"), os.O_WRONLY)


@attempt("files", effect="changed /tmp/{base_name}-{name}")
def create_in_host_tmp(stage: Stage) -> str:
    """Create a file in the host's /tmp."""
    return append(f"/tmp/{os.path.basename(stage.base)}-{stage.name}")


@attempt("files", effect="changed /dev/shm/{base_name}-{name}")
def create_in_host_shm(stage: Stage) -> str:
    """Create a file in the host's /dev/shm."""
    return append(f"/dev/shm/{os.path.basename(stage.base)}-{stage.name}")


@attempt("files", needs="root")
def write_usr(stage: Stage) -> str:
    """Open a program in /usr/bin for writing."""
    return opened("/usr/bin/env", os.O_WRONLY)


@attempt("files", needs="root")
def write_etc(stage: Stage) -> str:
    """Open /etc/passwd for writing."""
    return opened("/etc/passwd", os.O_WRONLY)
