"""The policy in force, for a person and for a program: every value, and the line that says it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
from nemoclaw_hookspecs import Host, NetworkRule, Origin, Policy

from nemoclaw_core.events.text import printable

from .combine import CODE, WALLS
from .quantities import show_duration, show_size
from .requests import show_request

if TYPE_CHECKING:
    from ..plugins import PluginManager
    from .merge import Merged


@attrs.frozen(slots=True, kw_only=True)
class Value:
    """One value of a policy. ``origin`` is None where no file says it: it is built in."""

    domain: str
    key: str
    value: Any
    shown: str
    origin: Origin | None


def values(policy: Policy, idle: Sequence[Value] = ()) -> Iterator[Value]:
    """Every value of a policy, domain by domain, in reading order.

    :param idle: see :func:`idle_denials`.
    """
    yield from _filesystem(policy, idle)
    yield from _process(policy)
    yield from _syscalls(policy)
    yield from _network(policy)
    yield from _inference(policy)
    yield from _plugins(policy)


def idle_denials(policy: Policy, merged: Merged) -> tuple[Value, ...]:
    """What is written under ``deny`` and is none of the policy's rules: it has no more to deny.

    Such a line took the grants away that it covered, or nothing that is granted matches it.
    """
    used = {str(rule.origin) for rule in policy.filesystem.rules if rule.access == "deny"}
    return tuple(
        Value(
            domain="filesystem",
            key="deny",
            value={"path": each.value.text, "kind": "idle"},
            shown=f"{each.value.text}  (nothing left to deny)",
            origin=each.origin,
        )
        for each in merged.items("filesystem.deny")
        if str(each.origin) not in used
    )


def by_plugins(policy: Policy, host: Host, manager: PluginManager) -> dict[str, list[str]]:
    """What each loaded plugin says that it makes of the policy, by the plugin's name.

    A plugin may have a function ``explain(policy, host)`` beside its hooks, whose rows are shown
    as ``str`` gives them. Those without one are left out.

    :raises PluginError: a plugin's ``explain`` raised, or gave something that has no rows.
    """
    from ..contract import failure  # pluggy, which the policy itself does not need

    found: dict[str, list[str]] = {}
    for name in manager.loaded:
        try:
            explain = getattr(manager.get_plugin(name), "explain", None)
            if explain is not None:
                found[name] = [str(row) for row in explain(policy, host)]
        except (Exception, SystemExit) as error:
            raise failure(name, "explain", error) from error
    return found


def as_data(
    policy: Policy, plugins: Mapping[str, Sequence[str]], idle: Sequence[Value] = ()
) -> dict[str, Any]:
    """The policy as JSON: the hooks' view of it, with the origin of each value.

    :param plugins: what the plugins say, see :func:`by_plugins`.
    :param idle: see :func:`idle_denials`.
    """
    found: list[dict[str, Any]] = [
        {
            "domain": each.domain,
            "key": each.key,
            "value": each.value,
            "origin": None if each.origin is None else attrs.asdict(each.origin),
        }
        for each in values(policy, idle)
    ]
    return {
        "policy": policy.name,
        "file": policy.file,
        "compatibility": policy.compatibility,
        "workdir": policy.filesystem.workdir,
        "home": policy.filesystem.home,
        "values": found,
        "plugins": {name: list(rows) for name, rows in plugins.items()},
    }


def as_text(policy: Policy, cwd: str, idle: Sequence[Value] = ()) -> str:
    """The policy as a table for a terminal.

    :param cwd: file names below it are shown relative to it.
    :param idle: see :func:`idle_denials`.
    """
    rows = list(values(policy, idle))
    key_width = max(len(each.key) for each in rows)
    shown = [f"  {each.key:<{key_width}}  {each.shown}" for each in rows]
    width = min(max(map(len, shown)), 76)
    lines = [f"policy {policy.name} of {_file(policy.file, cwd)}"]
    domain = ""
    for each, text in zip(rows, shown, strict=True):
        if each.domain != domain:
            domain = each.domain
            lines += ["", domain]
        lines.append(f"{text:<{width}}  {_place(each.origin, cwd)}")
    # Paths may have been named by an agent.
    return "\n".join(map(printable, lines))


def plugins_as_text(plugins: Mapping[str, Sequence[str]]) -> str:
    """What the plugins say (see :func:`by_plugins`), under a heading each."""
    parts = (
        "\n".join((f"plugin {name}", *(f"  {printable(row)}" for row in plugins[name])))
        for name in plugins
    )
    return "\n\n".join(parts)


def _place(origin: Origin | None, cwd: str) -> str:
    if origin is None:
        return "built in"
    if origin in (WALLS, CODE):
        return "always, by nemoclaw" if origin == WALLS else "always: nemoclaw's own code"
    return f"{_file(origin.file, cwd)}:{origin.line}"


def _file(path: str, cwd: str) -> str:
    # Empty where the current directory is gone.
    return path.removeprefix(f"{cwd.rstrip('/')}/") if cwd else path


def _scalar(
    domain: str, key: str, value: Any, origins: Mapping[str, Origin], shown: str | None = None
) -> Value:
    return Value(
        domain=domain,
        key=key,
        value=value,
        shown=_plain(value) if shown is None else shown,
        origin=origins.get(key),
    )


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _list(
    domain: str, key: str, items: tuple[Any, ...], origins: Mapping[str, Origin]
) -> Iterator[Value]:
    for at, item in enumerate(items):
        origin = origins.get(f"{key}[{at}]")
        yield Value(domain=domain, key=key, value=item, shown=str(item), origin=origin)


def _filesystem(policy: Policy, idle: Sequence[Value]) -> Iterator[Value]:
    table, domain = policy.filesystem, "filesystem"
    order = ("read", "write", "deny")
    for rule in sorted(table.rules, key=lambda each: order.index(each.access)):
        note = {"missing": "  (not there)", "directory": ""}.get(rule.kind, f"  ({rule.kind})")
        yield Value(
            domain=domain,
            key=rule.access,
            value={"path": rule.path, "kind": rule.kind},
            shown=f"{rule.path}{note}",
            origin=rule.origin,
        )
    yield from idle
    for link in table.links:
        yield Value(
            domain=domain,
            key="link",
            value={"path": link.path, "target": link.target},
            shown=f"{link.path} -> {link.target}",
            origin=link.origin,
        )
    yield _scalar(domain, "tmp", table.tmp, table.origins)
    yield _scalar(domain, "compatibility", policy.compatibility, table.origins)


def _process(policy: Policy) -> Iterator[Value]:
    table, domain = policy.process, "process"
    origins = table.origins
    user = f"{table.uid}:{table.gid}" + ("  (not the caller)" if table.switch_user else "")
    yield _scalar(domain, "user", f"{table.uid}:{table.gid}", origins, user)
    yield _scalar(domain, "max_processes", table.max_processes, origins)
    memory = show_size(table.max_memory) if table.max_memory else "no limit"
    yield _scalar(domain, "max_memory", table.max_memory, origins, memory)
    yield _scalar(domain, "max_open_files", table.max_open_files, origins)
    timeout = show_duration(table.timeout) if table.timeout else "none"
    yield _scalar(domain, "timeout", table.timeout, origins, timeout)
    yield _scalar(domain, "gpu", table.gpu, origins)
    yield from _list(domain, "environment.pass", table.environment_pass, origins)
    for name, value in table.environment_set.items():
        yield Value(
            domain=domain,
            key="environment.set",
            value={"name": name, "value": value},
            shown=f"{name}={value!r}",
            origin=origins.get(f"environment.set.{name}"),
        )


def _syscalls(policy: Policy) -> Iterator[Value]:
    table, domain = policy.syscalls, "syscalls"
    yield _scalar(domain, "profile", table.profile, table.origins)
    yield from _list(domain, "allow", table.allow, table.origins)
    yield from _list(domain, "deny", table.deny, table.origins)
    yield _scalar(domain, "action", table.action, table.origins)


def _network(policy: Policy) -> Iterator[Value]:
    table, domain = policy.network, "network"
    yield _scalar(domain, "mode", table.mode, table.origins)
    yield _scalar(domain, "unknown", table.unknown, table.origins)
    if table.unknown == "ask":
        shown = show_duration(table.ask_timeout)
        yield _scalar(domain, "ask_timeout", table.ask_timeout, table.origins, shown)
    for rule in table.allow:
        value = {key: each for key, each in attrs.asdict(rule).items() if key != "origin"}
        yield Value(
            domain=domain, key="allow", value=value, shown=show_rule(rule), origin=rule.origin
        )


def show_rule(rule: NetworkRule) -> str:
    """A network rule on one line."""
    parts = [f"{rule.host}:{','.join(map(str, rule.ports))}"]
    if rule.name:
        parts.append(f'"{rule.name}"')
    if rule.binaries:
        parts.append("by " + ", ".join(each.path for each in rule.binaries))
    for label, requests in (("only", rule.http), ("not", rule.deny_http)):
        if requests:
            parts.append(f"{label} {', '.join(map(show_request, requests))}")
    if rule.tls != "auto":
        parts.append(f"tls {rule.tls}")
    if rule.addresses:
        parts.append("at " + ", ".join(rule.addresses))
    if rule.credential:
        parts.append(f"with credential {rule.credential}")
    return "  ".join(parts)


def _inference(policy: Policy) -> Iterator[Value]:
    table, domain = policy.inference, "inference"
    yield _scalar(domain, "default", table.default, table.origins)
    yield _scalar(domain, "sensitive", table.sensitive, table.origins)
    yield from _list(domain, "hosts", table.hosts, table.origins)
    for rule in table.rules:
        value = {key: each for key, each in attrs.asdict(rule).items() if key != "origin"}
        shown = f"{', '.join(rule.labels)} from {rule.min_confidence:g} -> {rule.route}"
        shown += f"  redact {_plain(rule.redact)}" if rule.redact else ""
        yield Value(domain=domain, key="rules", value=value, shown=shown, origin=rule.origin)
    for backend in table.backends.values():
        # A backend's own options can hold what is nobody else's business: names alone are shown.
        value = {"name": backend.name, "type": backend.type, "options": sorted(backend.options)}
        shown = f"{backend.name}  {backend.type}  ({', '.join(sorted(backend.options))})"
        yield Value(domain=domain, key="backends", value=value, shown=shown, origin=backend.origin)


def _plugins(policy: Policy) -> Iterator[Value]:
    table, domain = policy.plugins, "plugins"
    yield from _list(domain, "enable", table.enable, table.origins)
    yield from _list(domain, "required", table.required, table.origins)
    for name, options in table.options.items():
        for key in options:
            yield Value(
                domain=domain,
                key=name,
                value=key,
                shown=key,
                origin=table.origins.get(f"{name}.{key}"),
            )
