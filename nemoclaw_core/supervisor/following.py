"""Reload a sandbox's policy without being asked by a command: after SIGHUP, or when its file has
changed (`nemoclaw run --watch`).

The policy is compiled by a process of its own, ``nemoclaw reload`` under this interpreter: this one
stays small, and what a policy file holds is parsed by nobody who serves an agent. Only the file
that the sandbox was started from is looked at, and only while no agent can have written it.
"""

from __future__ import annotations

import os
import select
import sys
import time

from nemoclaw_hookspecs.errors import NemoclawError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from .inotify import FileWatch
    from .session import Session

_QUIET = 0.05
"""Seconds in which nothing more happens to the file: somebody may be writing it."""
_ATTENTION = 0.5
"""Seconds after which it is looked at although something happens all the time."""
_RETRY = 1.0
_PATIENCE = 30.0
"""Seconds that the process which compiles may take."""
_TOLD = 4096
"""Bytes of what it says that are passed on."""
_PROGRAM = (
    # The path of this process, which nothing of an agent's is on, and nemoclaw's own directory for
    # as long as it takes to find nemoclaw.
    "import sys; sys.path[:] = {path!r} + [{root!r}]; import nemoclaw_core.cli as cli; "
    "sys.path.pop(); sys.exit(cli.main(['reload', {name!r}]))"
)
_ENVIRONMENT = (
    "HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR", "LANG",
    "LC_ALL",
)  # fmt: skip


def check_followed(plan: Mapping[str, Any]) -> None:
    """Refuse to follow a file that is in an agent's reach; before the sandbox is built.

    :raises UsageError: it is, or no reload would change anything.
    """
    if not plan["services"]:
        raise UsageError(
            "there is nothing to watch the policy for: the sandbox's network is closed for good",
            remedy='leave --watch out, or write `mode = "proxy"` into the policy\'s network table',
        )
    from ..trust import record_writable, verdict

    path = _file(plan)
    record_writable(plan)
    # No digest: not even a file that was vouched for. It would be followed to what comes next.
    reason = verdict(path, "")
    if reason is not None:
        raise UsageError(
            f"the policy cannot be watched: {reason}",
            where=path,
            remedy="keep the file where no sandbox can write, or leave --watch out and "
            "`nemoclaw reload` when you have looked at it",
        )


def _file(plan: Mapping[str, Any]) -> str:
    return str(plan["policy"]).rpartition(":")[0]


class Following:
    """Has the policy of one sandbox reloaded.

    :param tell: shows a line to whoever started the sandbox.
    """

    def __init__(self, session: Session, tell: Callable[[str], None]) -> None:
        self._session = session
        self._plan = session.plan
        self._tell = tell
        self._watch: FileWatch | None = None
        self._due: float | None = None
        self._latest = 0.0
        self._pid = 0
        self._cause = ""
        self._again = ""
        self._asked = False
        self._output = -1
        self._said = b""
        self._until: float | None = None

    def watch(self) -> None:
        """Follow the file from now on.

        :raises NemoclawError: this host cannot.
        """
        from .inotify import FileWatch

        try:
            self._watch = FileWatch(_file(self._plan))
        except OSError as error:
            raise NemoclawError(
                f"the policy cannot be watched: {error.strerror}",
                where=_file(self._plan),
                remedy="raise fs.inotify.max_user_instances or max_user_watches, or leave --watch "
                "out and `nemoclaw reload` after each change",
            ) from None

    def cause_of(self, pid: int) -> str:
        """Why a process asks for a reload: ``command``, or what it was started for here."""
        if not pid or pid != self._pid:
            return "command"
        self._asked = True
        return self._cause

    def register(self, poll: select.poll) -> None:
        """Wait for what this has to hear."""
        if self._watch is not None:
            poll.register(self._watch.descriptor, select.POLLIN)
        if self._output >= 0:
            poll.register(self._output, select.POLLIN)

    def serve(self, descriptor: int) -> bool:
        """Handle what happened on a descriptor; False if it is none of this."""
        if descriptor == self._output:
            self._hear()
        elif self._watch is not None and descriptor == self._watch.descriptor:
            self._watch.drain()
            now = time.monotonic()
            if self._due is None:
                self._latest = now + _ATTENTION
            self._due = min(now + _QUIET, self._latest)
        else:
            return False
        return True

    def waits(self) -> list[float]:
        """Seconds until :meth:`look` has something to do."""
        now = time.monotonic()
        return [each - now for each in (self._due, self._until) if each is not None]

    def look(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        if self._until is not None and now >= self._until:
            self._until = None
            os.kill(self._pid, 9)
        if self._watch is None or self._due is None or now < self._due:
            return
        self._due = None
        try:
            changed = self._watch.has_changed()
        except OSError:
            self._due = now + _RETRY  # Until the directory is there again.
            return
        if changed:
            self.ask("watch")

    def ask(self, cause: str) -> None:
        """Have the policy reloaded: now, or once more when a reload that goes on is done."""
        if self._pid:
            self._again = cause
            return
        self._cause, self._asked, self._said = cause, False, b""
        read, written = os.pipe2(os.O_CLOEXEC)
        try:
            self._pid = self._start(written)
        except OSError as error:
            os.close(read)
            self._refused(f"{sys.executable} cannot be started: {error.strerror}")
        else:
            self._output, self._until = read, time.monotonic() + _PATIENCE
        finally:
            os.close(written)

    def _start(self, output: int) -> int:
        root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        program = _PROGRAM.format(path=sys.path, root=root, name=self._session.name)
        return os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-S", "-c", program],
            {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_DUP2, output, 2),
            ],
            setpgroup=0,  # What is typed on the terminal is not for it.
            setsigmask=(),
        )

    def _hear(self) -> None:
        data = os.read(self._output, 4096)
        if data:
            self._said = (self._said + data)[:_TOLD]
            return
        os.close(self._output)
        self._output, self._until = -1, None
        _, status = os.waitpid(self._pid, 0)
        self._pid = 0
        said = self._said.decode("utf-8", "replace").rstrip("\n")
        if status and not self._asked:
            self._refused(said.removeprefix("nemoclaw: ") or "it could not be compiled")
        else:
            self._tell(said)
        again, self._again = self._again, ""
        if again:
            self.ask(again)

    def _refused(self, reason: str) -> None:
        """The policy in force stays."""
        from ..egress.questions import Operator
        from ..events.network import reload_refused

        self._session.log.append(
            reload_refused(
                self._session.context,
                policy=self._plan["policy"],
                reason=" ".join(line.strip() for line in reason.split("\n")[:2]),
                by=Operator(uid=os.getuid(), pid=os.getpid(), command="nemoclaw"),
                cause=self._cause,
            )
        )
        self._tell(f"nemoclaw: {self._session.name}: the policy in force stays: {reason}")

    def close(self) -> None:
        """Let go of everything; a reload that goes on is given up."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        if self._pid:
            os.kill(self._pid, 9)
            os.waitpid(self._pid, 0)
            self._pid = 0
        if self._output >= 0:
            os.close(self._output)
            self._output = -1
