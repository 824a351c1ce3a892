"""What one policy permits more, less, or otherwise than another, domain by domain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import attrs
from nemoclaw_hookspecs import Policy

from .access import permits
from .explain import show_rule
from .quantities import show_duration, show_size

Direction = Literal["more", "less", "other"]
DOMAINS = ("filesystem", "process", "syscalls", "network", "inference", "plugins")

_ACCESS = (None, "read", "write")
_TMP = ("none", "private", "shared")
_ACTION = ("kill", "errno", "log")


@attrs.frozen(slots=True, kw_only=True)
class Difference:
    """One respect in which the second policy is not the first.

    ``more`` and ``less`` say what the second permits compared with the first; ``other`` is
    neither: what is permitted there cannot be ordered.
    """

    domain: str
    direction: Direction
    what: str


def compare(first: Policy, second: Policy) -> list[Difference]:
    """Every difference that the agent could notice. Names, files and lines do not count."""
    found: list[Difference] = []
    for domain, differences in (
        ("filesystem", _filesystem(first, second)),
        ("process", _process(first, second)),
        ("syscalls", _syscalls(first, second)),
        ("network", _network(first, second)),
        ("inference", _inference(first, second)),
        ("plugins", _plugins(first, second)),
    ):
        for direction, what in differences:
            found.append(Difference(domain=domain, direction=direction, what=what))
    return found


def as_data(first: Policy, second: Policy, found: Sequence[Difference]) -> dict[str, Any]:
    """The comparison as JSON."""
    domains: dict[str, dict[str, list[str]]] = {
        domain: {"more": [], "less": [], "other": []} for domain in DOMAINS
    }
    for each in found:
        domains[each.domain][each.direction].append(each.what)
    return {
        "a": f"{first.file}:{first.name}",
        "b": f"{second.file}:{second.name}",
        "same": not found,
        "domains": domains,
    }


def as_text(first: Policy, second: Policy, found: Sequence[Difference]) -> str:
    """The comparison for a terminal: ``+`` the second permits more, ``-`` less, ``~`` other."""
    lines = [f"--- {first.name} ({first.file})", f"+++ {second.name} ({second.file})"]
    marks = {"more": "+", "less": "-", "other": "~"}
    for domain in DOMAINS:
        inside = [each for each in found if each.domain == domain]
        if inside:
            lines += ["", domain, *(f"  {marks[each.direction]} {each.what}" for each in inside)]
    return "\n".join(lines)


_Differences = Iterator[tuple[Direction, str]]


def _filesystem(first: Policy, second: Policy) -> _Differences:
    # What a policy permits changes only at the paths of its rules, so these are all one must ask.
    paths = {rule.path for each in (first, second) for rule in each.filesystem.rules}
    for path in sorted(paths):
        before, after = permits(first, path), permits(second, path)
        if before != after:
            what = f"{path}: {before or 'nothing'} -> {after or 'nothing'}"
            yield _order(_ACCESS.index(before), _ACCESS.index(after)), what
    yield from _ranked("tmp", first.filesystem.tmp, second.filesystem.tmp, _TMP)
    yield from _ranked(
        "compatibility", first.compatibility, second.compatibility, ("strict", "best-effort")
    )
    for name in ("workdir", "home"):
        yield from _other(name, getattr(first.filesystem, name), getattr(second.filesystem, name))


def _process(first: Policy, second: Policy) -> _Differences:
    a, b = first.process, second.process
    yield from _other("user", f"{a.uid}:{a.gid}", f"{b.uid}:{b.gid}")
    for name in ("max_processes", "max_open_files"):
        yield from _number(name, getattr(a, name), getattr(b, name), str)
    unlimited = float("inf")
    yield from _number("max_memory", a.max_memory or unlimited, b.max_memory or unlimited, _memory)
    yield from _number("timeout", a.timeout or unlimited, b.timeout or unlimited, _time)
    yield from _ranked("gpu", _switch(a.gpu), _switch(b.gpu), ("false", "true"))
    yield from _sets("environment passes", a.environment_pass, b.environment_pass)
    # The values can be secrets: what differs is told by name.
    for name in sorted({*a.environment_set, *b.environment_set}):
        before, after = a.environment_set.get(name), b.environment_set.get(name)
        if before != after:
            yield "other", f"environment sets {name} {_change(before, after)}"


def _syscalls(first: Policy, second: Policy) -> _Differences:
    a, b = first.syscalls, second.syscalls
    yield from _other("profile", a.profile, b.profile)
    yield from _sets("allows", a.allow, b.allow)
    for direction, what in _sets("denies", a.deny, b.deny):
        yield ("less" if direction == "more" else "more"), what
    yield from _ranked("action", a.action, b.action, _ACTION)


def _network(first: Policy, second: Policy) -> _Differences:
    a, b = first.network, second.network
    yield from _ranked("mode", a.mode, b.mode, ("none", "proxy"))
    yield from _ranked("unknown", a.unknown, b.unknown, ("deny", "ask"))
    times = show_duration(a.ask_timeout), show_duration(b.ask_timeout)
    yield from _other("ask_timeout", *times)
    before = [show_rule(attrs.evolve(each, name="")) for each in a.allow]
    after = [show_rule(attrs.evolve(each, name="")) for each in b.allow]
    yield from _sets("allows", before, after)


def _inference(first: Policy, second: Policy) -> _Differences:
    a, b = first.inference, second.inference
    yield from _other("default", a.default, b.default)
    yield from _other("sensitive", a.sensitive, b.sensitive)
    for before, after, sign in ((a, b, "without"), (b, a, "with")):
        for host in before.hosts:
            if host not in after.hosts:
                yield "other", f"{sign} host {host}"
    rules = [
        [(each.labels, each.min_confidence, each.route, each.redact) for each in table.rules]
        for table in (a, b)
    ]
    if rules[0] != rules[1]:
        yield "other", f"rules: {len(rules[0])} and {len(rules[1])}, not the same"
    yield from _tables("backend", _backends(first), _backends(second))


def _plugins(first: Policy, second: Policy) -> _Differences:
    a, b = first.plugins, second.plugins
    for direction, what in _sets("requires", a.required, b.required):
        yield ("less" if direction == "more" else "more"), what
    for name in sorted({*a.enable} ^ {*b.enable}):
        yield "other", f"{name} is {'enabled' if name in b.enable else 'not enabled'}"
    yield from _tables("table of plugin", a.options, b.options)


def _backends(policy: Policy) -> dict[str, object]:
    return {name: (each.type, each.options) for name, each in policy.inference.backends.items()}


def _tables(label: str, first: Mapping[str, object], second: Mapping[str, object]) -> _Differences:
    for name in sorted({*first, *second}):
        if first.get(name) != second.get(name):
            yield "other", f"{label} {name} {_change(first.get(name), second.get(name))}"


def _change(before: object, after: object) -> str:
    if before is None:
        return "is new"
    return "is gone" if after is None else "differs"


def _order(before: float, after: float) -> Direction:
    return "more" if after > before else "less"


def _other(name: str, before: str, after: str) -> _Differences:
    if before != after:
        yield "other", f"{name}: {before} -> {after}"


def _ranked(name: str, before: str, after: str, order: tuple[str, ...]) -> _Differences:
    if before != after:
        yield _order(order.index(before), order.index(after)), f"{name}: {before} -> {after}"


def _number(name: str, before: float, after: float, show: Any) -> _Differences:
    if before != after:
        yield _order(before, after), f"{name}: {show(before)} -> {show(after)}"


def _sets(verb: str, before: Sequence[str], after: Sequence[str]) -> _Differences:
    for each in after:
        if each not in before:
            yield "more", f"{verb} {each}"
    for each in before:
        if each not in after:
            yield "less", f"{verb} {each} no longer"


def _switch(value: bool) -> str:
    return "true" if value else "false"


def _memory(amount: float) -> str:
    return "no limit" if amount == float("inf") else show_size(int(amount))


def _time(seconds: float) -> str:
    return "none" if seconds == float("inf") else show_duration(seconds)
