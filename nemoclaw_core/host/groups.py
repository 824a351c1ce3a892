"""Where this user can make control groups that hold an agent's limits (cgroups(7)).

The unified hierarchy (v2) hands a controller to the children of a group only if it is listed in
the group's ``cgroup.subtree_control``, and a group that holds processes cannot list any. So our own
group never qualifies, and the nearest one above it that does is taken. In the old hierarchies (v1)
a child of our own group does, and whatever limits hold for us hold for the agent too.

Each place is proven: a group is made there, has the controller's file, takes a process, and goes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import attrs

from .answers import Answer, told
from .children import Tell, ask

LIMITS = {
    "v2": {"pids": "pids.max", "memory": "memory.max"},
    "v1": {"pids": "pids.max", "memory": "memory.limit_in_bytes"},
}
"""For each version: the controllers that a sandbox uses, and the file that tells them present."""


@attrs.frozen(slots=True, kw_only=True)
class Hierarchy:
    """A mounted cgroup hierarchy and where this process stands in it."""

    version: str
    controllers: tuple[str, ...]
    """v1: those of the hierarchy. Empty for v2."""
    mount: str
    own: str
    """Directory of this process's group."""


@attrs.frozen(slots=True, kw_only=True)
class Found:
    """Which hierarchy to use, a parent group for each controller, and what was found out."""

    version: str
    parents: tuple[tuple[str, str], ...]
    answers: tuple[Answer, ...]


def examine() -> Found:
    """Look for places, v2 first, and prove them."""
    with open("/proc/self/mountinfo") as mounts, open("/proc/self/cgroup") as membership:
        present = hierarchies(mounts.read(), membership.read())
    reasons: dict[str, str] = {}
    for version, places in (("v2", _unified), ("v1", _separate)):
        parents: dict[str, str] = {}
        for controller in LIMITS[version]:
            for parent in places(present, controller, reasons):
                problem = prove(parent, LIMITS[version][controller])
                if not problem:
                    parents[controller] = parent
                    break
                reasons[controller] = f"{problem} in {parent}"
        if parents:
            return Found(
                version=version,
                parents=tuple(parents.items()),
                answers=tuple(_answers(version, parents, reasons)),
            )
    return Found(version="none", parents=(), answers=tuple(_answers("", {}, reasons)))


def _answers(version: str, parents: dict[str, str], reasons: dict[str, str]) -> Iterator[Answer]:
    for controller in LIMITS["v2"]:
        if controller in parents:
            detail = f"{version}, groups below {parents[controller]}"
        else:
            detail = reasons.get(controller, "no hierarchy with this controller is mounted")
        yield Answer(subject=f"cgroup.{controller}", works=controller in parents, detail=detail)


def hierarchies(mountinfo: str, membership: str) -> tuple[Hierarchy, ...]:
    """Parse ``/proc/self/mountinfo`` and ``/proc/self/cgroup`` (proc(5))."""
    groups: dict[str, str] = {}
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        for name in controllers.split(","):
            groups[name] = path
    found = []
    for line in mountinfo.splitlines():
        fields, _, rest = line.partition(" - ")
        root, mount = (_unescaped(text) for text in fields.split()[3:5])
        kind, _, options = rest.split(" ", 2)
        if kind == "cgroup2" and "" in groups:
            names: tuple[str, ...] = ()
            path = groups[""]
        elif kind == "cgroup":
            names = tuple(name for name in options.split(",") if name in groups and name)
            if not names:
                continue
            path = groups[names[0]]
        else:
            continue
        found.append(
            Hierarchy(
                version="v2" if kind == "cgroup2" else "v1",
                controllers=names,
                mount=mount,
                own=_below(mount, root, path),
            )
        )
    return tuple(found)


def _unescaped(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text


def _below(mount: str, root: str, path: str) -> str:
    """The directory of group ``path`` where the group ``root`` is mounted at ``mount``."""
    if root != "/" and (path == root or path.startswith(root + "/")):
        path = path[len(root) :]
    if "/.." in path:
        return mount  # Our group lies outside what is mounted (cgroup_namespaces(7)).
    return (mount + path).rstrip("/")


def _unified(
    present: tuple[Hierarchy, ...], controller: str, reasons: dict[str, str]
) -> Iterator[str]:
    for each in present:
        if each.version != "v2":
            continue
        group = each.own
        while group.startswith(each.mount):
            if controller in _words(f"{group}/cgroup.subtree_control"):
                yield group
            else:
                reasons.setdefault(
                    controller, f"not in {group}/cgroup.subtree_control, nor in one above"
                )
            group = os.path.dirname(group)


def _separate(
    present: tuple[Hierarchy, ...], controller: str, reasons: dict[str, str]
) -> Iterator[str]:
    for each in present:
        if each.version == "v1" and controller in each.controllers:
            yield each.own


def _words(path: str) -> list[str]:
    try:
        with open(path) as file:
            return file.read().split()
    except OSError:
        return []


def prove(parent: str, limit: str) -> str:
    """Make a group below ``parent``, put a process into it, remove it.

    :param limit: a file that the group must have.
    :returns: what failed, empty when all of it worked.
    """
    # The time keeps two threads apart, and a group that a killed probe left behind.
    group = f"{parent}/nemoclaw-probe-{os.getpid()}-{time.monotonic_ns()}"
    try:
        os.mkdir(group)
    except OSError as error:
        return told(OSError(error.errno, f"mkdir: {os.strerror(error.errno or 0)}"))
    try:
        if not os.path.exists(f"{group}/{limit}"):
            return f"a new group has no {limit}"
        return ask(lambda tell: _join(group, tell)).failure
    finally:
        _remove(group)


def _join(group: str, tell: Tell) -> None:
    descriptor = os.open(f"{group}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, b"0")
    except OSError as error:
        text = f"joining a group: {os.strerror(error.errno or 0)}"
        raise OSError(error.errno, text) from None


def _remove(group: str) -> None:
    deadline = time.monotonic() + 1.0
    while True:
        try:
            os.rmdir(group)
            return
        except OSError:
            # The process has ended; the kernel may still be taking it off the group.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.001)
