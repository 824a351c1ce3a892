"""What a policy's ``[syscalls]`` table may not say, and the error that says so."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from nemoclaw_hookspecs import PolicyError

from . import refused
from .profiles import PROFILES, STARTING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nemoclaw_hookspecs import Host, Policy

    Problem = tuple[str, str, str]
    """Where, what, remedy."""

ACTIONS = ("errno", "kill", "log")

_GROUPS = (*PROFILES["gpu"], *refused.ALL)
NAMES = frozenset(call for group in _GROUPS for call in group.calls)
"""Every name that a policy may write."""


def origin(policy: Policy, key: str, index: int | None = None) -> str:
    """The policy line of a key of ``[syscalls]``, or of one of its list items."""
    origins = policy.syscalls.origins
    if index is not None and f"{key}[{index}]" in origins:
        return str(origins[f"{key}[{index}]"])
    if key in origins:
        where = str(origins[key])
        return where if index is None else f"{where}[{index}]"
    suffix = "" if index is None else f"[{index}]"
    return f"{policy.file} policy.{policy.name}.syscalls.{key}{suffix}"


def check(policy: Policy, host: Host) -> None:
    """:raises PolicyError: listing every problem of the table at once."""
    problems = [*_scalars(policy), *_allow(policy, host), *_deny(policy)]
    if len(problems) == 1:
        where, what, remedy = problems[0]
        raise PolicyError(what, where=where, remedy=remedy)
    if problems:
        raise PolicyError(
            f"{len(problems)} problems with system calls in {policy.file}",
            problems=tuple(f"{where}: {what} ({remedy})" for where, what, remedy in problems),
        )


def _nearest(word: str, among: Iterable[str]) -> str:
    close = get_close_matches(word, sorted(among), n=1)
    return f"did you mean {close[0]}?" if close else "see syscalls(2) for the names"


def _scalars(policy: Policy) -> Iterator[Problem]:
    if policy.syscalls.profile not in PROFILES:
        what = f"there is no profile {policy.syscalls.profile!r}"
        yield origin(policy, "profile"), what, f"use one of {', '.join(PROFILES)}"
    if policy.syscalls.action not in ACTIONS:
        what = f"there is no action {policy.syscalls.action!r}"
        yield origin(policy, "action"), what, f"use one of {', '.join(ACTIONS)}"


def _allow(policy: Policy, host: Host) -> Iterator[Problem]:
    forbidden = {
        call: group
        for group in _GROUPS
        if not refused.may_be_allowed(group, host)
        for call in group.calls
    }
    for index, call in enumerate(policy.syscalls.allow):
        where = origin(policy, "allow", index)
        if call not in NAMES:
            yield where, f"unknown system call {call!r}", _nearest(call, NAMES)
        elif call in forbidden:
            group = forbidden[call]
            why = group.why
            if group in refused.NEEDS_NAMESPACE:
                missing = refused.NEEDS_NAMESPACE[group]
                why = f"it would reach the host's {group.name}, it has no {missing} namespace"
            what = f"{call} cannot be allowed: {why}"
            yield where, what, "remove the name"


def _deny(policy: Policy) -> Iterator[Problem]:
    for index, call in enumerate(policy.syscalls.deny):
        where = origin(policy, "deny", index)
        if call not in NAMES:
            yield where, f"unknown system call {call!r}", _nearest(call, NAMES)
        elif call in STARTING.calls:
            what = f"without {call} no agent can be started or waited for"
            yield where, what, "remove the name"
