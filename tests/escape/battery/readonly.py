"""Files: changing what is granted for reading alone.

It belongs to the attacker, who could do all of this outside, and Landlock has no right for most of
it.
"""

from __future__ import annotations

import ctypes
import os
import struct

from .registry import attempt
from .stage import Stage, append, first, set_flags
from .system import AT_FDCWD, call, syscall

_SHARED = "changed {home}/shared/{name}/file"


def _shared(stage: Stage) -> str:
    return f"{stage.home}/shared/{stage.name}/file"


@attempt("files", effect=_SHARED)
def write_read_only(stage: Stage) -> str:
    """Write to a file that is granted for reading."""
    return append(_shared(stage))


@attempt("files", effect=_SHARED)
def unlink_read_only(stage: Stage) -> str:
    """Remove a file that is granted for reading."""
    os.unlink(_shared(stage))
    return "removed it"


@attempt("files", effect=_SHARED)
def change_mode_read_only(stage: Stage) -> str:
    """Change the mode of a file that is granted for reading."""
    os.chmod(_shared(stage), 0o777)
    return "changed its mode"


@attempt("files", effect=_SHARED)
def change_mode_by_descriptor(stage: Stage) -> str:
    """Change the mode of a file that is granted for reading by its descriptor."""
    os.fchmod(os.open(_shared(stage), os.O_RDONLY), 0o777)
    return "changed its mode"


@attempt("files", effect=_SHARED)
def change_mode_by_fchmodat2(stage: Stage) -> str:
    """Change its mode with fchmodat2, which older filters do not know."""
    syscall("fchmodat2", AT_FDCWD, _shared(stage).encode(), 0o777, 0)
    return "changed its mode"


@attempt("files", effect=_SHARED)
def change_owner_read_only(stage: Stage) -> str:
    """Set owner and group of a file that is granted for reading."""
    os.chown(_shared(stage), os.getuid(), os.getgid())
    return "set its owner"


@attempt("files", effect=_SHARED)
def change_times_read_only(stage: Stage) -> str:
    """Set the times of a file that is granted for reading."""
    os.utime(_shared(stage), (1, 1))
    return "set its times"


@attempt("files", effect=_SHARED)
def set_attribute_read_only(stage: Stage) -> str:
    """Set an extended attribute of a file that is granted for reading."""
    os.setxattr(_shared(stage), "user.planted", b"1")
    return "set one"


@attempt("files", effect=_SHARED)
def set_attribute_by_setxattrat(stage: Stage) -> str:
    """Set one with setxattrat, which older filters do not know."""
    value = ctypes.create_string_buffer(b"1")
    arguments = struct.pack("QII", ctypes.addressof(value), 1, 0)
    path = _shared(stage).encode()
    syscall("setxattrat", AT_FDCWD, path, 0, b"user.planted", arguments, len(arguments))
    return "set one"


@attempt("files", effect=_SHARED)
def set_flags_read_only(stage: Stage) -> str:
    """Set an inode flag of a file that is granted for reading."""
    return set_flags(_shared(stage))


@attempt("files", effect=_SHARED)
def set_flags_by_file_setattr(stage: Stage) -> str:
    """Set an inode flag with file_setattr, which older filters do not know."""
    path = _shared(stage).encode()
    attributes = ctypes.create_string_buffer(24)
    syscall("file_getattr", AT_FDCWD, path, attributes, 24, 0)
    flags = struct.unpack_from("Q", attributes.raw)[0]
    struct.pack_into("Q", attributes, 0, flags ^ 0x80)
    syscall("file_setattr", AT_FDCWD, path, attributes, 24, 0)
    return "changed a flag"


@attempt("files", effect=_SHARED)
def truncate_read_only(stage: Stage) -> str:
    """Empty a file that is granted for reading, in two ways."""
    path = _shared(stage)
    return first(
        [
            ("truncate", lambda: os.truncate(path, 0)),
            ("O_TRUNC", lambda: os.open(path, os.O_RDONLY | os.O_TRUNC)),
        ]
    )


@attempt("files", effect=_SHARED)
def write_by_mapping(stage: Stage) -> str:
    """Write to a file that is granted for reading through a shared mapping."""
    descriptor = os.open(_shared(stage), os.O_RDWR)
    address = call("mmap", 0, 4096, 3, 1, descriptor, 0, restype=ctypes.c_ssize_t)
    ctypes.memmove(address, b"planted", 7)
    return "wrote to the mapping"


@attempt("files", effect=_SHARED)
def write_by_proc_descriptor(stage: Stage) -> str:
    """Open a read-only descriptor again for writing, through /proc/self/fd."""
    descriptor = os.open(_shared(stage), os.O_RDONLY)
    return append(f"/proc/self/fd/{descriptor}")


@attempt("files", effect=_SHARED)
def move_read_only_away(stage: Stage) -> str:
    """Rename the directory around a file that is granted for reading."""
    os.rename(f"{stage.home}/shared/{stage.name}", f"{stage.home}/shared/{stage.name}-moved")
    return "renamed it"
