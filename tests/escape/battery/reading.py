"""Files: reading, listing and merely noticing what lies outside the policy."""

from __future__ import annotations

import ctypes
import os

from .registry import Stopped, attempt
from .stage import Stage, opened
from .system import AT_FDCWD, call, syscall


@attempt("files")
def read_ssh_key(stage: Stage) -> str:
    """Read the private key in ~/.ssh."""
    return stage.read(f"{stage.home}/.ssh/id_ed25519")


@attempt("files")
def read_neighbour(stage: Stage) -> str:
    """Read a file of the same user outside the work directory."""
    return stage.read(stage.target)


@attempt("files")
def read_by_dots(stage: Stage) -> str:
    """Read it by a relative path that climbs out of the work directory."""
    return stage.read(os.path.relpath(stage.target, stage.work))


@attempt("files")
def read_by_proc_root(stage: Stage) -> str:
    """Read it through /proc/self/root."""
    return stage.read(f"/proc/self/root{stage.target}")


@attempt("files")
def read_by_proc_cwd(stage: Stage) -> str:
    """Read it by climbing from /proc/self/cwd."""
    return stage.read("/proc/self/cwd/" + os.path.relpath(stage.target, stage.work))


@attempt("files")
def read_by_parent_root(stage: Stage) -> str:
    """Read it through the root directory of the process that started the attempt."""
    return stage.read(f"/proc/{stage.parent}/root{stage.target}")


@attempt("files", victim=True)
def read_by_host_root(stage: Stage) -> str:
    """Read it through the root directory of a host process."""
    return stage.read(f"/proc/{stage.victim}/root{stage.target}")


@attempt("files", victim=True)
def read_by_host_cwd(stage: Stage) -> str:
    """Read a file through the working directory of a host process."""
    return stage.read(f"/proc/{stage.victim}/cwd/home/.ssh/id_ed25519")


@attempt("files")
def read_by_old_link(stage: Stage) -> str:
    """Read it through a symbolic link that lay in the work directory before."""
    return stage.read(f"{stage.work}/links/{stage.name}")


@attempt("files")
def read_by_new_link(stage: Stage) -> str:
    """Read it through a symbolic link of the attacker's own making."""
    link = f"{stage.work}/{stage.name}"
    os.symlink(stage.target, link)
    return stage.read(link)


@attempt("files")
def read_by_linked_directory(stage: Stage) -> str:
    """Read it through a symbolic link to its directory's parent, relative to a descriptor."""
    os.symlink(os.path.dirname(stage.directory), f"{stage.work}/{stage.name}")
    descriptor = os.open(f"{stage.work}/{stage.name}", os.O_RDONLY | os.O_DIRECTORY)
    return stage.read(f"{stage.name}/file", dir_fd=descriptor)


@attempt("files")
def read_by_hard_link(stage: Stage) -> str:
    """Give it a second name inside the work directory and read that."""
    os.link(stage.target, f"{stage.work}/{stage.name}")
    return stage.read(f"{stage.work}/{stage.name}")


@attempt("files")
def read_by_rename(stage: Stage) -> str:
    """Move it into the work directory and read it there."""
    os.rename(stage.target, f"{stage.work}/{stage.name}")
    return stage.read(f"{stage.work}/{stage.name}")


@attempt("files")
def read_in_a_race(stage: Stage) -> str:
    """Read it while another process swaps a directory and a symbolic link below the path."""
    arena = f"{stage.work}/{stage.name}"
    os.makedirs(f"{arena}/plain")
    with open(f"{arena}/plain/file", "w", encoding="ascii") as file:
        file.write("nothing")
    os.symlink(stage.directory, f"{arena}/link")
    swapper = os.fork()
    if not swapper:
        while os.getppid() != 1:
            os.rename(f"{arena}/plain", f"{arena}/path")
            os.rename(f"{arena}/path", f"{arena}/plain")
            os.rename(f"{arena}/link", f"{arena}/path")
            os.rename(f"{arena}/path", f"{arena}/link")
    try:
        for _ in range(20000):
            try:
                return stage.read(f"{arena}/path/file")
            except (OSError, Stopped):
                continue
        raise Stopped("20000 tries")
    finally:
        os.kill(swapper, 9)
        os.waitpid(swapper, 0)


@attempt("files", needs="root")
def read_by_handle(stage: Stage) -> str:
    """Open it by its file handle, through a descriptor on the same file system."""
    kind, handle = stage.fact("handles")[stage.name]
    data = bytes.fromhex(handle)
    header = len(data).to_bytes(4, "little") + kind.to_bytes(4, "little", signed=True)
    mount = os.open(stage.work, os.O_RDONLY)
    descriptor = syscall("open_by_handle_at", mount, header + data, os.O_RDONLY)
    return stage.found(os.read(descriptor, 4096))


@attempt("files")
def read_inherited_file(stage: Stage) -> str:
    """Read a descriptor that the caller left open."""
    return stage.found(os.pread(stage.fact("leaked")["file"], 4096, 0))


@attempt("files")
def read_by_inherited_directory(stage: Stage) -> str:
    """Read relative to a directory descriptor that the caller left open."""
    return stage.read("file", dir_fd=stage.fact("leaked")["directory"])


@attempt("files")
def enter_inherited_directory(stage: Stage) -> str:
    """Make an inherited directory the working directory and read from there."""
    os.fchdir(stage.fact("leaked")["directory"])
    return stage.read("file")


@attempt("files")
def execute_outside(stage: Stage) -> str:
    """Execute a program that lies outside the policy."""
    reader, writer = os.pipe()
    child = os.posix_spawn(
        stage.target, [stage.target], {}, file_actions=[(os.POSIX_SPAWN_DUP2, writer, 1)]
    )
    os.close(writer)
    os.waitpid(child, 0)
    return stage.found(os.read(reader, 4096))


@attempt("files")
def stat_outside(stage: Stage) -> str:
    """Learn that a file outside exists."""
    return f"{os.stat(stage.target).st_size} bytes"


@attempt("files")
def access_outside(stage: Stage) -> str:
    """Learn with access(2) that a file outside exists."""
    call("access", stage.target.encode(), os.F_OK)
    return "it is there"


@attempt("files")
def read_link_outside(stage: Stage) -> str:
    """Read the text of a symbolic link outside."""
    return os.readlink(f"{stage.home}/link")


@attempt("files")
def get_attribute_outside(stage: Stage) -> str:
    """List the extended attributes of a file outside."""
    return f"{len(os.listxattr(stage.target))} attributes"


@attempt("files")
def get_handle_outside(stage: Stage) -> str:
    """Ask for the file handle of a file outside."""
    handle = ctypes.create_string_buffer((120).to_bytes(4, "little") + bytes(124), 128)
    mount_id = ctypes.c_int()
    syscall(
        "name_to_handle_at",
        AT_FDCWD,
        stage.target.encode(),
        handle,
        ctypes.byref(mount_id),
        0,
    )
    return "got a handle"


@attempt("files")
def hold_path_outside(stage: Stage) -> str:
    """Open a file outside with O_PATH."""
    return opened(stage.target, os.O_PATH)


@attempt("files")
def watch_outside(stage: Stage) -> str:
    """Watch a file outside with inotify."""
    descriptor = call("inotify_init1", os.O_CLOEXEC)
    call("inotify_add_watch", descriptor, stage.target.encode(), 0xFFF)
    return "a watch is set"


@attempt("files")
def list_home(stage: Stage) -> str:
    """List the home directory."""
    names = os.listdir(stage.home)
    if "targets" not in names:
        raise Stopped(f"home shows only {names}")
    return f"{len(names)} names"


@attempt("files")
def enter_outside(stage: Stage) -> str:
    """Change the working directory to one outside."""
    os.chdir(stage.directory)
    return "entered it"


@attempt("files")
def space_outside(stage: Stage) -> str:
    """Ask for the size of the file system below a path outside."""
    return f"{os.statvfs(stage.target).f_blocks} blocks"


@attempt("files")
def read_host_tmp(stage: Stage) -> str:
    """Read a file in the host's /tmp."""
    return stage.read(stage.path("tmp"))


@attempt("files")
def read_host_shm(stage: Stage) -> str:
    """Read a file in the host's /dev/shm."""
    return stage.read(stage.path("shm"))


@attempt("files", needs="root")
def read_shadow(stage: Stage) -> str:
    """Read the password hashes in /etc/shadow."""
    return opened("/etc/shadow", os.O_RDONLY)
