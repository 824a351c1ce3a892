"""The plan for a start: from the cache, or compiled now.

Nothing heavy is imported before a plan has to be compiled.
"""

from __future__ import annotations

import _thread
import os
import sys

from nemoclaw_hookspecs.errors import PluginError, UsageError

from . import cache, imports
from .state import config_dir, ensure_private, private_dirs, settings_file, walled_dirs
from .workdir import current_dir_or_none, home_dir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from nemoclaw_hookspecs import Event, Policy

    from .credentials.vault import Vault
    from .events.log import EventLog
    from .events.record import Context as EventContext
    from .policy import Context
    from .supervisor.session import Session

_AROUND = frozenset({"pre_spawn", "post_exit"})


class Planned:
    """A plan with what is needed to use it.

    :param plan: encoded, as :mod:`nemoclaw_core.seal` says.
    :param hooks: the hooks around a start that enabled plugins implement; mostly none.
    :param sinks: the enabled plugins that implement ``on_event``; mostly none.
    :param digest: of all that the policy says.
    :param cached: True when nothing had to be compiled.
    :param origins: the policy lines to name when what they say has ended an agent: ``timeout``,
        ``max_memory``, ``kill`` (of system calls); without those that say nothing.
    :param network: the encoded network policy, where the plan has a network service.
    :param locked: what a reload may not change, where there is something to reload.
    :param plan_digest: of all but the network policy.
    :param judges: the enabled plugins that implement ``authorize_egress``; mostly none.
    """

    def __init__(
        self,
        plan: dict[str, Any],
        hooks: list[str],
        sinks: list[str],
        digest: str,
        selector: tuple[str | None, str],
        cached: bool,
        origins: dict[str, str] | None = None,
        network: dict[str, Any] | None = None,
        judges: Sequence[str] = (),
        locked: dict[str, str] | None = None,
        plan_digest: str = "",
    ) -> None:
        self.plan = plan
        self.hooks = hooks
        self.sinks = sinks
        self.digest = digest
        self.cached = cached
        self.origins = origins or {}
        self.network = network or {}
        self.plan_digest = plan_digest
        self.locked = locked or {}
        self.authorities: dict[str, Any] = {}
        """Certificate authority of each plugin's service; see :meth:`filled`."""
        self.upstream: Any = None
        """How this host reaches servers, where the user's settings say anything of it."""
        self._vault: Vault | None = None
        self._judges = judges
        self._selector = selector
        self._manager: Any = None
        self._bus: Any = None
        self._lock = _thread.allocate_lock()

    def prepare(self, given: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The plan to start with, after every plugin's ``pre_spawn``.

        :param given: variables that the user gives for this start.
        :raises PluginError: a plugin refused the start.
        :raises UsageError: a credential cannot be had, or one of ``given`` would show it.
        """
        plan = self.plan
        if "pre_spawn" in self.hooks:
            from . import seal
            from .pipeline import run_pre_spawn

            plan = seal.encode(run_pre_spawn(seal.decode(plan), self._plugins()))
        if self.network.get("credentials"):
            # Placeholders are of this start alone, so they are in no plan that is kept.
            shown = self.vault.variables(self.network["credentials"])
            self.vault.refuse_to_replace(self.network["credentials"], given)
            plan = {**plan, "environment": {**plan["environment"], **shown}}
        return plan

    @property
    def vault(self) -> Vault:
        """The secrets of the policy's credentials, and the placeholders that the agent sees."""
        with self._lock:
            if self._vault is None:
                from .credentials.vault import Vault

                self._vault = Vault(os.environ, self._fetch)
            return self._vault

    def _fetch(self, credential: Any) -> str:
        from .credentials.fetching import fetch

        return fetch(self._plugins, credential)

    def filled(self, plan: dict[str, Any]) -> dict[str, Any]:
        """A plan of this policy as the launcher takes it: with the files that are generated.

        Once for a launcher, whose sandboxes share what it shows. Makes :attr:`authorities`, and
        reads the user's settings, which it may have to show a part of.

        :raises PluginError: an authority cannot be made.
        :raises PolicyError: the user's settings are not valid.
        """
        if plan["services"] and os.path.lexists(settings_file()):
            from . import settings

            self.upstream = settings.read(os.environ, plan)
        if any(step.get("generated") for step in plan["steps"]):
            from .authorities import fill

            also = self.upstream.authorities if self.upstream is not None else ""
            plan, self.authorities = fill(plan, also)
        return plan

    def post_exit(self, status: int, reason: str) -> None:
        """Tell every plugin that the agent ended; a plugin that fails changes nothing."""
        if "post_exit" not in self.hooks:
            return
        from nemoclaw_hookspecs import ExitStatus

        from . import seal

        code = os.waitstatus_to_exitcode(status)
        ended = ExitStatus(
            code=code if code >= 0 else None,
            signal=-code if code < 0 else None,
            reason=reason or ("exited" if code >= 0 else "signaled"),  # type: ignore[arg-type]
        )
        for outcome in self._plugins().each("post_exit", plan=seal.decode(self.plan), status=ended):
            if outcome.error is not None:
                sys.stderr.write(f"nemoclaw: {outcome.error}\n")

    def open_log(self, context: EventContext) -> EventLog:
        """The log of a sandbox. Plugins that implement ``on_event`` get what is appended to it.

        :raises EventLogError: it cannot be opened.
        """
        from .events.log import EventLog

        log = EventLog.open(context.sandbox, context=context)
        if self.sinks:
            from .events.bus import EventBus

            with self._lock:
                if self._bus is None:
                    self._bus = EventBus(self.sinks, self._sink)
            try:
                self._bus.attach(context.sandbox, log, context)
            except BaseException:
                log.close()
                raise
        return log

    def open_gate(self, session: Session, context: EventContext, log: EventLog) -> None:
        """Serve the sockets that a sandbox's init has handed out, if there are any."""
        sockets = session.take_sockets()
        if not sockets:
            return
        from .supervisor.gates import GATES, Gate

        session.gate = Gate(sockets, self, context, log, session.pid)
        GATES.add(session.gate)

    def judges(self) -> list[tuple[str, Callable[..., Any]]]:
        """``authorize_egress`` of each plugin that has it, by the plugin's name."""
        plugins: Any = self._plugins() if self._judges else None

        def ask(name: str) -> Callable[..., Any]:
            return lambda request: plugins.one(name, "authorize_egress", request=request)

        return [(name, ask(name)) for name in self._judges]

    def end_delivery(self) -> None:
        """Give plugins a moment to take the events that they have not taken yet."""
        if self._bus is None:
            return
        for plugin in self._bus.close():
            sys.stderr.write(
                f"nemoclaw: plugin {plugin!r} did not take every event; the next start with it "
                "offers them again\n"
            )

    def _sink(self, plugin: str) -> Callable[[Event], Any]:
        """``on_event`` of one plugin, which raises what the plugin raises."""
        plugins = self._plugins()

        def deliver(event: Event) -> Any:
            outcome = plugins.one(plugin, "on_event", event=event)
            if outcome is None:
                raise PluginError(f"plugin {plugin!r} takes no events any more", plugin=plugin)
            if outcome.error is not None:
                raise outcome.error
            return outcome.value

        return deliver

    def _plugins(self) -> Any:
        with self._lock:
            if self._manager is None:
                from .plugins import PluginManager
                from .policy import load

                selector, workdir = self._selector
                manager = PluginManager()
                manager.load(load(selector, context=context_for(workdir)).plugins)
                self._manager = manager
            return self._manager


def load_plan(selector: str | None, workdir: str, *, use_cache: bool = True) -> Planned:
    """The plan for a policy in a work directory.

    :param selector: ``None``, ``NAME``, ``FILE`` or ``FILE:NAME`` as on the command line.
    :raises NemoclawError: the policy is invalid, or the host cannot enforce it.
    """
    asked = (selector, workdir)
    name = cache.key(
        # None is the default policy; an empty name is none, and told when it is looked up.
        repr(selector), workdir, home_dir(), current_dir_or_none() or "", config_dir(),
        *private_dirs(),
        *map(str, _ids()), *imports.identity(),
    )  # fmt: skip
    if use_cache:
        entry = cache.load(name)
        if entry is not None:
            return _planned(entry, asked, True)
    for path in private_dirs()[1:]:
        # Before anything looks for them: what is found now holds for the next start too.
        ensure_private(path)
    entry = _compile(context_for(workdir), selector)
    if use_cache:
        try:
            cache.store(name, entry)
        except OSError:
            pass  # A full disk, mostly. The next start compiles again, and nothing else is lost.
    return _planned(entry, asked, False)


def _planned(entry: dict[str, Any], asked: tuple[str | None, str], cached: bool) -> Planned:
    for note in entry["notes"]:
        sys.stderr.write(f"nemoclaw: {note}\n")
    return Planned(
        entry["plan"], entry["hooks"], entry["sinks"], entry["digest"], asked, cached,
        entry["origins"], entry["network"], entry["judges"], entry["locked"],
        entry["plan_digest"],
    )  # fmt: skip


def _ids() -> tuple[int, ...]:
    return os.getuid(), os.getgid(), os.geteuid(), os.getegid()


def context_for(workdir: str) -> Context:
    """What a policy is resolved against, for this caller."""
    from .policy import Context
    from .policy.own_code import of_this_process

    if os.getuid() != os.geteuid() or os.getgid() != os.getegid():
        raise UsageError(
            "nemoclaw was started with an effective user id that is not the real one",
            remedy="never install it setuid",
        )
    return Context(
        workdir=workdir,
        home=home_dir(),
        uid=os.getuid(),
        gid=os.getgid(),
        cwd=current_dir_or_none() or "",
        config_dir=config_dir(),
        private_paths=walled_dirs(),
        own_code=of_this_process(),
    )


def _origins(policy: Policy) -> dict[str, str]:
    process, syscalls = policy.process.origins, policy.syscalls.origins
    found = {key: str(process[key]) for key in ("timeout", "max_memory") if key in process}
    if policy.syscalls.action == "kill":
        found["kill"] = str(syscalls.get("action", ""))
    return found


def _compile(context: Context, selector: str | None) -> dict[str, Any]:
    """Compile a plan, with all that it was compiled from (see ``cache``)."""
    from . import host, seal
    from .egress.written import Written
    from .events.text import printable
    from .pipeline import compile_plan
    from .plugins import PluginManager
    from .policy import load_observed
    from .policy.locate import split_selector
    from .policy.locked import locked_values
    from .trust import FILE_NAME, record_used

    policy, observations = load_observed(selector, context=context)
    if split_selector(selector)[0] is None and policy.file == os.path.join(context.cwd, FILE_NAME):
        record_used(policy.file)
    manager = PluginManager()
    manager.load(policy.plugins)
    plan = seal.encode(compile_plan(policy, host.probe(), manager))
    network = seal.encode_value(policy.network) if plan["services"] else {}
    plan_digest = cache.key(repr(plan))
    hooks = {plugin: manager.hooks_of(plugin) for plugin in manager.loaded}
    return {
        "plan": plan,
        "hooks": sorted(_AROUND & {hook for implemented in hooks.values() for hook in implemented}),
        "sinks": [plugin for plugin, implemented in hooks.items() if "on_event" in implemented],
        "judges": [p for p, implemented in hooks.items() if "authorize_egress" in implemented],
        "network": network,
        "locked": locked_values(selector, context) if plan["services"] else {},
        "digest": Written.of(network).digest(plan_digest) if network else plan_digest,
        "plan_digest": plan_digest,
        "origins": _origins(policy),
        "notes": [
            *policy.filesystem.notes,
            *(printable(note) for layer in plan["layers"] for note in layer["notes"]),
        ],
        "observations": [list(each) for each in observations],
        "modules": cache.module_states(),
        "kernel": cache.running_kernel(),
    }
