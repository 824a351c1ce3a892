"""Landlock's access rights, by the ABI version that introduced them.

Filesystem rights up to ABI 5 come from the ``landlock`` package. The package stops there, so what
is newer is defined here: the rest of ``enum fs_access``, network rights, scopes and the flags of
landlock_restrict_self(2), as in the kernel's include/uapi/linux/landlock.h.

Nothing else of the package is used: its system call wrappers look at errno even when the call
succeeded, and its ``all_file``/``all_dir`` ask the running kernel, while a plan is made for the
host that the core describes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs
from landlock import FSAccess  # type: ignore[import-untyped]

EXECUTE: Final = int(FSAccess.EXECUTE)
WRITE_FILE: Final = int(FSAccess.WRITE_FILE)
READ_FILE: Final = int(FSAccess.READ_FILE)
READ_DIR: Final = int(FSAccess.READ_DIR)
REMOVE_DIR: Final = int(FSAccess.REMOVE_DIR)
REMOVE_FILE: Final = int(FSAccess.REMOVE_FILE)
MAKE_CHAR: Final = int(FSAccess.MAKE_CHAR)
MAKE_DIR: Final = int(FSAccess.MAKE_DIR)
MAKE_REG: Final = int(FSAccess.MAKE_REG)
MAKE_SOCK: Final = int(FSAccess.MAKE_SOCK)
MAKE_FIFO: Final = int(FSAccess.MAKE_FIFO)
MAKE_BLOCK: Final = int(FSAccess.MAKE_BLOCK)
MAKE_SYM: Final = int(FSAccess.MAKE_SYM)
REFER: Final = int(FSAccess.REFER)
TRUNCATE: Final = int(FSAccess.TRUNCATE)
IOCTL_DEV: Final = int(FSAccess.IOCTL_DEV)
RESOLVE_UNIX: Final = 1 << 16
"""Connect to a UNIX socket by its path, when it was made outside the sandbox."""

NET_BIND_TCP: Final = 1 << 0
NET_CONNECT_TCP: Final = 1 << 1
NET_BIND_UDP: Final = 1 << 2
NET_CONNECT_SEND_UDP: Final = 1 << 3

SCOPE_ABSTRACT_UNIX_SOCKET: Final = 1 << 0
SCOPE_SIGNAL: Final = 1 << 1

LOG_SAME_EXEC_OFF: Final = 1 << 0
LOG_NEW_EXEC_ON: Final = 1 << 1
LOG_SUBDOMAINS_OFF: Final = 1 << 2

KERNELS: Final[Mapping[int, str]] = {
    1: "5.13",
    2: "5.19",
    3: "6.2",
    4: "6.7",
    5: "6.10",
    6: "6.12",
    7: "6.15",
    9: "7.1",
    10: "7.2",
}
"""The Linux release in which an ABI version first appeared."""

_FIRST: Final = (
    EXECUTE
    | WRITE_FILE
    | READ_FILE
    | READ_DIR
    | REMOVE_DIR
    | REMOVE_FILE
    | MAKE_CHAR
    | MAKE_DIR
    | MAKE_REG
    | MAKE_SOCK
    | MAKE_FIFO
    | MAKE_BLOCK
    | MAKE_SYM
)
_FS: Final[Mapping[int, int]] = {
    1: _FIRST,
    2: REFER,
    3: TRUNCATE,
    5: IOCTL_DEV,
    9: RESOLVE_UNIX,
}
_NET: Final[Mapping[int, int]] = {
    4: NET_BIND_TCP | NET_CONNECT_TCP,
    10: NET_BIND_UDP | NET_CONNECT_SEND_UDP,
}
_SCOPES: Final[Mapping[int, int]] = {6: SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL}
# Without LOG_NEW_EXEC_ON the kernel logs only what the launcher itself is refused before it
# becomes the agent, which is nothing: every program of the agent is a new exec. The kernel's
# documentation warns that untrusted programs can fill the audit log this way. They can (printk's
# rate limit or `auditctl -r` bounds it), and what an agent tried is what the log is for.
_FLAGS: Final[Mapping[int, int]] = {7: LOG_NEW_EXEC_ON}

READ_TREE: Final = EXECUTE | READ_FILE | READ_DIR
WRITE_TREE: Final = (
    READ_TREE
    | WRITE_FILE
    | REMOVE_DIR
    | REMOVE_FILE
    | MAKE_DIR
    | MAKE_REG
    | MAKE_SOCK
    | MAKE_FIFO
    | MAKE_SYM
    | REFER
    | TRUNCATE
    | IOCTL_DEV
)
"""Everything but MAKE_CHAR and MAKE_BLOCK: a device file made by the agent would be a way out."""

MODES: Final = ("list", "read", "keep", "files", "write")
"""What a grant permits, each with all that the one before it does: ``list`` directories; ``read``
and execute; ``keep``: change and remove what is there, make nothing; ``files``: make anything but
directories and symbolic links, so that no path can come to lead further; ``write``."""

# The kernel refuses directory rights on anything that is no directory (EINVAL).
_ACCESS: Final[Mapping[tuple[str, str], int]] = {
    ("directory", "list"): READ_DIR,
    ("directory", "read"): READ_TREE,
    ("directory", "keep"): WRITE_TREE & ~(MAKE_DIR | MAKE_REG | MAKE_SOCK | MAKE_FIFO | MAKE_SYM),
    ("directory", "files"): WRITE_TREE & ~(MAKE_DIR | MAKE_SYM),
    ("directory", "write"): WRITE_TREE,
    ("file", "read"): EXECUTE | READ_FILE,
    ("file", "write"): EXECUTE | READ_FILE | WRITE_FILE | TRUNCATE,
    ("device", "read"): READ_FILE,
    ("device", "write"): READ_FILE | WRITE_FILE | IOCTL_DEV,
    ("socket", "read"): 0,
    ("socket", "write"): RESOLVE_UNIX,
}


@attrs.frozen(slots=True, kw_only=True)
class Handled:
    """What a ruleset handles, and so denies unless a rule grants it."""

    fs: int
    net: int
    scoped: int
    flags: int


def _up_to(abi: int, table: Mapping[int, int]) -> int:
    found = 0
    for version, bits in table.items():
        if version <= abi:
            found |= bits
    return found


def handled(abi: int, *, network: bool) -> Handled:
    """Every right of ``abi`` that this plugin knows; network rights only when asked for."""
    return Handled(
        fs=_up_to(abi, _FS),
        net=_up_to(abi, _NET) if network else 0,
        scoped=_up_to(abi, _SCOPES),
        flags=_up_to(abi, _FLAGS),
    )


def access(kind: str, mode: str) -> int:
    """Rights that a mode means for a kind of file; only directories have all of :data:`MODES`.

    :raises KeyError: a kind that no rule can be made for, such as ``missing``.
    """
    return _ACCESS[kind, mode]
