"""Cover sockets of the host's programs in a sandbox's view, and hold them where they are.

A mount stays on what it covers when a directory above is moved. But another sandbox that starts
meanwhile looks for the socket, and must not be led past it: so each directory between a socket
and the writable tree that it lies in is bound onto itself, as one above a mask is, because a mount
point cannot be moved.
"""

from __future__ import annotations

import errno
import os
import stat

from . import kernel
from .sockets import Found, covers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

_CLOSED = (
    kernel.MOUNT_ATTR_NOSUID
    | kernel.MOUNT_ATTR_NODEV
    | kernel.MOUNT_ATTR_NOEXEC
    | kernel.MOUNT_ATTR_RDONLY
)
_MOST_HELD = 3000


def cover(root: int, steps: list[dict[str, Any]], found: Found) -> None:
    """Cover what was found, before the view at the descriptor ``root`` is entered.

    :raises OSError: something cannot be covered; E2BIG: it is too much.
    """
    found.check("")
    binds = [step for step in steps if step["op"] == "bind_mount"]
    named = {step["target"] for step in binds if step["kind"] == "socket"}
    folders = [step for step in binds if step["kind"] == "directory"]
    sockets = {path for each in found.sockets for path in _seen_as(each, folders)} - named
    closed = {path for each in found.closed for path in _seen_as(each, folders)}
    if not sockets and not closed:
        return
    points = {step["target"] for step in steps if "target" in step}
    held = {path for each in sockets | closed for path in _above(each, folders)} - points
    if len(held) > _MOST_HELD:
        # The deepest alone would need that many: it is what an agent has made.
        deepest = max(held, key=lambda path: path.count("/"))
        raise OSError(errno.E2BIG, f"more than {_MOST_HELD} directories are to be held", deepest)
    # What holds others first: the next is looked up in it.
    for path in sorted(held, key=len):
        _mount(root, path, stat.S_ISDIR, kernel.open_tree)
    for path in sorted(closed):
        _mount(root, path, stat.S_ISDIR, _empty)
    for path in sorted(sockets):
        _mount(root, path, stat.S_ISSOCK, _nobody)


def _empty(_: int) -> int:
    return kernel.new_filesystem("tmpfs", _CLOSED, (("mode", "0555"), ("nr_inodes", "2")))


def _nobody(_: int) -> int:
    source = kernel.open_path("/dev/null")
    tree = kernel.open_tree(source)
    os.close(source)
    kernel.mount_setattr(tree, _CLOSED)
    return tree


def _seen_as(path: str, folders: list[dict[str, Any]]) -> Iterator[str]:
    """The names in the view of something on the host."""
    for step in folders:
        if covers(step["source"], path):
            yield step["target"] + path[len(step["source"]) :]


def _above(path: str, folders: list[dict[str, Any]]) -> Iterator[str]:
    """The directories over ``path`` that the agent could move: those below its writable tree."""
    trees = [step for step in folders if covers(step["target"], path)]
    tree = max(trees, key=lambda step: len(step["target"]))
    if not tree["read_only"]:
        path = os.path.dirname(path)
        while covers(tree["target"], path) and path != tree["target"]:
            yield path
            path = os.path.dirname(path)


def _mount(
    root: int, path: str, is_kind: Callable[[int], bool], make: Callable[[int], int]
) -> None:
    """Mount what ``make`` returns for the descriptor of ``path`` of the view there."""
    try:
        target = kernel.open_path(path[1:], directory=root, in_root=True)
    except (FileNotFoundError, NotADirectoryError):
        return  # Masked with a directory above it, or gone.
    try:
        if is_kind(os.fstat(target).st_mode):
            tree = make(target)
            kernel.move_mount(tree, target)
            os.close(tree)
    finally:
        os.close(target)
