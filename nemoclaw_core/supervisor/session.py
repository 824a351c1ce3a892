"""One sandbox as the supervisor sees it: build it, start commands in it, learn how they end."""

from __future__ import annotations

import os
import time

from nemoclaw_hookspecs.errors import LauncherError, LayerFailed, NemoclawError

from ..events import ocsf
from ..events.record import Context
from ..launcher import wire
from ..trust import record_writable
from .stdio import check_given

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from ..events.log import EventLog
    from .gates import Gate
    from .launcher import Launcher

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Command:
    """A command to start in a sandbox.

    :param ttys: those of 0, 1, 2 that shall be a terminal of the sandbox's own.
    :param size: of that terminal: rows, columns.
    :param ignored_signals: what the command finds ignored, as it would without nemoclaw.
    """

    __slots__ = ("argv", "environment", "ignored_signals", "size", "ttys", "umask", "workdir")

    def __init__(
        self,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str],
        workdir: str,
        umask: int = 0o022,
        ttys: Sequence[int] = (),
        size: tuple[int, int] = (24, 80),
        ignored_signals: Sequence[int] = (),
    ) -> None:
        self.argv = list(argv)
        self.environment = dict(environment)
        self.workdir = workdir
        self.umask = umask
        self.ttys = list(ttys)
        self.size = list(size)
        self.ignored_signals = list(ignored_signals)

    def request(self) -> dict[str, Any]:
        """The plain values that the sandbox's init understands."""
        return {name: getattr(self, name) for name in self.__slots__}


def environment_for(
    plan: Mapping[str, Any],
    name: str,
    caller: Mapping[str, str],
    extra: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The agent's environment: nothing of the caller's but what the policy passes on.

    :param caller: the caller's environment.
    :param extra: variables that the user gave for this start (``--env``); they win.
    """
    user = "agent" if any(step["op"] == "set_user" for step in plan["steps"]) else ""
    user = user or caller.get("USER", "agent")
    environment = {
        "PATH": _DEFAULT_PATH,
        "HOME": plan["home"],
        "USER": user,
        "LOGNAME": user,
        "SHELL": "/bin/sh",
        "NEMOCLAW_SANDBOX": name,
    }
    for variable in plan["environment_pass"]:
        if variable in caller:
            environment[variable] = caller[variable]
    environment.update(plan["environment"])
    environment.update(extra or {})
    return environment


class Session:
    """A sandbox from its first event to its last.

    :param log: where the events go; every event is written before what it tells of is done.
    """

    def __init__(
        self,
        launcher: Launcher,
        plan: dict[str, Any],
        context: Context,
        log: EventLog,
        *,
        remove: tuple[str, ...] = (),
    ) -> None:
        self._launcher = launcher
        self._plan = plan
        self._context = context
        self._log = log
        self._commands: dict[int, tuple[Command, float]] = {}
        self._last = -1
        self.sockets: dict[str, int] = {}
        """Born in the sandbox's network namespace, by name, for the network service."""
        self.gate: Gate | None = None
        """What serves them, once somebody has taken them."""
        self.pid = 0
        self.left_behind = ""
        self.memory_kills = 0
        """Processes that the kernel ended for the memory limit; known when the sandbox is gone."""
        # Before the agent can write anything: what it leaves there must not pass for the user's.
        written = record_writable(plan)
        log.append(ocsf.nemoclaw_started(context))
        self._number, self.channel = launcher.spawn(context.sandbox, remove, written)

    @property
    def name(self) -> str:
        """The sandbox's name."""
        return self._context.sandbox

    @property
    def plan(self) -> dict[str, Any]:
        """What it was built from, encoded."""
        return self._plan

    @property
    def context(self) -> Context:
        """What its events have in common."""
        return self._context

    @property
    def log(self) -> EventLog:
        """Where its events go."""
        return self._log

    @property
    def owner(self) -> tuple[int, int] | None:
        """User and group that the sandbox's commands run as; None = the caller's."""
        for step in self._plan["steps"]:
            if step["op"] == "set_user":
                return int(step["uid"]), int(step["gid"])
        return None

    def wait_ready(self) -> None:
        """Wait until the launcher has confirmed every operation, and log its receipts.

        :raises LayerFailed: an operation failed; nothing was started.
        :raises LauncherError: the launcher refused the plan, or died.
        """
        while True:
            report = wire.receive_report(self.channel)
            if report is None:
                raise self._refused(LauncherError("the launcher died while building the sandbox"))
            kind, number, value, text, descriptors = report
            if kind == wire.READY:
                break
            if kind == wire.CREATED:
                self.pid = value
            elif kind == wire.SOCKET:
                self.sockets[text] = descriptors[0]
            elif kind == wire.UNCOVERED:
                raise self._refused(self.uncovered(text))
            elif kind == wire.FAILED:
                raise self._refused(self._failure(number, value, text))
        self._log.append(
            *(ocsf.layer_applied(self._context, **each) for each in _receipts(self._plan)),
            *(
                ocsf.gap_left(self._context, plugin=layer["plugin"], **gap)
                for layer in self._plan["layers"]
                for gap in layer["gaps"]
            ),
        )

    def _refused(self, error: NemoclawError) -> NemoclawError:
        self.channel.close()
        self.close_gate()
        self._log.append(ocsf.sandbox_refused(self._context, argv=(), error=error))
        return error

    def take_sockets(self) -> dict[str, int]:
        """The descriptors of the sandbox's network sockets, which are the caller's from now on."""
        taken, self.sockets = self.sockets, {}
        return taken

    def close_gate(self) -> None:
        """Cut the sandbox off. May be called twice."""
        gate, self.gate = self.gate, None
        if gate is not None:
            gate.close()
        for descriptor in self.take_sockets().values():
            os.close(descriptor)

    def _failure(self, index: int, number: int, text: str) -> NemoclawError:
        if index < 0:
            return LauncherError(f"the launcher could not build the sandbox: {text}")
        step = self._plan["steps"][index]
        if step["op"] == "mask" and number and text.endswith(f": {step['target']}"):
            from .refusals import unmaskable

            return unmaskable(step, number, text)
        return LayerFailed(
            f"{step['op']} ({step['plugin']}) failed: {text}",
            where=step["origin"] or None,
            remedy="`nemoclaw doctor` says what this host can enforce",
        )

    def start(self, command: Command, stdio: tuple[int, int, int]) -> int:
        """Start a command; the first one is the agent. Returns its number.

        Its start is confirmed by a ``STARTED`` report, or refused by ``NOT_STARTED``: hand that one
        to :meth:`refusal`. The event says that it is about to run, because it must outlive whatever
        happens after the command has begun.

        :raises EventLogError: the event could not be written; nothing was started.
        :raises UsageError: one of the streams would be a way out, see :mod:`.stdio`.
        """
        for stream, descriptor in enumerate(stdio):
            check_given(descriptor, stream)
        self._last += 1
        number = self._last
        self._log.append(
            ocsf.process_launched(
                self._context,
                argv=command.argv,
                pid=self.pid,
                uid=os.getuid() if self.owner is None else self.owner[0],
                workdir=command.workdir,
                role="agent" if number == 0 else "exec",
            )
        )
        self._commands[number] = (command, time.monotonic())
        self._request(("run", number, command.request()), stdio)
        return number

    def _request(self, message: tuple[Any, ...], descriptors: tuple[int, ...] = ()) -> None:
        try:
            wire.send_request(self.channel, message, descriptors)
        except (BrokenPipeError, ConnectionResetError):
            pass  # The sandbox has ended, and the report of that is on its way.

    def signal(self, number: int, signal: int, *, group: bool = False) -> None:
        """Send a signal to a command, or to its process group; to nobody, if it has ended."""
        # marshal knows no subclass of int, such as the enum of the standard library.
        self._request(("signal", number, int(signal), group))

    def kill(self) -> None:
        """End the sandbox at once."""
        self._launcher.kill(self._number)

    def receive(self) -> tuple[int, int, int, str, list[int]] | None:
        """The next report; None when the sandbox is gone and cleaned up.

        Reads one report and no more: a caller that has polled the channel must not wait here.
        """
        report = wire.receive_report(self.channel)
        if report is not None and report[0] == wire.CREATED:
            self.pid = report[2]  # Late: the launcher was slower than the sandbox.
        if report is not None and report[0] == wire.LEFT_BEHIND:
            self.left_behind = report[3]
        if report is not None and report[0] == wire.OUT_OF_MEMORY:
            self.memory_kills = report[2]
        return report

    def uncovered(self, text: str) -> NemoclawError:
        """The error for a view that lost mounts, whose paths are the text's lines; also logged."""
        paths = text.split("\n")
        self._log.append(ocsf.view_uncovered(self._context, paths=paths))
        from ..events.text import printable

        shown = ", ".join(map(printable, paths))
        return LayerFailed(
            f"the sandbox was ended: {shown} was removed or replaced on the host, which "
            "takes away what covered or held it",
            remedy="start again; while an agent runs, leave alone what its policy denies",
        )

    def refusal(self, number: int, value: int, text: str) -> NemoclawError:
        """The error for a command that could not be started, also logged."""
        from .refusals import not_started

        command, _ = self._commands.pop(number)
        error = not_started(self._plan, command, value, text, os.environ.get("PATH", ""))
        self._log.append(
            ocsf.sandbox_refused(
                self._context,
                argv=command.argv,
                error=error,
                role="agent" if number == 0 else "exec",
            )
        )
        return error

    def ended(self, number: int, status: int | None, reason: str = "") -> None:
        """Log how a command ended: a status as of waitpid(2), or None if it went with the rest."""
        command, began = self._commands.pop(number)
        code = signal = None
        if status is not None and os.WIFEXITED(status):
            code, how = os.WEXITSTATUS(status), "exited"
        else:
            signal, how = (9 if status is None else os.WTERMSIG(status)), "signaled"
        self._log.append(
            ocsf.process_ended(
                self._context,
                argv=command.argv,
                pid=self.pid,
                code=code,
                signal=signal,
                reason=reason or how,
                memory_kills=self.memory_kills,
                duration=time.monotonic() - began,
                role="agent" if number == 0 else "exec",
            )
        )

    def close(self) -> None:
        """The sandbox is gone: log it and let go of the channel."""
        for number in list(self._commands):
            self.ended(number, None)
        self.channel.close()
        self.close_gate()
        self._log.append(ocsf.nemoclaw_stopped(self._context))


def _receipts(plan: Mapping[str, Any]) -> list[dict[str, Any]]:
    """How many operations of each plugin were carried out in each phase."""
    from ..launcher.check import OPERATIONS

    counts: dict[tuple[str, str], int] = {}
    for step in plan["steps"]:
        place = (step["plugin"], OPERATIONS[step["op"]][0])
        counts[place] = counts.get(place, 0) + 1
    status = {layer["plugin"]: layer["status"] for layer in plan["layers"]}
    return [
        {
            "plugin": plugin,
            "phase": phase,
            "operations": count,
            "status": status.get(plugin, "full"),
        }
        for (plugin, phase), count in counts.items()
    ]
