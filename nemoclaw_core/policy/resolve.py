"""From a selector to the policy that the hooks are given."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from nemoclaw_hookspecs import (
    BackendPolicy,
    BinaryRule,
    InferencePolicy,
    InferenceRule,
    NetworkPolicy,
    NetworkRule,
    Origin,
    PluginPolicy,
    Policy,
    ProcessPolicy,
    SyscallPolicy,
)

from nemoclaw_core import globs, written
from nemoclaw_core.observe import observe

from . import check, own_code
from .combine import Wall
from .context import Context
from .document import AllowTable, BinaryTable, RuleTable
from .identity import Identity, identity
from .locate import FILE_NAME, Located, candidates, locate
from .merge import Merged, Written, merge
from .patterns import PathPattern
from .problems import Misfit, Problem, quoted, refuse
from .requests import http_rule
from .rules import resolve_filesystem
from .secrets import plugins_missing, resolve_credentials
from .walk import Observation, Observer

MAX_PROCESSES = 512
MAX_MEMORY = 4 << 30
MAX_OPEN_FILES = 4096
"""What holds where no policy of the lineage says anything."""
VOUCHED = "no later start uses that file until you have vouched for it (`nemoclaw policy trust`)"
"""What keeps a policy file harmless that an agent has made (:mod:`nemoclaw_core.trust`)."""


def load(selector: str | None = None, *, context: Context) -> Policy:
    """The policy that ``selector`` means, checked, merged, with every path resolved.

    :param selector: ``NAME``, ``FILE``, ``FILE:NAME``, or None for ``default``.
    :raises PolicyError: with every problem that was found.
    """
    return load_observed(selector, context)[0]


def load_merged(selector: str | None, context: Context) -> tuple[Policy, Merged]:
    """Like :func:`load`; also what was written, before anything was looked up on the host.

    :raises PolicyError: with every problem that was found.
    """
    observer = Observer()
    located = locate(selector, context, observer)
    policy = resolve(located, context, observer)
    merged = merge(located.name, located.source, located.shipped, [])
    assert merged is not None, "it was resolved"
    return policy, merged


def load_observed(selector: str | None, context: Context) -> tuple[Policy, tuple[Observation, ...]]:
    """Like :func:`load`; also everything in the file system that the result depends on."""
    observer = Observer()
    located = locate(selector, context, observer)
    policy = resolve(located, context, observer)
    return policy, observer.observations()


def resolve(located: Located, context: Context, observer: Observer) -> Policy:
    """Resolve a policy that was found.

    :raises PolicyError: with every problem that was found.
    """
    policy, problems = examine(located, context, observer)
    if policy is None or problems:
        refuse(problems)
    return policy


def examine(
    located: Located,
    context: Context,
    observer: Observer,
    code: tuple[own_code.Code, ...] | None = None,
) -> tuple[Policy | None, list[Problem]]:
    """As :func:`resolve`, but return the problems with what could be resolved.

    :param code: what :func:`code_of` says of the plugins of the policy's file, where it was asked.
    :returns: the policy is None when it extends something that is not there. With any problem it
        may serve to look for more of them, never to run anything.
    :raises PolicyError: the work directory is not one.
    """
    problems: list[Problem] = []
    merged = merge(located.name, located.source, located.shipped, problems)
    plugins = check.plugins(located.source, located.shipped, problems)
    if merged is None:
        return None, problems
    process = _process(merged, _identity(merged, context, observer, problems))
    walls = _walls(merged, located, context)
    if code is None:
        code = code_of(plugins, context)
    filesystem = resolve_filesystem(merged, context, observer, walls, problems, code)
    network = network_of(merged, context, problems)
    problems += plugins_missing(network.credentials, plugins.enable)
    policy = Policy(
        name=located.name,
        file=located.source.file,
        compatibility=merged.get("filesystem.compatibility", "strict"),
        filesystem=filesystem,
        process=process,
        syscalls=_syscalls(merged),
        network=network,
        inference=_inference(merged),
        plugins=plugins,
    )
    return policy, problems


def code_of(plugins: PluginPolicy, context: Context) -> tuple[own_code.Code, ...]:
    """What nemoclaw and a policy's plugins are imported from.

    :raises PluginError: see :func:`.own_code.of_plugins`.
    """
    if context.own_code is None:
        return ()
    return context.own_code + own_code.of_plugins(plugins.enable)


def _walls(merged: Merged, located: Located, context: Context) -> tuple[Wall, ...]:
    """What no agent may reach, whatever its policy says."""
    walls = [
        Wall(path=path, what="nemoclaw's own directory", always=True)
        for path in context.private_paths
    ]
    if context.uid == 0:
        # What root's sandboxes could write, for everybody to read.
        path = os.path.dirname(written.SHARED)
        walls.append(Wall(path=path, what="nemoclaw's own directory", always=False))
    used = dict.fromkeys(source.file for source in merged.sources)
    used[located.shipped.file] = None
    walls += [Wall(path=path, what="the policy file in use", always=True) for path in used]
    # An agent that could create a policy file where the next start looks for one would choose its
    # own walls: these names are taken from it also while nothing is there.
    looked_up = dict.fromkeys((*candidates(context), os.path.join(context.workdir, FILE_NAME)))
    own = os.path.normpath(context.config_dir)
    walls += [
        Wall(
            path=path,
            what="a policy file",
            always=False,
            # The user's own file is used without being vouched for (`locate`).
            fallback="" if os.path.dirname(path) == own else VOUCHED,
        )
        for path in looked_up
        if path not in used
    ]
    for source in merged.sources:
        for credential in source.document.credential.values():
            walls += [
                Wall(path=_absolute(each, context), what="the file of a credential", always=False)
                for each in credential.files
            ]
    return tuple(walls)


def _identity(
    merged: Merged, context: Context, observer: Observer, problems: list[Problem]
) -> Identity:
    try:
        found = identity(merged.get("process.user", "auto"), context)
    except Misfit as error:
        origin = merged.scalars["process.user"].origin
        problems.append(Problem(origin, error.what, error.remedy, error.depends_on))
        return Identity(-1, -1, False)
    if found.looked_up:
        observer.note("/etc/passwd", "file", observe("/etc/passwd", "file"))
    return found


def _process(merged: Merged, who: Identity) -> ProcessPolicy:
    return ProcessPolicy(
        uid=who.uid,
        gid=who.gid,
        switch_user=who.switch,
        max_processes=merged.get("process.max_processes", MAX_PROCESSES),
        max_memory=merged.get("process.max_memory", MAX_MEMORY),
        max_open_files=merged.get("process.max_open_files", MAX_OPEN_FILES),
        timeout=merged.get("process.timeout", 0.0),
        environment_pass=_values(merged, "process.environment.pass"),
        environment_set={
            name: each.value for name, each in merged.table("process.environment.set").items()
        },
        gpu=merged.get("process.gpu", False),
        origins=merged.origins("process"),
    )


def _syscalls(merged: Merged) -> SyscallPolicy:
    return SyscallPolicy(
        profile=merged.get("syscalls.profile", "agent"),
        allow=_values(merged, "syscalls.allow"),
        deny=_values(merged, "syscalls.deny"),
        action=merged.get("syscalls.action", "errno"),
        origins=merged.origins("syscalls"),
    )


def network_of(merged: Merged, context: Context, problems: list[Problem]) -> NetworkPolicy:
    """The network policy alone, which nothing in the file system decides."""
    return NetworkPolicy(
        mode=merged.get("network.mode", "none"),
        unknown=merged.get("network.unknown", "deny"),
        ask_timeout=merged.get("network.ask_timeout", 120.0),
        allow=tuple(
            _network_rule(each, context, problems) for each in merged.items("network.allow")
        ),
        credentials=resolve_credentials(merged, lambda path: _absolute(path, context)),
        origins=merged.origins("network"),
    )


def _network_rule(
    written: Written[AllowTable], context: Context, problems: list[Problem]
) -> NetworkRule:
    rule = written.value
    return NetworkRule(
        host=rule.host,
        name=rule.name or "",
        ports=(443,) if rule.ports is None else tuple(rule.ports),
        binaries=tuple(
            _binary(each, context, written.inside("binaries", at), problems)
            for at, each in enumerate(rule.binaries or ())
        ),
        http=tuple(map(http_rule, rule.http or ())),
        deny_http=tuple(map(http_rule, rule.deny_http or ())),
        tls=rule.tls or "auto",
        addresses=tuple(rule.addresses or ()),
        credential=rule.credential,
        origin=written.origin,
    )


def _binary(
    binary: PathPattern | BinaryTable, context: Context, origin: Origin, problems: list[Problem]
) -> BinaryRule:
    table = BinaryTable(path=binary) if isinstance(binary, PathPattern) else binary
    path = _absolute(table.path, context)
    base = _absolute(PathPattern(table.path.anchor, ()), context)
    if globs.is_pattern(base):
        what = f"{quoted(base)} itself holds a `*`"
        problems.append(Problem(origin, what, "write the path out", base))
    # The kernel tells what a process executes by the path that no link is in.
    real = path if globs.is_pattern(path) else os.path.realpath(path)
    return BinaryRule(path=real, sha256=table.sha256)


def _inference(merged: Merged) -> InferencePolicy:
    return InferencePolicy(
        default=merged.get("inference.default", "deny"),
        sensitive=merged.get("inference.sensitive", "deny"),
        hosts=_values(merged, "inference.hosts"),
        rules=tuple(_inference_rule(each) for each in merged.items("inference.rules")),
        backends={
            name: BackendPolicy(
                name=name,
                type=each.value.type,
                options=each.value.options,
                origin=each.origin,
            )
            for name, each in merged.table("inference.backends").items()
        },
        origins=merged.origins("inference"),
    )


def _inference_rule(written: Written[RuleTable]) -> InferenceRule:
    rule = written.value
    redact: Any = rule.redact if rule.redact is not None else False
    return InferenceRule(
        labels=tuple(rule.labels),
        route=rule.route,
        min_confidence=0.5 if rule.min_confidence is None else rule.min_confidence,
        redact=redact,
        origin=written.origin,
    )


def _values(merged: Merged, key: str) -> tuple[Any, ...]:
    return tuple(each.value for each in merged.items(key))


def _absolute(pattern: PathPattern, context: Context) -> str:
    anchors: Mapping[str, str] = {"root": "", "workdir": context.workdir, "home": context.home}
    return "/".join((anchors[pattern.anchor].rstrip("/"), *pattern.segments)) or "/"
