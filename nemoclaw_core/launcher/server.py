"""The launcher process: turns requests of the supervisor into sandboxes, and cleans up after them.

It is forked early and stays single-threaded and small, so that a clone of it is cheap and holds
nothing worth stealing. When the supervisor dies, however that happens, it ends every sandbox and
removes what belonged to them. When it dies itself, each sandbox's init dies with it.
"""

from __future__ import annotations

import _signal
import _socket
import errno
import os
import select

from . import cgroups, check, init, kernel, operations, wire
from .anchors import Anchors, remove_left
from .mounts import View
from .orphans import end_at_once, end_orphans
from .sockets import Early, look

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class _Sandbox:
    """What must be undone when a sandbox ends."""

    def __init__(self, channel: _socket.socket) -> None:
        self.channel = channel
        self.pid = 0
        self.cgroups: list[str] = []
        self.remove: list[str] = []
        self.leash: _socket.socket | None = None

    def clean(self) -> list[str]:
        """Remove everything; returns what could not be removed."""
        left = []
        for path in self.cgroups:
            try:
                cgroups.remove(path)
            except OSError:
                left.append(path)
        for path in self.remove:
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass
            except OSError:
                left.append(path)
        return left


def clean_after(plan: dict[str, Any], pid: int, files: list[str]) -> None:
    """Remove what a launcher has left that was killed. Called by its supervisor.

    :param pid: the launcher's.
    :param files: what it was asked to unlink.
    """
    cgroups.remove_of(plan.get("steps", []), pid)
    remove_left(plan.get("steps", []))
    for path in files:
        try:
            os.unlink(path)
        except FileNotFoundError:
            continue


class Server:
    """The loop of the launcher process. It serves one plan."""

    def __init__(self, sock: _socket.socket) -> None:
        self.sock = sock
        self.plan: dict[str, Any] = {}
        self.view: View | None = None
        self.staging = ""
        self.adopts = False
        self.failure: init.Failed | None = init.Failed(-1, OSError(errno.EINVAL, "no plan"))
        self.anchors = Anchors()
        self.early: Early | None = None
        self.caller = os.getuid(), os.getgid()
        self.sandboxes: dict[int, _Sandbox] = {}
        self.lifeline, self.lifeline_held = os.pipe2(os.O_CLOEXEC)

    def serve(self) -> None:
        """Serve until the supervisor is gone, then end every sandbox and clean up."""
        children = kernel.signal_descriptor(_signal.SIGCHLD)
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        poll.register(children, select.POLLIN)
        try:
            while True:
                for descriptor, _ in poll.poll():
                    if descriptor == children:
                        os.read(children, 128 * 64)
                        self._reap()
                    else:
                        self._obey(*wire.receive_request(self.sock))
        except EOFError:
            pass
        finally:
            for sandbox in self.sandboxes.values():
                os.kill(sandbox.pid, _signal.SIGKILL)
            for number, sandbox in list(self.sandboxes.items()):
                os.waitpid(sandbox.pid, 0)
                self._gone(number)
            if self.staging:
                # A directory with a mount on it, also in the view, could not be removed.
                kernel.detach(self.staging)
            self.anchors.remove()
            cgroups.sweep(self.plan.get("steps", []))

    def _obey(self, message: tuple[Any, ...], descriptors: list[int]) -> None:
        kind, *rest = message
        if kind == "plan":
            self._prepare(*rest)
        elif kind == "search":
            self.early = Early(rest[0])
        elif kind == "kill":
            if rest[0] in self.sandboxes:
                os.kill(self.sandboxes[rest[0]].pid, _signal.SIGKILL)
        elif kind == "spawn":
            number, request = rest
            self._spawn(number, request, _socket.socket(fileno=descriptors[0]))
        else:
            raise ValueError(f"unknown request {kind!r}")

    def _prepare(self, plan: dict[str, Any], avoid: list[str]) -> None:
        """Accept the plan, and do once what all its sandboxes share."""
        try:
            check.check_plan(plan)
        except check.Malformed as error:
            self.failure = init.Failed(-1, OSError(errno.EINVAL, f"not a plan: {error}"))
            return
        self.plan = plan
        steps = plan["steps"]
        self.adopts = not operations.has_pid_namespace(plan)
        if self.adopts:
            kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
        view = None
        try:
            if any(step["op"] == "enter_view" for step in steps):
                user = next((step for step in steps if step["op"] == "set_user"), None)
                owner = self.caller if user is None else (user["uid"], user["gid"])
                view = View(owner[0], owner[1], _idmaps(steps, owner))
                self.anchors.make(steps)
                own = operations.clone_flags(plan) & kernel.CLONE_FLAGS["user"]
                kernel.unshare(kernel.CLONE_FLAGS["mount"] | own)
                if own:
                    operations.map_caller(*self.caller)
                view.prepare(steps, avoid)
                view.failed_at = -1
            if os.geteuid() == 0 and any(step["op"] == "drop_capabilities" for step in steps):
                # Inherited by every init, and never needed: nothing here is executed as root.
                kernel.empty_bounding_set()
        except OSError as error:
            failed_at = view.failed_at if view is not None else -1
            self.failure = init.Failed(max(failed_at, self.anchors.failed_at), error)
            return
        finally:
            # Also when it failed halfway: what is mounted by then is in the way of the clean-up.
            self.staging = view.mounted if view is not None else ""
        self.view = view
        self.failure = None

    def _spawn(self, number: int, request: dict[str, Any], channel: _socket.socket) -> None:
        sandbox = _Sandbox(channel)
        sandbox.remove = request["remove"]
        if self.failure is not None:
            self._refuse(sandbox, self.failure)
            return
        try:
            cgroups.make(self.plan["steps"], request["name"], sandbox.cgroups)
            if self.view is not None:
                early, self.early = self.early, None
                self.view.foreign = look(self.plan["steps"], request["written"], early)
            theirs = None
            if self.adopts:
                sandbox.leash, theirs = wire.pair()
            pid = kernel.clone(operations.clone_flags(self.plan))
        except OSError as error:
            self._refuse(sandbox, init.Failed(-1, error))
            return
        if pid == 0:
            leash = -1 if theirs is None else theirs.fileno()
            init.run(
                self.plan, self.view, self.caller, channel, self.lifeline, sandbox.cgroups, leash
            )
        if theirs is not None:
            theirs.close()
        sandbox.pid = pid
        self.sandboxes[number] = sandbox
        try:
            wire.send_report(channel, wire.CREATED, value=pid)
        except OSError:
            os.kill(pid, _signal.SIGKILL)  # The supervisor no longer wants it.

    def _refuse(self, sandbox: _Sandbox, failure: init.Failed) -> None:
        sandbox.clean()
        try:
            wire.send_report(
                sandbox.channel, wire.FAILED, failure.index, failure.number, str(failure)
            )
        except OSError:
            pass  # The supervisor no longer wants to know.
        sandbox.channel.close()

    def _reap(self) -> None:
        pids = {sandbox.pid: number for number, sandbox in self.sandboxes.items()}
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid in pids:
                self._gone(pids[pid])

    def _gone(self, number: int) -> None:
        """Every process of the sandbox has ended: remove what is left, then let go."""
        sandbox = self.sandboxes.pop(number)
        if sandbox.leash is not None:
            end_at_once(sandbox.leash)
            end_orphans({other.pid for other in self.sandboxes.values()})
        try:
            kills = cgroups.memory_kills(self.plan["steps"], sandbox.cgroups)
        except OSError:
            kills = 0  # Somebody has removed the group: nothing can be said.
        left = sandbox.clean()
        try:
            if kills:
                wire.send_report(sandbox.channel, wire.OUT_OF_MEMORY, value=kills)
            if left:
                wire.send_report(sandbox.channel, wire.LEFT_BEHIND, text="\n".join(left))
        except OSError:
            pass  # The supervisor is gone; nobody is left to tell.
        sandbox.channel.close()


def _idmaps(steps: list[dict[str, Any]], seen_as: tuple[int, int]) -> dict[tuple[int, int], int]:
    """User namespaces, by the host owner whose files they show as the agent's own."""
    found: dict[tuple[int, int], int] = {}
    for step in steps:
        if step["op"] == "bind_mount" and step["owner"] is not None:
            owner = (step["owner"][0], step["owner"][1])
            if owner not in found:
                found[owner] = _user_namespace(*owner, *seen_as)
    return found


def _user_namespace(uid: int, gid: int, seen_uid: int, seen_gid: int) -> int:
    """A user namespace, by descriptor, for an ID-mapped mount (mount_setattr(2)).

    Maps the owner on disk (``uid``, ``gid``) to the id that the agent has.
    """
    ours, theirs = wire.pair()
    pid = kernel.clone(kernel.CLONE_FLAGS["user"])
    if pid == 0:
        ours.close()
        theirs.recv(1)  # Until the parent has taken the namespace's descriptor.
        os._exit(0)
    try:
        theirs.close()
        kernel.write_file(f"/proc/{pid}/uid_map", f"{uid} {seen_uid} 1")
        kernel.write_file(f"/proc/{pid}/gid_map", f"{gid} {seen_gid} 1")
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        ours.close()
        os.waitpid(pid, 0)


def adopt(descriptor: int) -> _socket.socket:
    """The socket at an inherited descriptor, which is not inherited any further."""
    os.set_inheritable(descriptor, False)
    return _socket.socket(fileno=descriptor)


def become_launcher(sock: _socket.socket) -> None:
    """Make this process the launcher. Never returns.

    The caller has just forked (or been executed) for this purpose, and has a single thread.
    """
    try:
        _signal.pthread_sigmask(_signal.SIG_BLOCK, (_signal.SIGCHLD,))
        for number in (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP, _signal.SIGQUIT):
            _signal.signal(number, _signal.SIG_IGN)
        # Out of the terminal's reach: its signals are for the supervisor to handle.
        if os.getpid() != os.getsid(0):
            os.setsid()
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
        kernel.forget_arguments("nemoclaw-launcher")
        kept = sock.fileno()
        if kept < 3:
            raise OSError(errno.EBADF, "the launcher's socket lies among the standard streams")
        kernel.close_range(3, kept - 1)
        kernel.close_range(kept + 1)
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        os.close(null)
        Server(sock).serve()
    except BaseException:
        # Nothing of the caller's clean-up code may run in this copy of its process. The
        # supervisor sees the closed socket, and every init dies with its parent.
        os._exit(70)
    os._exit(0)
