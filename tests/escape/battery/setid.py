"""Files: leaving a set-user-id program in the work directory for somebody else to run."""

from __future__ import annotations

import ctypes
import os
import stat
import struct

from .registry import attempt
from .stage import Stage, append
from .system import AT_FDCWD, MACHINE, call, syscall

_LEFT = "setid {work}/{name}"


def _file(stage: Stage) -> str:
    append(f"{stage.work}/{stage.name}", "#!/bin/sh\n")
    return f"{stage.work}/{stage.name}"


@attempt("files", effect=_LEFT)
def setuid_by_chmod(stage: Stage) -> str:
    """Set the set-user-id bit with chmod."""
    os.chmod(_file(stage), 0o4755)
    return "chmod"


@attempt("files", effect=_LEFT)
def setgid_by_chmod(stage: Stage) -> str:
    """Set the set-group-id bit with chmod."""
    os.chmod(_file(stage), 0o2755)
    return "chmod"


@attempt("files", effect=_LEFT)
def setuid_by_fchmod(stage: Stage) -> str:
    """Set the set-user-id bit with fchmod."""
    os.fchmod(os.open(_file(stage), os.O_RDONLY), 0o4755)
    return "fchmod"


@attempt("files", effect=_LEFT)
def setuid_by_fchmodat(stage: Stage) -> str:
    """Set the set-user-id bit with fchmodat."""
    call("fchmodat", AT_FDCWD, _file(stage).encode(), 0o4755, 0)
    return "fchmodat"


@attempt("files", effect=_LEFT)
def setuid_by_fchmodat2(stage: Stage) -> str:
    """Set the set-user-id bit with fchmodat2."""
    syscall("fchmodat2", AT_FDCWD, _file(stage).encode(), 0o4755, 0)
    return "fchmodat2"


@attempt("files", effect=_LEFT)
def setuid_by_proc_descriptor(stage: Stage) -> str:
    """Set the set-user-id bit by way of /proc/self/fd."""
    os.chmod(f"/proc/self/fd/{os.open(_file(stage), os.O_RDONLY)}", 0o4755)
    return "chmod"


@attempt("files", effect=_LEFT)
def setuid_by_open(stage: Stage) -> str:
    """Create a file with the set-user-id bit with openat."""
    os.open(f"{stage.work}/{stage.name}", os.O_CREAT | os.O_WRONLY, 0o4755)
    return "openat"


@attempt("files", effect=_LEFT)
def setuid_by_openat2(stage: Stage) -> str:
    """Create a file with the set-user-id bit with openat2, whose mode is behind a pointer."""
    how = struct.pack("QQQ", os.O_CREAT | os.O_WRONLY, 0o4755, 0)
    syscall("openat2", AT_FDCWD, f"{stage.work}/{stage.name}".encode(), how, len(how))
    return "openat2"


@attempt("files", effect=_LEFT)
def setuid_by_creat(stage: Stage) -> str:
    """Create a file with the set-user-id bit with creat."""
    call("creat", f"{stage.work}/{stage.name}".encode(), 0o4755)
    return "creat"


@attempt("files", effect=_LEFT)
def setuid_by_mknod(stage: Stage) -> str:
    """Create a file with the set-user-id bit with mknod."""
    os.mknod(f"{stage.work}/{stage.name}", stat.S_IFREG | 0o4755)
    return "mknod"


@attempt("files", effect=_LEFT)
def setuid_by_high_bits(stage: Stage) -> str:
    """Set the bit with a mode whose upper bits are set as well, to slip past a comparison."""
    call("chmod", _file(stage).encode(), ctypes.c_uint(0x7FFF0000 | 0o104755))
    return "chmod"


@attempt("files", effect=_LEFT)
def setuid_by_32_bit_call(stage: Stage) -> str:
    """Set the bit through the 32-bit system call table."""
    from .calls import call32  # a module of machine code, needed for this one alone

    return f"chmod by int 0x80 on {MACHINE}: {call32(15, _file(stage).encode(), 0o4755)}"


@attempt("files", effect=_LEFT)
def setgid_by_directory(stage: Stage) -> str:
    """Make a set-group-id directory."""
    os.mkdir(f"{stage.work}/{stage.name}")
    os.chmod(f"{stage.work}/{stage.name}", 0o2755)
    return "chmod"


@attempt("files", effect=_LEFT, alone=True)
def setuid_by_copy(stage: Stage) -> str:
    """Copy a set-user-id program and keep its mode, as cp and tar do."""
    from shutil import copy2

    copy2("/usr/bin/passwd", f"{stage.work}/{stage.name}")
    os.chmod(f"{stage.work}/{stage.name}", 0o6755)
    return "copy2"
