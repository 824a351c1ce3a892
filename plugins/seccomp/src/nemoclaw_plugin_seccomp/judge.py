"""From a policy to one judgement for each system call that has a name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from . import groups, refused, sockets
from .arguments import STATIC
from .problems import check
from .profiles import PROFILES
from .rules import Answer, ArgumentRule

if TYPE_CHECKING:
    from nemoclaw_hookspecs import Host, Policy


@attrs.frozen(slots=True, kw_only=True)
class Judgement:
    """What the filter answers to one call, and why.

    ``rule`` narrows an ``answer`` of ``allow`` or ``log`` further.
    """

    call: str
    answer: Answer
    why: str
    rule: ArgumentRule | None = None


def profile_name(policy: Policy) -> str:
    """The profile in force: with ``process.gpu`` what CUDA needs is added to any profile."""
    name = policy.syscalls.profile
    if not policy.process.gpu or name == "gpu":
        return name
    return "gpu" if name == "agent" else f"{name}+gpu"


def judge(policy: Policy, host: Host) -> dict[str, Judgement]:
    """A judgement for every system call that a policy can name, by name.

    :raises PolicyError: the profile, the action or a name is unknown, ``allow`` asks for what
        would move the walls, or ``deny`` takes what an agent cannot be started without. Every
        problem is listed.
    """
    # What the host could make protects nothing unless an enabled plugin asks for it.
    host = attrs.evolve(host, namespaces=host.made_by(policy.plugins.enable))
    check(policy, host)
    found: dict[str, Judgement] = {}

    def give(answer: Answer, group: groups.Group, why: str = "") -> None:
        reason = f"{group.name}: {why or group.why}"
        for call in group.calls:
            found[call] = Judgement(call=call, answer=answer, why=reason)

    # `log` lets through what is merely unlisted. It never opens what moves the walls.
    unlisted: Answer = "log" if policy.syscalls.action == "log" else "refuse"
    for group in PROFILES["gpu"]:
        give(unlisted, group, f"not in the profile {profile_name(policy)}")
    for group in refused.ON_REQUEST:
        give(unlisted if refused.may_be_allowed(group, host) else "refuse", group)
    for group in refused.NEVER:
        give("refuse", group)
    for group in (*refused.ABSENT_NEVER, *refused.ABSENT_ON_REQUEST):
        give("ENOSYS", group)
    for group in PROFILES[policy.syscalls.profile]:
        give("allow", group)
    if policy.process.gpu:
        give("allow", groups.GPU)
    if "ipc" not in host.namespaces:
        give("refuse", groups.IPC, "this host has no IPC namespace, the host's would be reached")
    for call in policy.syscalls.allow:
        if found[call].answer != "allow":
            found[call] = Judgement(call=call, answer="allow", why="the policy allows it")
    for call, rule in {**STATIC, **sockets.rules(policy, host)}.items():
        if found[call].answer in ("allow", "log"):
            found[call] = (
                attrs.evolve(found[call], rule=rule)
                if rule
                else Judgement(call=call, answer="refuse", why=sockets.CLOSED)
            )
    for call in policy.syscalls.deny:
        found[call] = Judgement(call=call, answer="refuse", why="the policy denies it")
    return found
