"""A handle of the launcher process."""

from __future__ import annotations

import _socket
import _thread
import os
import sys

from nemoclaw_hookspecs.errors import LauncherError

from ..launcher import server, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PROGRAM = (
    "import sys; sys.path.append({path!r}); from nemoclaw_core.launcher import server; "
    "server.become_launcher(server.adopt({descriptor}), {supervisor})"
)
_DESCRIPTOR = 3


class Launcher:
    """One launcher process, which builds any number of sandboxes of one plan. Thread-safe.

    When this handle is closed, or its process dies, every sandbox of the launcher ends. A copy of
    it in a process that was forked from that one may be closed, which ends nothing.
    """

    def __init__(self, sock: _socket.socket, pid: int) -> None:
        self._sock = sock
        self._pid = pid
        self._owner = os.getpid()
        self._lock = _thread.allocate_lock()
        self._last = 0
        self._plan: dict[str, Any] = {}
        self._files: list[str] = []

    @classmethod
    def fork(cls) -> Launcher:
        """Start a launcher as a copy of this process, which must have a single thread."""
        ours, theirs = wire.pair()
        supervisor = os.getpid()
        pid = os.fork()
        if pid == 0:
            ours.close()
            server.become_launcher(theirs, supervisor)
        theirs.close()
        return cls(ours, pid)

    @classmethod
    def execute(cls) -> Launcher:
        """Start a launcher as a new interpreter: small, whatever the calling process holds."""
        ours, theirs = wire.pair()
        path = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        program = _PROGRAM.format(path=path, descriptor=_DESCRIPTOR, supervisor=os.getpid())
        try:
            pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-S", "-c", program],
                {},
                file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), _DESCRIPTOR)],
                setsigmask=(),
            )
        except OSError as error:
            ours.close()
            raise LauncherError(f"{sys.executable} cannot be started: {error.strerror}") from None
        finally:
            theirs.close()
        return cls(ours, pid)

    def _send(self, message: tuple[Any, ...], descriptors: tuple[int, ...] = ()) -> None:
        try:
            wire.send_request(self._sock, message, descriptors)
        except OSError as error:
            raise LauncherError(
                f"the launcher process is gone ({error.strerror})", remedy="start again"
            ) from None

    def prepare(self, plan: dict[str, Any], avoid: tuple[str, ...] = ()) -> None:
        """Give the launcher its plan. Once, before the first :meth:`spawn`.

        :param plan: an encoded plan. What is wrong with it is reported by each ``spawn``.
        :param avoid: paths that the launcher must be able to reach, besides the plan's.
        """
        with self._lock:
            self._plan = plan
            self._send(("plan", plan, list(avoid)))

    def search(self, tree: str) -> None:
        """Have the launcher look for sockets in a tree that the plan to come is likely to show,
        while it has nothing else to do. It costs the first :meth:`spawn` less then."""
        with self._lock:
            self._send(("search", tree))

    def spawn(
        self, name: str, remove: tuple[str, ...] = (), written: tuple[str, ...] = ()
    ) -> tuple[int, _socket.socket]:
        """Ask for a sandbox; returns its number and the channel on which it reports.

        :param remove: files that the launcher unlinks when the sandbox has ended.
        :param written: directories that agents could ever write.
        """
        ours, theirs = wire.pair()
        try:
            with self._lock:
                self._last += 1
                number = self._last
                self._files.extend(remove)
                request = {"name": name, "remove": list(remove), "written": list(written)}
                self._send(("spawn", number, request), (theirs.fileno(),))
        except LauncherError:
            ours.close()
            raise
        finally:
            theirs.close()
        return number, ours

    def kill(self, number: int) -> None:
        """End a sandbox at once. Does nothing when it has ended."""
        with self._lock:
            self._send(("kill", number))

    def close(self) -> None:
        """End every sandbox and the launcher, and wait until they are gone."""
        with self._lock:
            if self._pid == 0:
                return
            if self._owner != os.getpid():
                self._sock.close()
                self._pid = 0
                return
            # Closing it says nothing where a process that was forked from this one holds it, too.
            try:
                self._sock.shutdown(_socket.SHUT_RDWR)
            except OSError:
                pass  # The launcher has ended.
            self._sock.close()
            pid, status = os.waitpid(self._pid, 0)
            self._pid = 0
            if status:
                server.clean_after(self._plan, pid, self._files)
