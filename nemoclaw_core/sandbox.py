"""The Python interface: what the commands do, as objects, sync and async, safe to use from threads.

::

    from nemoclaw_core import Sandbox

    with Sandbox("default", workdir="/home/me/project") as sandbox:
        done = sandbox.run(["git", "status"], capture_output=True)
        print(done.returncode, done.stdout)

Each command runs in a sandbox of its own, gone when it ends. A ``Sandbox`` object is a pool: it
keeps a launcher process, the compiled plan, and a few sandboxes that are built and wait for a
command, so a short command starts in about the time of its own fork and exec.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from nemoclaw_hookspecs.errors import UsageError

from . import names, planning
from .accepted import (
    check_command,
    check_environment,
    check_policy,
    check_spare,
    check_timeout,
    descriptor,
    path_text,
)
from .events.record import Context
from .operating import Operating
from .process import Completed, Process
from .state import ensure_private, runtime_dir
from .streams import Pipes
from .supervisor.launcher import Launcher
from .supervisor.session import Command, Session, environment_for
from .workdir import choose_workdir

if TYPE_CHECKING:
    from .events.log import EventLog


class _Ready:
    """A sandbox that is built and waits for its command."""

    def __init__(self, session: Session, context: Context, log: EventLog) -> None:
        self.session = session
        self.context = context
        self.log = log


class Sandbox(Operating):
    """A policy in force for a work directory; runs commands, each in a sandbox of its own.

    :param policy: ``None`` for the policy ``default``, a NAME, a FILE or FILE:NAME.
    :param workdir: what the policy calls ``{workdir}``; the current directory if None.
    :param spare: how many built sandboxes to keep waiting. They are made after the first command,
        and cost about a megabyte each.
    :raises NemoclawError: the policy is invalid, or this host cannot enforce it.

    The policy is read, and its paths are resolved, once: when the object is made.
    """

    def __init__(
        self,
        policy: str | None = None,
        *,
        workdir: str | os.PathLike[str] | None = None,
        spare: int = 0,
    ) -> None:
        super().__init__()
        check_policy(policy)
        check_spare(spare)
        self._workdir = choose_workdir(path_text(workdir, "workdir"), policy)
        self._planned = planning.load_plan(policy, self._workdir)
        self._plan = self._planned.plan
        self._spare = spare
        self._waiting: deque[_Ready] = deque()
        self._lock = threading.Lock()
        filled = self._planned.filled(self._plan)
        self._launcher: Launcher | None = Launcher.execute()
        self._launcher.prepare(filled, (ensure_private(runtime_dir()),))

    @property
    def plan(self) -> Mapping[str, Any]:
        """The encoded plan (`nemoclaw run --dry-run --json`)."""
        return self._plan

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Sandbox:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """End every command that still runs, and the launcher. May be called twice."""
        with self._lock:
            launcher, self._launcher = self._launcher, None
            waiting = list(self._waiting)
            self._waiting.clear()
        if launcher is None:
            return
        self._end_questions()
        launcher.close()
        for ready in waiting:
            ready.session.close()
            ready.log.close()
        for process in list(self._running):
            process.settle()
        self._planned.end_delivery()

    def start(
        self,
        argv: Sequence[str],
        *,
        stdin: int | IO[Any] | None = None,
        stdout: int | IO[Any] | None = None,
        stderr: int | IO[Any] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Process:
        """Start a command and return at once; ``wait`` tells when it could not be executed.

        :param stdin: an open descriptor or file; None = this process's own. Likewise the others.
        :param cwd: where it starts; a relative path is below the work directory, which it is
            if None.
        :param env: variables beside those that the policy gives; they win.
        :raises UsageError: a stream is a socket of the host's network, or a directory.
        :raises LayerFailed: the sandbox could not be built.
        :raises EventLogError: its start could not be logged; it does not run.
        """
        check_command(argv)
        check_environment({} if env is None else env)
        # As `nemoclaw exec` does: a relative one is below the work directory.
        folder = os.path.join(self._workdir, path_text(cwd, "cwd") or "")
        streams = tuple(map(descriptor, (stdin, stdout, stderr), (0, 1, 2)))
        ready = self._take()
        try:
            command = Command(
                argv,
                environment=environment_for(
                    self._planned.prepare(env), ready.session.name, os.environ, env
                ),
                workdir=os.path.normpath(folder),
            )
            ready.session.start(command, (streams[0], streams[1], streams[2]))
        except BaseException:
            ready.session.kill()
            ready.log.close()
            raise
        process = Process(ready.session, ready.log, argv, self._running.discard)
        # Kept although the caller may not: a sandbox ends when its channel is closed.
        self._running.add(process)
        self._refill()
        return process

    def run(
        self,
        argv: Sequence[str],
        *,
        input: bytes | None = None,
        capture_output: bool = False,
        timeout: float | None = None,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Completed:
        """Run a command to its end.

        :param input: what it reads on standard input; nothing if None.
        :param capture_output: collect standard output and error.
        :param timeout: seconds after which it is ended; 0 is at once, as in :mod:`subprocess`.
            None is the policy's ``process.timeout``, and ``math.inf`` no limit whatever the policy
            says.
        :raises UsageError: an argument makes no sense, ``timeout=-1`` for instance.
        :raises CommandNotFound: it does not exist in the sandbox.
        :raises CommandNotExecutable: it cannot be executed.
        """
        return self._run(
            argv, input=input, capture_output=capture_output, timeout=timeout, cwd=cwd, env=env
        )

    def _run(
        self,
        argv: Sequence[str],
        *,
        input: bytes | None = None,
        capture_output: bool = False,
        timeout: float | None = None,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        started: Callable[[Process], None] | None = None,
    ) -> Completed:
        if input is not None and not isinstance(input, bytes):
            raise UsageError("input is bytes", remedy="encode the text: input=text.encode()")
        check_timeout(timeout, "the policy's process.timeout")
        with Pipes(input, capture=capture_output) as pipes:
            process = self.start(
                argv, stdin=pipes.given[0], stdout=pipes.given[1], stderr=pipes.given[2],
                cwd=cwd, env=env,
            )  # fmt: skip
            pipes.begin()
            if started is not None:
                started(process)
            limit = timeout if timeout is not None else (self._plan["timeout"] or None)
            timed_out = False
            try:
                status = process.wait(limit)
            except subprocess.TimeoutExpired:
                timed_out = True
                process.end("timeout")
                status = process.wait()
            except BaseException:
                process.kill()
                process.settle()
                raise
            stdout, stderr = pipes.collect()
        return Completed(
            argv=tuple(argv),
            returncode=status,
            stdout=stdout,
            stderr=stderr,
            sandbox=process.name,
            timed_out=timed_out,
        )

    async def run_async(self, argv: Sequence[str], **options: Any) -> Completed:
        """:meth:`run` without blocking the event loop. A cancelled call ends its command."""
        running: list[Process] = []
        work = asyncio.ensure_future(
            asyncio.to_thread(self._run, argv, started=running.append, **options)
        )
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            # The thread cannot be interrupted, but what it waits for can be ended.
            while not work.done():
                for process in running:
                    process.kill()
                await asyncio.wait((work,), timeout=0.05)
            raise

    def _take(self) -> _Ready:
        with self._lock:
            if self._launcher is None:
                raise UsageError("the Sandbox is closed")
            ready = self._waiting.popleft() if self._waiting else None
        if ready is None:
            ready = self._build()
        try:
            ready.session.wait_ready()
            self._planned.open_gate(ready.session, ready.context, ready.log)
            if ready.session.gate is not None:
                ready.session.gate.told = self._told
        except BaseException:
            ready.log.close()
            raise
        return ready

    def _build(self) -> _Ready:
        name = names.new_name()
        launcher = self._launcher
        if launcher is None:
            raise UsageError("the Sandbox is closed")
        context = Context(name, policy=self._plan["policy"], policy_digest=self._planned.digest)
        log = self._planned.open_log(context)
        try:
            return _Ready(Session(launcher, self._plan, context, log), context, log)
        except BaseException:
            log.close()
            raise

    def _refill(self) -> None:
        while len(self._waiting) < self._spare:
            self._waiting.append(self._build())
