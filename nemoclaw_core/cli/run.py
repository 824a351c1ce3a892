"""``nemoclaw run``: start a command behind the walls.

On the path of every start: see the import rule in ``nemoclaw_core/launcher/__init__.py``.
"""

from __future__ import annotations

import os
import sys

from nemoclaw_hookspecs.errors import (
    EventLogError,
    LayerUnavailable,
    NemoclawError,
    PluginError,
    UsageError,
)

from .. import names
from . import options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..supervisor.launcher import Launcher

USAGE = """\
usage: nemoclaw run [OPTION ...] -- COMMAND [ARGUMENT ...]

Run COMMAND behind the walls that a policy describes, and end as it ends.

  -p, --policy POLICY   FILE, FILE:NAME, or the NAME of a policy in ./policies.toml, in your own
                        policies.toml, or among those that ship (default: "default")
  -C, --workdir DIR     the folder that the policy calls {workdir} (default: the current one)
  -n, --name NAME       call the sandbox NAME (default: a random name)
  -e, --env NAME=VALUE  set a variable for the command; may be repeated
  -t, --timeout TIME    end the command after TIME with status 124: 90 (seconds), 500ms, 30s, 5m,
                        1h, 1d; 0 = never (default: process.timeout of the policy)
  -d, --detach          start in the background and print the sandbox's name
  -w, --watch           put the policy's network rules in force anew whenever its file changes
      --dry-run         print what would be done, in order, and stop
      --json            with --dry-run: as one JSON document
      --no-cache        compile the plan anew
"""
_FLAGS = ("--detach", "--watch", "--dry-run", "--json", "--no-cache", "--help")
_VALUED = ("--policy", "--workdir", "--name", "--env", "--timeout")
_SHORT = {
    "-p": "--policy", "-C": "--workdir", "-n": "--name", "-e": "--env", "-t": "--timeout",
    "-d": "--detach", "-w": "--watch", "-h": "--help",
}  # fmt: skip
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def main(argv: list[str]) -> int:
    """Run one command; returns its exit status."""
    given = options.parse(argv, _FLAGS, _VALUED, _SHORT, command="run")
    if "--help" in given.flags:
        print(USAGE, end="")
        return 0
    if not given.rest:
        raise UsageError(
            "there is no command to run",
            remedy="nemoclaw run -- COMMAND; see `nemoclaw run --help`",
        )
    if "" in given.rest[:1] or any("\0" in word for word in given.rest):
        raise UsageError(
            "the command is empty, or holds a NUL byte", remedy="name a program: nemoclaw run -- ls"
        )
    _check(given)
    name = given.last("--name")
    name = names.new_name() if name is None else names.check_name(name)
    if "--dry-run" in given.flags:
        from . import dry_run

        return dry_run.show(given)
    _check_stdio()
    if "--detach" in given.flags:
        from ..supervisor import detach

        return detach.run(name, lambda started: _run(given, name, started))
    return _run(given, name, None)


def _check(given: options.Options) -> None:
    """:raises UsageError: an option says nothing beside the others, or is malformed."""
    if "--dry-run" in given.flags and "--detach" in given.flags:
        raise UsageError(
            "--dry-run starts nothing, so --detach says nothing beside it",
            remedy="leave one of them out",
        )
    if "--dry-run" in given.flags and "--watch" in given.flags:
        raise UsageError(
            "--dry-run starts nothing, so --watch says nothing beside it",
            remedy="leave one of them out",
        )
    if "--json" in given.flags and "--dry-run" not in given.flags:
        raise UsageError(
            "--json says nothing without --dry-run: a run prints what its command prints",
            remedy="write nemoclaw run --dry-run --json -- COMMAND, or leave --json out",
        )
    timeout = given.last("--timeout")
    if timeout is not None:
        duration(timeout, "--timeout")
    options.check_path(options.environment(given), given.rest[0])


def _run(given: options.Options, name: str, started: Callable[[], None] | None) -> int:
    # The launcher is a copy of this process: made before anything heavy is imported.
    from ..launcher import kernel
    from ..supervisor.launcher import Launcher

    launcher = Launcher.fork()
    # Its memory holds the caller's environment: no core dump, no other process of the user.
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    try:
        return _supervise(launcher, given, name, started)
    finally:
        launcher.close()


def _supervise(
    launcher: Launcher, given: options.Options, name: str, started: Callable[[], None] | None
) -> int:
    from .. import planning
    from ..state import ensure_private, runtime_dir
    from ..workdir import choose_workdir

    workdir = choose_workdir(given.last("--workdir"), given.last("--policy"))
    launcher.search(workdir)
    try:
        planned = planning.load_plan(
            given.last("--policy"), workdir, use_cache="--no-cache" not in given.flags
        )
        plan = planned.prepare(options.environment(given))
        if planned.network.get("credentials"):
            planned.vault.withdraw(os.environ)
    except (LayerUnavailable, PluginError) as error:
        _log_refusal(name, given.rest, error)
        raise
    launcher.prepare(planned.filled(plan), (ensure_private(runtime_dir()),))
    # Imported while the launcher mounts what its sandboxes share.
    from ..events.record import Context
    from ..supervisor import foreground
    from ..supervisor.client import socket_path
    from ..supervisor.control import Control
    from ..supervisor.session import Command, Session, environment_for

    _warn_of_gaps(plan)
    timeout = given.last("--timeout")
    seconds = plan["timeout"] if timeout is None else duration(timeout, "--timeout")
    ttys = [descriptor for descriptor in (0, 1, 2) if os.isatty(descriptor)]
    command = Command(
        given.rest,
        environment=environment_for(plan, name, os.environ, options.environment(given)),
        workdir=_start_in(workdir),
        umask=_umask(),
        ttys=ttys,
        size=_terminal_size(ttys),
        ignored_signals=foreground.ignored_signals(),
    )
    watch = "--watch" in given.flags
    if watch:
        from ..supervisor.following import check_followed

        check_followed(plan)
    context = Context(name, policy=plan["policy"], policy_digest=planned.digest)
    log = planned.open_log(context)
    control = Control(name, plan, given.rest)
    session = None
    try:
        # The name is taken before anything is built: a second start of it changes nothing.
        control.listen()
        session = Session(launcher, plan, context, log, remove=(socket_path(name),))
        control.attach(session)
        session.wait_ready()
        planned.open_gate(session, context, log)
        front = foreground.Foreground(
            session, control, timeout=seconds, started=started, watch=watch
        )
        status = front.run(command)
        _tell_left_behind(session.left_behind)
    finally:
        if session is not None:
            session.close_gate()
        log.close()
        control.close()
        # Before this process ends, perhaps by the agent's signal: nothing may outlive it.
        launcher.close()
        planned.end_delivery()
    planned.post_exit(status, front.reason)
    if session.memory_kills or "kill" in planned.origins:
        from ..supervisor import endings

        if session.memory_kills:
            origin = planned.origins.get("max_memory", "")
            endings.tell_memory(name, plan, origin, session.memory_kills)
        if "kill" in planned.origins:
            endings.tell_forbidden_call(name, planned.origins["kill"], status)
    if front.timed_out:
        line = planned.origins.get("timeout") if timeout is None else "--timeout"
        remedy = "give it more time with --timeout TIME"
        if timeout is None:
            remedy += " (0 = no end), or in the policy with process.timeout"
        told = NemoclawError(f"{name} was ended after {seconds:g} s", where=line, remedy=remedy)
        sys.stderr.write(f"nemoclaw: {told}\n")
        return foreground.TIMEOUT_STATUS
    if started is not None:
        return os.waitstatus_to_exitcode(status)
    return foreground.end_like(status)


def _log_refusal(name: str, argv: list[str], error: NemoclawError) -> None:
    """Leave an event for a start that came to nothing because of the host or a plugin."""
    from ..events import ocsf
    from ..events.log import EventLog
    from ..events.record import Context

    context = Context(name)
    try:
        log = EventLog.open(name, context=context)
        try:
            log.append(ocsf.sandbox_refused(context, argv=argv, error=error))
        finally:
            log.close()
    except EventLogError as failed:
        sys.stderr.write(f"nemoclaw: {failed}\n")  # the refusal itself is told by the caller


def _check_stdio() -> None:
    """Put something in the place of standard streams that the caller has closed.

    Otherwise the next file that is opened would become one.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            if os.open(os.devnull, os.O_RDWR) != descriptor:
                raise UsageError(f"descriptor {descriptor} is closed") from None


def _start_in(workdir: str) -> str:
    """The current directory if it lies in the work directory, else the work directory."""
    from ..workdir import current_dir_or_none

    cwd = current_dir_or_none() or workdir
    return cwd if cwd == workdir or cwd.startswith(workdir.rstrip("/") + "/") else workdir


def _terminal_size(ttys: list[int]) -> tuple[int, int]:
    if not ttys:
        return 24, 80
    from ..supervisor import terminal

    return terminal.size_of(ttys[0])


def _umask() -> int:
    value = os.umask(0o077)
    os.umask(value)
    return value


def duration(text: str, option: str) -> float:
    """Seconds of a duration such as ``90``, ``30s``, ``5m``; a bare number is seconds.

    :param option: the option that it was given for.
    :raises UsageError: it is none.
    """
    number = text.rstrip("smhd")
    unit = text[len(number) :] or "s"
    try:
        seconds = float(number) * _UNITS[unit]
    except (ValueError, KeyError):
        seconds = -1.0
    if not 0 <= seconds < 1e9:
        raise UsageError(
            f"{text!r} is not a duration",
            where=option,
            remedy="write a number of seconds, or a number and ms, s, m, h or d: 90, 30s, 5m",
        )
    return seconds


def _warn_of_gaps(plan: dict[str, Any]) -> None:
    if plan["compatibility"] == "strict":
        return
    from ..events.text import printable

    for layer in plan["layers"]:
        for gap in layer["gaps"]:
            told = printable(f"{gap['what']}: {gap['consequence']}")
            sys.stderr.write(f"nemoclaw: not enforced ({layer['plugin']}): {told}\n")


def _tell_left_behind(left: str) -> None:
    """Warn; the command's exit status stays what it is."""
    if left:
        from ..events.text import printable

        paths = ", ".join(map(printable, left.split("\n")))
        sys.stderr.write(f"nemoclaw: the launcher could not remove {paths}\n")
