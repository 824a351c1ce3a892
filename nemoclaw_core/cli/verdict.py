"""Would an agent start under this policy, on this host? For ``nemoclaw doctor``."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import attrs
from nemoclaw_hookspecs import LayerStatus, NemoclawError
from nemoclaw_hookspecs.errors import LayerUnavailable
from nemoclaw_hookspecs.host import Host
from nemoclaw_hookspecs.policy import Policy
from nemoclaw_hookspecs.seal import EnterView, Gap

from ..baseline import CORE, baseline
from ..pipeline import compile_plan
from ..plugins import PluginManager
from ..policy import Context, load
from ..policy.access import decisive

PROGRAMS = ("sh", "python3", "git", "node")
"""Commands that agents start most; an agent that cannot is reported."""


@attrs.frozen(slots=True, kw_only=True)
class Unreachable:
    """A command of the caller's PATH that the agent cannot execute."""

    command: str
    path: str
    because: str
    remedy: str = ""
    """Empty where the agent is served as well by what it gets instead."""
    instead: str = ""
    """What the agent gets by that name: the next one on the PATH. Empty: nothing."""


@attrs.frozen(slots=True, kw_only=True)
class Verdict:
    """What became of compiling one policy."""

    policy: str
    """``FILE:NAME``, or the selector when it could not be read."""
    compatibility: str = ""
    runs: bool = False
    """As written."""
    strict: bool = False
    """With ``compatibility = "strict"``."""
    error: NemoclawError | None = None
    """Why it cannot run at all, on any terms."""
    layers: tuple[LayerStatus, ...] = ()
    blocking: tuple[Gap, ...] = ()
    """The gaps, out of those of ``layers``, that strict refuses."""
    unreachable: tuple[Unreachable, ...] = ()


def judge(selector: str | None, context: Context, host: Host) -> Verdict:
    """Compile a policy for ``host``, on its own terms and on strict ones."""
    name = selector or "default"
    try:
        policy = load(selector, context=context)
    except NemoclawError as error:
        return Verdict(policy=name, error=error)
    name = f"{policy.file}:{policy.name}"
    manager = PluginManager()
    try:
        manager.load(policy.plugins)
        plan = compile_plan(attrs.evolve(policy, compatibility="best-effort"), host, manager)
    except NemoclawError as error:
        return Verdict(policy=name, compatibility=policy.compatibility, error=error)
    try:
        compile_plan(attrs.evolve(policy, compatibility="strict"), host, manager)
        strict = True
    except LayerUnavailable:
        strict = False
    # The core's layer also lists limits that hold, only less tightly than written.
    loose = baseline(policy, host, frozenset()).weaknesses
    blocking = [
        gap
        for layer in plan.layers
        for gap in layer.gaps
        if layer.plugin != CORE or gap not in loose
    ]
    view = any(isinstance(step.operation, EnterView) for step in plan.steps)
    return Verdict(
        policy=name,
        compatibility=policy.compatibility,
        runs=strict or policy.compatibility == "best-effort",
        strict=strict,
        layers=plan.layers,
        blocking=tuple(blocking),
        unreachable=tuple(_unreachable(policy, view)),
    )


def _unreachable(policy: Policy, view: bool) -> Iterator[Unreachable]:
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    for command in PROGRAMS:
        first: Unreachable | None = None
        for folder in folders:
            path = os.path.join(folder, command)
            if not folder.startswith("/") or shutil.which(path) is None:
                continue
            problem = _barrier(policy, path, view)
            if problem is None:
                if first is not None:
                    first = attrs.evolve(first, instead=path)
                break
            if first is None:
                first = Unreachable(
                    command=command, path=path, because=problem[0], remedy=problem[1]
                )
        if first is None:
            continue
        if first.instead and decisive(policy, first.path) is None:
            # Nothing to mend: it has one, and the first may need more than its own folder. A
            # wrapper in front of the program itself, as version managers have, is not missed.
            if _is_script(first.path):
                continue
            first = attrs.evolve(first, remedy="")
        yield first


def _is_script(path: str) -> bool:
    """True for a wrapper: what it runs in the end lies somewhere else."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read(2) == b"#!"
    except OSError:
        return False


def _barrier(policy: Policy, path: str, view: bool) -> tuple[str, str] | None:
    """Why the agent cannot execute ``path``, and the remedy; None when it can."""
    # A link must be there to be followed, and what it leads to as well.
    link = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
    for each in dict.fromkeys((link, os.path.realpath(path))):
        problem = _hidden(policy, path, each) or _closed(policy, each, view)
        if problem is not None:
            return problem
    return None


def _hidden(policy: Policy, program: str, path: str) -> tuple[str, str] | None:
    rule = decisive(policy, path)
    if rule is not None and rule.access == "deny":
        return f"is denied by {rule.origin}", "install the program below /usr"
    if rule is not None or any(link.path == path for link in policy.filesystem.links):
        return None
    if _is_script(path):
        # Its folder alone would be worse than nothing: it would be found, and fail.
        because = "is" if path == program else f"leads to {path}, which is"
        return (
            f"{because} not in the policy, and a script that starts it from elsewhere",
            "install the program below /usr",
        )
    folder = os.path.dirname(path)
    if os.path.basename(folder) in ("bin", "sbin"):
        folder = os.path.dirname(folder)
    because = "is" if path == program else f"needs {path}, which is"
    return f"{because} not in the policy", f'read = ["{folder}"], or install the program below /usr'


def _closed(policy: Policy, path: str, view: bool) -> tuple[str, str] | None:
    rule = decisive(policy, path)
    if rule is None:
        return None
    who = policy.process
    # In a view, what lies above the rule's path is the view's own and can be entered.
    first = rule.path if view else "/"
    walked = path
    while True:
        found = os.stat(walked)
        if not _executable(found, who.uid, who.gid):
            return (
                f"cannot be started by uid {who.uid}, as which the agent runs: {walked} has mode "
                f"{found.st_mode & 0o7777:o} and owner {found.st_uid}",
                f"chmod o+x {walked}, or install the program below /usr",
            )
        if walked in (first, "/"):
            return None
        walked = os.path.dirname(walked)


def _executable(found: os.stat_result, uid: int, gid: int) -> bool:
    if found.st_uid == uid:
        return bool(found.st_mode & 0o100)
    if found.st_gid == gid:
        return bool(found.st_mode & 0o010)
    return bool(found.st_mode & 0o001)
