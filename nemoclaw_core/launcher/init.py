"""Pid 1 of a sandbox: it seals itself, starts the agent, and waits.

The init carries out the plan on itself, Landlock and seccomp included, and only then starts the
agent, which inherits the seal. So the init has no more rights than the agent, and `nemoclaw exec`
is a request to it (:mod:`.commands`): a second command is born behind the same walls. When it ends,
the kernel ends every process of its PID namespace with it.
"""

from __future__ import annotations

import _signal
import _socket
import errno
import os
import select

from . import cgroups, kernel, operations, rights, wire
from .commands import Commands
from .mounts import VIEW_OPERATIONS, View
from .orphans import leave_ender
from .watch import Watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_DONE = ("unshare", "join_cgroup", "enter_view", *VIEW_OPERATIONS)


class Failed(Exception):
    """A step of the plan failed: its index (-1 before the first), errno, and what the text says."""

    def __init__(self, index: int, error: OSError) -> None:
        text = error.strerror or str(error)
        super().__init__(f"{text}: {error.filename}" if error.filename else text)
        self.index = index
        self.number = error.errno or 0


def run(
    plan: dict[str, Any],
    view: View | None,
    caller: tuple[int, int],
    channel: _socket.socket,
    lifeline: int,
    groups: list[str],
    leash: int,
) -> None:
    """Live as the sandbox's init. Never returns: ends the process.

    :param view: what the launcher has prepared of the file system; None without mounts.
    :param caller: the launcher's uid and gid, which this process does not see before it has mapped
        them into its user namespace.
    :param channel: to the supervisor.
    :param lifeline: read end of a pipe that only the launcher holds open: end of file means that
        the launcher died before this process could ask for a parent-death signal.
    :param groups: control groups to join.
    :param leash: for :func:`.orphans.leave_ender`; -1 with a PID namespace, which needs none.
    """
    try:
        idmaps = view.idmaps.values() if view is not None else ()
        _keep_only(channel.fileno(), lifeline, *idmaps, *((leash,) if leash >= 0 else ()))
        try:
            if leash >= 0:
                _leave_ender(leash)
            watch = _seal(plan["steps"], channel, view, caller, groups)
        except Failed as error:
            wire.send_report(channel, wire.FAILED, error.index, error.number, str(error))
            os._exit(1)
        for descriptor in idmaps:
            os.close(descriptor)
        _die_with_launcher(lifeline)
        Commands(plan, channel, watch).serve()
    except EOFError:
        os._exit(1)  # The supervisor is gone; so is whom to tell.
    except BaseException as error:
        try:
            wire.send_report(channel, wire.FAILED, -1, 0, f"init: {error!r}")
        finally:
            os._exit(1)
    os._exit(0)


def _leave_ender(leash: int) -> None:
    try:
        leave_ender(leash)
    except OSError as error:
        raise Failed(-1, error) from None


def _keep_only(*descriptors: int) -> None:
    """Close every descriptor but these and the standard three, which the launcher has emptied."""
    first = 3
    for descriptor in sorted(descriptors):
        kernel.close_range(first, descriptor - 1)
        first = descriptor + 1
    kernel.close_range(first)


def _seal(
    steps: list[dict[str, Any]],
    channel: _socket.socket,
    view: View | None,
    caller: tuple[int, int],
    groups: list[str],
) -> Watch | None:
    """Carry out the plan's operations in order; unshare was done by the clone(2).

    Returns what watches the view's mounts, if there is a view, and a proc(5) in it to look at.
    """
    nested = any("user" in step.get("namespaces", ()) for step in steps)
    rulesets: dict[int, int] = {}
    watch = None
    index = -1
    try:
        if nested:
            operations.map_caller(*caller)
        for path in groups:
            cgroups.join(path)
        # After joining: the namespace's root is the group that the process is in at that moment,
        # and one made earlier could not be left for a group outside of it.
        cgroups.unshare(steps)
        if view is not None:
            view.complete(steps, nested=nested)
            if any(step["op"] == "proc" for step in steps):
                watch = Watch(steps)
        for index, step in enumerate(steps):
            name = step["op"]
            if name in ("set_user", "drop_capabilities") and not rulesets:
                rulesets = _prepare_rulesets(steps)
            if name == "landlock_ruleset":
                ruleset = rulesets.pop(index, -1)
                if ruleset < 0:
                    ruleset = operations.landlock_prepare(step)
                rights.landlock_restrict_self(ruleset, step["restrict_flags"])
                os.close(ruleset)
            elif name == "listen":
                _hand_out(channel, step)
            elif name in operations.OPERATIONS:
                operations.OPERATIONS[name](step)
            elif name not in _DONE:
                raise OSError(errno.ENOSYS, f"no one carries out {name}")
    except OSError as error:
        failed_at = view.failed_at if view is not None and view.failed_at >= 0 else index
        raise Failed(failed_at, error) from None
    return watch


def _hand_out(channel: _socket.socket, step: dict[str, Any]) -> None:
    """Open a socket in this namespace, and leave it to the supervisor alone."""
    opened = operations.open_socket(step)
    try:
        wire.send_report(channel, wire.SOCKET, text=step["name"], descriptors=(opened.fileno(),))
    finally:
        opened.close()


def _prepare_rulesets(steps: list[dict[str, Any]]) -> dict[int, int]:
    return {
        index: operations.landlock_prepare(step)
        for index, step in enumerate(steps)
        if step["op"] == "landlock_ruleset"
    }


def _die_with_launcher(lifeline: int) -> None:
    """End when the launcher ends. After the identity steps: a change of ids clears the setting."""
    kernel.prctl(kernel.PR_SET_PDEATHSIG, _signal.SIGKILL)
    poll = select.poll()
    poll.register(lifeline, select.POLLIN)
    if poll.poll(0):
        os._exit(1)
    os.close(lifeline)
