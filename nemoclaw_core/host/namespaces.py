"""Which namespaces this user can make and use (namespaces(7), user_namespaces(7)).

That clone(2) succeeds says little. Ubuntu's AppArmor lets anybody make a user namespace and then
refuses every mount inside it; containers hide parts of /proc, and the kernel then refuses a new
proc. So the child does in its namespaces what the launcher will do there: map its id, bring the
loopback up, name the host, mount a tmpfs and a proc, make that the root.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from nemoclaw_hookspecs.host import NAMESPACES

from ..launcher import kernel, operations
from .answers import Answer, told
from .children import Tell, ask, within

_OTHERS = tuple(kind for kind in NAMESPACES if kind != "user")


def examine(uid: int, gid: int) -> tuple[Answer, ...]:
    """One answer for each kind in :data:`~nemoclaw_hookspecs.NAMESPACES`.

    Root makes them directly. Anybody else makes them together with a user namespace.
    """
    found = dict(_try(("user", *_OTHERS) if uid else _OTHERS, uid, gid))
    if uid == 0 or not found["user"].works:
        found.update(_try(("user",), uid, gid))
    if not any(found[kind].works for kind in _OTHERS) and (uid == 0 or found["user"].works):
        # One kind that clone(2) refuses stops them all: ask for each alone, to know which.
        first = ("user",) if uid else ()
        for kind in _OTHERS:
            # Whether a proc can be mounted is known only where anything can.
            beside = ("mount",) if kind == "pid" and found["mount"].works else ()
            found[kind] = _try((*first, *beside, kind), uid, gid)[kind]
    return tuple(found[kind] for kind in NAMESPACES)


def _try(kinds: tuple[str, ...], uid: int, gid: int) -> dict[str, Answer]:
    """Make these namespaces in one clone(2), use each, and say what worked."""
    flags = 0
    for kind in kinds:
        flags |= kernel.CLONE_FLAGS[kind]

    def question(tell: Tell) -> None:
        within(flags, lambda: _use(kinds, uid, gid, tell))

    reply = ask(question)
    problems: dict[str, str] = {}
    for line in reply.lines:
        kind, _, problem = line.partition(" ")
        problems[kind] = problem
    silence = reply.failure or "the process inside died"
    return {
        kind: Answer(
            subject=f"namespace.{kind}",
            works=problems.get(kind) == "",
            detail=problems.get(kind, silence) or "works",
        )
        for kind in kinds
    }


def _use(kinds: tuple[str, ...], uid: int, gid: int, tell: Tell) -> None:
    """In the new namespaces: use each, and tell ``KIND`` or ``KIND problem``."""
    uses: dict[str, Callable[[], None]] = {
        "user": lambda: operations.map_caller(uid, gid),
        "uts": lambda: kernel.set_hostname("nemoclaw"),
        "network": lambda: operations.link_up({"interface": "lo"}),
        "ipc": lambda: None,
        "cgroup": lambda: None,
        # The view takes the place of the root, /proc with it: last.
        "pid": lambda: _new_proc(mounts="mount" in kinds),
        "mount": _new_root,
    }
    for kind, use in uses.items():
        if kind in kinds:
            try:
                use()
                tell(kind)
            except OSError as error:
                tell(f"{kind} {told(error)} inside the namespace")


def _new_proc(*, mounts: bool) -> None:
    if os.getpid() != 1:
        raise OSError(0, "the first process of the namespace is not process 1")
    if mounts:
        safe = kernel.MOUNT_ATTR_NOSUID | kernel.MOUNT_ATTR_NODEV | kernel.MOUNT_ATTR_NOEXEC
        os.close(kernel.new_filesystem("proc", safe))


def _new_root() -> None:
    kernel.mount("none", "/", "none", kernel.MS_REC | kernel.MS_PRIVATE, "")
    safe = kernel.MOUNT_ATTR_NOSUID | kernel.MOUNT_ATTR_NODEV
    tree = kernel.new_filesystem("tmpfs", safe, (("mode", "0755"),))
    target = kernel.open_path("/tmp" if os.path.isdir("/tmp") else "/proc")
    kernel.move_mount(tree, target)
    os.fchdir(tree)
    kernel.pivot_root(".", ".")
    kernel.detach(".")
