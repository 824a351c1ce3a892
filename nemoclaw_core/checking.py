"""Is a policy file right? For ``nemoclaw policy check``: everything that is wrong in it, at once.

The plugins are asked too, as for a start: what they make of a policy depends on (policy, host)
alone. Asked about a host that can do everything, what they refuse is the policy's fault. What they
refuse or leave open only on this host, like a path that is not here, says nothing about the file:
that is noted, and the check runs anywhere.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator

import attrs
from nemoclaw_hookspecs.errors import LayerUnavailable, NemoclawError, PluginError, PolicyError
from nemoclaw_hookspecs.host import NAMESPACES, Host
from nemoclaw_hookspecs.policy import Origin, PluginPolicy, Policy

from .baseline import CORE, baseline
from .contract import place
from .pipeline import LAYER_HOOKS, compile_plan
from .plugins import PluginManager
from .policy import check
from .policy.context import Context
from .policy.locate import Located, look_through_file
from .policy.problems import Problem, refuse
from .policy.resolve import code_of, examine
from .policy.walk import Observer

STAND_IN = "/{workdir}"
"""Stands for the work directory where none is named. Looked at, it is an empty directory."""

_EVERY_LANDLOCK = 10
"""The newest Landlock ABI that there is."""
_PLACED = re.compile(r"(?P<file>.+?):(?P<line>\d+) (?P<key>.+?): (?P<what>.*)", re.DOTALL)


@attrs.frozen(slots=True, kw_only=True)
class Notes:
    """What would become of a policy on this host. The policy may be right all the same."""

    policy: str
    starts: bool
    """False when an agent would be refused."""
    lines: tuple[str, ...]


@attrs.frozen(slots=True, kw_only=True)
class Report:
    """A file without problems."""

    policies: tuple[str, ...]
    notes: tuple[Notes, ...]
    """For each policy that would not start, or not with all of it enforced."""
    linux: bool
    """False: nothing was asked of this host, and no agent can start on it."""


def check_file(path: str, workdir: str | None = None) -> Report:
    """Check a policy file, and every policy in it with the plugins that it enables.

    :param workdir: the work directory; with it, paths are looked up in it, and what is wrong with
        any path on this host is a problem of the policy and no note.
    :raises PolicyError: with every problem that was found, in file order.
    """
    context = Context.at(STAND_IN) if workdir is None else Context.here(workdir)
    source, shipped, problems = look_through_file(path, context)
    policies: list[Policy] = []
    notes: dict[str, list[Problem]] = {}
    # Where the file's own table cannot be read, these are the shipped ones.
    plugins = check.plugins(source, shipped, [])
    code = code_of(plugins, context)
    observer = Observer()
    if workdir is None:
        observer.note(STAND_IN, "lstat", f"directory:{context.uid}:{context.gid}")
    for name in source.document.policy:
        located = Located(source=source, name=name, shipped=shipped)
        policy, found = examine(located, context, observer, code)
        for each in found:
            if workdir is not None or not each.depends_on:
                problems.append(each)
            elif not each.depends_on.startswith(f"{STAND_IN}/"):
                notes.setdefault(name, []).append(each)
        if policy is not None:
            policies.append(policy)
    linux = sys.platform.startswith("linux")
    told: list[Notes] = []
    examination = _Examination(plugins, _host() if linux else None)
    problems += examination.broken_plugins(source.file)
    for policy in policies:
        problems += examination.problems(policy)
    if not problems:
        told = [examination.notes(policy, notes.get(policy.name, [])) for policy in policies]
    if problems:
        refuse(problems)
    return Report(
        policies=tuple(source.document.policy),
        notes=tuple(each for each in told if each.lines),
        linux=linux,
    )


class _Examination:
    """The plugins of one file, and what they say about its policies."""

    def __init__(self, plugins: PluginPolicy, host: Host | None) -> None:
        self.plugins = plugins
        self.failures = PluginManager().attempt(plugins)
        # Whatever is wrong with a plugin's own table, it can say what it makes of the rest.
        self.usable = attrs.evolve(
            plugins,
            options={
                name: table for name, table in plugins.options.items() if name not in self.failures
            },
        )
        self.manager = PluginManager()
        self.manager.attempt(self.usable)
        self.host = host
        self.able = _able_host(host)
        """A host like this one that can do everything."""
        self._right: Policy | None = None
        self._silent: Policy | None = None
        """The last policy without problems, and the last without notes, both without a name. One
        that adds nothing to what it extends is the same."""

    def broken_plugins(self, file: str) -> Iterator[Problem]:
        """What is wrong with the plugins themselves, and with their own tables."""
        for name, error in self.failures.items():
            where = place(self.plugins, "options", name) or place(self.plugins, "enable", name)
            yield from _problems(error, where or f"{file}:0 plugins.{name}")

    def problems(self, policy: Policy) -> list[Problem]:
        """What makes a policy wrong, whatever the host."""
        nameless = attrs.evolve(policy, name="")
        if nameless == self._right:
            return []
        if not self.failures:
            try:
                compile_plan(policy, self.able, self.manager)
                self._right = nameless
                return []
            except NemoclawError:
                pass  # The first of what may be several.
        where = f"{policy.file}:0 policy.{policy.name}"
        found = [
            problem
            for error in self._refusals(policy, self.able)
            if not isinstance(error.__cause__, LayerUnavailable)
            for problem in _problems(error, where)
        ]
        if not found and not self.failures:
            try:
                compile_plan(_lenient(policy), self.able, self.manager)
            except LayerUnavailable:
                return []
            except NemoclawError as error:
                found += _problems(error, where)
        return found

    def notes(self, policy: Policy, paths: list[Problem]) -> Notes:
        """What this host lacks for a policy without problems.

        :param paths: what was found about paths, and the caller.
        """
        lines = list(map(str, paths))
        starts = not paths
        nameless = attrs.evolve(policy, name="")
        if self.host is not None and nameless != self._silent:
            try:
                plan = compile_plan(_lenient(policy), self.host, self.manager)
            except NemoclawError as error:
                lines += map(str, _problems(error, f"{policy.file}:0 policy.{policy.name}"))
                return Notes(policy=policy.name, starts=False, lines=tuple(dict.fromkeys(lines)))
            # What holds, only less tightly than written, stops nothing: `nemoclaw doctor` shows it.
            loose = baseline(policy, self.host, frozenset()).weaknesses
            gaps = [
                f"{gap.origin or policy.name}: {gap.what} ({layer.plugin}): {gap.consequence}"
                f"\n    remedy: {gap.remedy}"
                for layer in plan.layers
                for gap in layer.gaps
                if layer.plugin != CORE or gap not in loose
            ]
            lines += gaps
            if not gaps:
                self._silent = nameless
            starts = starts and (not gaps or policy.compatibility == "best-effort")
        return Notes(policy=policy.name, starts=starts, lines=tuple(dict.fromkeys(lines)))

    def _refusals(self, policy: Policy, host: Host) -> Iterator[PluginError]:
        asked = attrs.evolve(policy, plugins=self.usable)
        for hook in LAYER_HOOKS:
            for outcome in self.manager.each(hook, policy=asked, host=host):
                if outcome.error is not None:
                    yield outcome.error


def _problems(error: NemoclawError, where: str) -> list[Problem]:
    """An error as problems of a file.

    :param where: what it is about where it does not say so itself.
    """
    # A plugin that refuses says in its own words what is wrong: who called it does not matter.
    told = error.__cause__ if isinstance(error.__cause__, PolicyError) else error
    listed = told.problems if isinstance(told, (PluginError, PolicyError)) else ()
    if not listed:
        text = f"{told.where or where}: {told.what}"
        listed = (f"{text} ({told.remedy})" if told.remedy else text,)
    return [_placed(each, where) for each in listed]


def _placed(text: str, where: str) -> Problem:
    """A problem with the place that its text begins with, else with another."""
    found = _PLACED.fullmatch(text)
    if found is None:
        found = _PLACED.fullmatch(f"{where}: {text}")
    if found is None:  # a key without a line
        return Problem(Origin(file=where, line=0, key="-"), text)
    origin = Origin(file=found["file"], line=int(found["line"]), key=found["key"])
    return Problem(origin, found["what"])


def _lenient(policy: Policy) -> Policy:
    """The policy, so that what a host lacks is listed and stops nothing."""
    return attrs.evolve(policy, compatibility="best-effort")


def _host() -> Host:
    # Not everywhere is there a kernel that could be asked.
    from .host import probe

    return probe()


def _able_host(host: Host | None) -> Host:
    machine = os.uname()
    return Host(
        machine=machine.machine if host is None else host.machine,
        kernel=machine.release if host is None else host.kernel,
        uid=os.geteuid(),
        gid=os.getegid(),
        landlock_abi=_EVERY_LANDLOCK,
        namespaces=NAMESPACES,
        seccomp=True,
        idmapped_mounts=True,
        cgroup="v2",
        cgroup_paths=(("memory", "/sys/fs/cgroup"), ("pids", "/sys/fs/cgroup")),
    )
