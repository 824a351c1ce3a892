"""ID-mapped mounts: show a directory with other owners than on disk (mount_setattr(2))."""

from __future__ import annotations

import os

from ..launcher import kernel
from .answers import Answer
from .children import Tell, ask

# Whether a file system can be mapped depends on its kind, so several are tried. The copies of these
# mounts are never attached anywhere.
_PLACES = ("/", "/tmp", "/home")


def examine() -> Answer:
    """Whether this user can map the owners of a mount. Needs root and Linux 5.12."""
    if os.geteuid() != 0:
        return Answer(subject="idmapped-mounts", works=False, detail="only root can make them")
    reply = ask(_map)
    if reply.failure:
        return Answer(subject="idmapped-mounts", works=False, detail=reply.failure)
    return Answer(subject="idmapped-mounts", works=True, detail=f"works for {reply.lines[0]}")


def _map(tell: Tell) -> None:
    namespace = _user_namespace()
    failure: OSError | None = None
    for place in _PLACES:
        try:
            path = kernel.open_path(place)
            tree = kernel.open_tree(path)
            kernel.mount_setattr(tree, kernel.MOUNT_ATTR_IDMAP, recursive=False, userns=namespace)
        except OSError as error:
            failure = error
        else:
            tell(place)
            return
    assert failure is not None
    raise failure


def _user_namespace() -> int:
    """A user namespace, by descriptor, that maps one id."""
    held, release = os.pipe()
    process = kernel.clone(kernel.CLONE_FLAGS["user"])
    if process == 0:
        os.close(release)
        os.read(held, 1)  # Until the parent has the descriptor, or is gone.
        os._exit(0)
    try:
        for name in ("uid_map", "gid_map"):
            with open(f"/proc/{process}/{name}", "w") as file:
                file.write("0 1000 1")
        return os.open(f"/proc/{process}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(release)
        os.waitpid(process, 0)
