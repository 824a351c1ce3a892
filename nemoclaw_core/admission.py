"""May this plugin ask for this? Judged before anything is combined.

A plugin that the policy requires builds the walls and may ask for whatever a plugin can ask for.
Any other can only narrow: restrict, cover, or show again what the policy grants.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable

from nemoclaw_hookspecs.errors import LauncherError, PluginError
from nemoclaw_hookspecs.host import NAMESPACES, Host
from nemoclaw_hookspecs.plan import Step
from nemoclaw_hookspecs.policy import PathRule, Policy
from nemoclaw_hookspecs.seal import (
    BindMount,
    Devices,
    Directory,
    EnterView,
    Gap,
    JoinCgroup,
    LandlockRuleset,
    Layer,
    Listen,
    Mask,
    Netlink,
    Operation,
    Proc,
    Rlimit,
    SetUser,
    Symlink,
    Unshare,
)

from . import seal

_ENTRY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_CORE_ALONE = (SetUser, JoinCgroup)
_REQUIRED_ALONE = (Devices, EnterView, Listen, Netlink, Proc)


def admit(plugin: str, hook: str, layer: Layer, policy: Policy, host: Host) -> tuple[Step, ...]:
    """The steps of a plugin's layer, after checking each.

    :raises PluginError: naming plugin, hook and operation: it is malformed, only the core or only
        a required plugin may ask for it, or it would widen what the policy grants.
    """
    required = plugin in policy.plugins.required
    if type(layer.operations) is not tuple or type(layer.gaps) is not tuple:
        raise PluginError(
            f"plugin {plugin!r}: {hook} gave a layer whose parts are no tuples", plugin=plugin
        )
    for entry in filter(None, (layer.service, layer.authority)):
        if not required or not _ENTRY.fullmatch(entry):
            why = "which is no MODULE:FUNCTION" if required else "which only a required plugin may"
            raise PluginError(
                f"plugin {plugin!r}: {hook} names a service, {entry!r}, {why}", plugin=plugin
            )
    if layer.environment and not required:
        raise PluginError(
            f"plugin {plugin!r}: {hook} sets variables, which only a required plugin may",
            plugin=plugin,
        )
    for gap in layer.gaps:
        problem = _gap_problem(gap)
        if problem:
            raise PluginError(f"plugin {plugin!r}: {hook} gave a gap {problem}", plugin=plugin)
    for operation in layer.operations:
        problem = _malformed(operation)
        if not problem and isinstance(operation, _CORE_ALONE):
            problem = "only the core may ask for"
        if not problem and not required:
            problem = _widening(operation, policy, host)
        if problem:
            name = type(operation).__name__
            raise PluginError(
                f"plugin {plugin!r}: {hook} asks for {name}, which {problem}",
                plugin=plugin,
                where=getattr(operation, "origin", None) or None,
            )
    return tuple(Step(plugin=plugin, operation=operation) for operation in layer.operations)


def check_targets(steps: Iterable[Step], policy: Policy) -> None:
    """Refuse names that an optional plugin would have made inside a directory of the host.

    Directories and links of the view are made, not mounted. Below a bind mount that would change
    the host.

    :raises PluginError: naming the plugin.
    """
    steps = tuple(steps)
    hosted = {step.operation.target for step in steps if isinstance(step.operation, BindMount)}
    for step in steps:
        operation = step.operation
        if (
            isinstance(operation, (Directory, Symlink))
            and step.plugin not in policy.plugins.required
            and any(is_below(operation.target, host_path) for host_path in hosted)
        ):
            raise PluginError(
                f"plugin {step.plugin!r} asks for {type(operation).__name__} at "
                f"{operation.target}, inside a directory of the host",
                plugin=step.plugin,
            )


def is_below(path: str, directory: str) -> bool:
    """True when ``path`` lies strictly inside ``directory``; both absolute and normal."""
    return path != directory and path.startswith(directory.rstrip("/") + "/")


def _gap_problem(gap: object) -> str | None:
    try:
        seal.check(gap)
    except LauncherError as error:
        return f"that is malformed: {error.what}"
    assert isinstance(gap, Gap)
    missing = [name for name in ("what", "consequence", "remedy") if not getattr(gap, name)]
    return f"without {' and '.join(missing)}" if missing else None


def _malformed(operation: Operation) -> str | None:
    try:
        seal.check(operation)
    except LauncherError as error:
        return f"is malformed: {error.what}"
    paths = [getattr(operation, name, "/") for name in ("source", "target", "parent")]
    if isinstance(operation, LandlockRuleset):
        paths += [rule.path for rule in operation.rules]
    for path in paths:
        if not _is_normal(path):
            return f"names {path!r}: a path is absolute and normal"
    below = operation.masked if isinstance(operation, Proc) else ()
    below += operation.names if isinstance(operation, Devices) else ()
    for name in below:
        if not name or not _is_normal(f"/{name}"):
            return f"names {name!r}, which is not below its target"
    if isinstance(operation, Rlimit) and operation.value < 0:
        return f"sets {operation.resource} to {operation.value}"
    if isinstance(operation, Unshare) and not set(operation.namespaces) <= set(NAMESPACES):
        return f"names a namespace that is none of {', '.join(NAMESPACES)}"
    return None


def _is_normal(path: str) -> bool:
    return (
        path.startswith("/")
        and not path.startswith("//")
        and posixpath.normpath(path) == path
        and "\0" not in path
    )


def _widening(operation: Operation, policy: Policy, host: Host) -> str | None:
    """Why a plugin that the policy does not require may not ask for an operation."""
    if isinstance(operation, _REQUIRED_ALONE):
        return "only a plugin in plugins.required may ask for"
    if isinstance(operation, Unshare) and "user" in operation.namespaces and host.is_root:
        return "would give the agent capabilities of a user namespace"
    if isinstance(operation, Mask) and operation.kind == "missing":
        # Its anchor is a directory that is made on the host.
        if not _may(policy, operation.target, write=True):
            return f"would make {operation.target}, where the policy grants no writing"
        return None
    if isinstance(operation, BindMount):
        return _widening_mount(operation, policy)
    return None


def _widening_mount(mount: BindMount, policy: Policy) -> str | None:
    if mount.source != mount.target:
        # Elsewhere, the masks and read-only islands that lie inside it would be missing.
        return f"would show {mount.source} under another name, {mount.target}"
    if not _may(policy, mount.source, write=not mount.read_only):
        access = "reading" if mount.read_only else "writing"
        return f"would widen the policy: no rule grants {access} {mount.source}"
    if mount.owner is not None:
        return f"would change who owns {mount.source}"
    rule = _nearest_rule(policy, mount.source)
    if mount.kind == "device" and (
        rule is None or rule.path != mount.source or rule.kind != "device"
    ):
        return f"would open devices at {mount.source}, which no rule names"
    return None


def _may(policy: Policy, path: str, *, write: bool) -> bool:
    rule = _nearest_rule(policy, path)
    return rule is not None and (rule.access == "write" or not write)


def _nearest_rule(policy: Policy, path: str) -> PathRule | None:
    """The read or write rule that decides for a path; None when there is none or it is denied."""
    above = [
        rule for rule in policy.filesystem.rules if rule.path == path or is_below(path, rule.path)
    ]
    if any(rule.access == "deny" for rule in above):
        return None
    # At one path the narrower rule decides.
    return max(above, key=lambda rule: (len(rule.path), rule.access == "read"), default=None)
