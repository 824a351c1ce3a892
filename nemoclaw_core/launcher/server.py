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

from . import cgroups, check, init, kernel, operations, rights, wire
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
        return left + _unlink(self.remove)


def _unlink(paths: list[str]) -> list[str]:
    """Remove files; returns those that could not be removed."""
    left = []
    for path in paths:
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
    """The loop of the launcher process, a child of ``supervisor``. It serves one plan."""

    def __init__(self, sock: _socket.socket, supervisor: int) -> None:
        self.sock = sock
        self.supervisor = wire.Peer(sock, supervisor)
        self.plan: dict[str, Any] = {}
        self.view: View | None = None
        self.staging = ""
        self.adopts = False
        self.failure: init.Failed | None = init.Failed(-1, OSError(errno.EINVAL, "no plan"))
        self.anchors = Anchors(self.supervisor.wait)
        self.early: Early | None = None
        self.caller = os.getuid(), os.getgid()
        self.sandboxes: dict[int, _Sandbox] = {}
        self.lifeline, self.lifeline_held = os.pipe2(os.O_CLOEXEC)

    def serve(self) -> None:
        """Serve until the supervisor is gone, then end every sandbox and clean up.

        What takes long asks again and again whether it is: nothing is prepared for nobody.
        """
        children = kernel.signal_descriptor(_signal.SIGCHLD)
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        poll.register(children, select.POLLIN)
        if self.supervisor.process >= 0:
            poll.register(self.supervisor.process, select.POLLIN)
        try:
            self.supervisor.wait()
            while True:
                for descriptor, _ in poll.poll():
                    if descriptor == children:
                        os.read(children, 128 * 64)
                        self._reap()
                    else:
                        self.supervisor.wait()
                        self._obey(*wire.receive_request(self.sock))
        except EOFError:
            self._forget()
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

    def _forget(self) -> None:
        """The supervisor is gone: of what it still asked for, leave no file."""
        self.sock.shutdown(_socket.SHUT_RDWR)  # Also where somebody else has its end by fork(2).
        try:
            while True:
                message, _ = wire.receive_request(self.sock)
                if message[0] == "spawn":
                    _unlink(message[2]["remove"])
        except (EOFError, ConnectionResetError):
            return  # That was the last, or it died while it sent it.

    def _obey(self, message: tuple[Any, ...], descriptors: list[int]) -> None:
        kind, *rest = message
        if kind == "plan":
            self._prepare(*rest)
        elif kind == "search":
            self.early = Early(rest[0], self.supervisor.wait)
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
                maps = {}
                if any(step.get("owner") is not None for step in steps):
                    # Imported here: only root has an agent see somebody's files as its own.
                    from .idmaps import needed

                    maps = needed(steps, owner)
                view = View(owner[0], owner[1], maps)
                self.anchors.make(steps)
                own = operations.clone_flags(plan) & kernel.CLONE_FLAGS["user"]
                kernel.unshare(kernel.CLONE_FLAGS["mount"] | own)
                if own:
                    operations.map_caller(*self.caller)
                view.prepare(steps, avoid, self.supervisor.wait)
                view.failed_at = -1
            if os.geteuid() == 0 and any(step["op"] == "drop_capabilities" for step in steps):
                # Inherited by every init, and never needed: nothing here is executed as root.
                rights.empty_bounding_set()
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


def adopt(descriptor: int) -> _socket.socket:
    """The socket at an inherited descriptor, which is not inherited any further."""
    os.set_inheritable(descriptor, False)
    return _socket.socket(fileno=descriptor)


def become_launcher(sock: _socket.socket, supervisor: int) -> None:
    """Make this process the launcher of its parent, process ``supervisor``. Never returns.

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
        Server(sock, supervisor).serve()
    except BaseException:
        # Nothing of the caller's clean-up code may run in this copy of its process. The
        # supervisor sees the closed socket, and every init dies with its parent.
        os._exit(70)
    os._exit(0)
