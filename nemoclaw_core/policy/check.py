"""What must hold between the tables of a policy: names that refer, plugins that must be there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from nemoclaw_hookspecs import Origin, PluginPolicy, PolicyError

from . import files, secrets
from .document import PluginsTable
from .merge import Merged, Written, merge
from .problems import Key, Problem, refuse
from .reader import Source, did_you_mean, parse

ROUTES = ("deny", "ask")
_ROUTED = (("default",), ("sensitive",), ("hosts",), ("rules",))
"""Keys of ``inference`` that name no backend anew."""


def read_source(file: str, content: bytes, digest: str, shipped: Source | None) -> Source:
    """Read a policy file whole: each value, each reference, each policy in it.

    :param shipped: the policies that come with nemoclaw; None when this is them.
    :raises PolicyError: with every problem of the file.
    """
    source, problems = look_through(file, content, digest, shipped)
    if problems:
        refuse(problems)
    return source


def look_through(
    file: str, content: bytes, digest: str, shipped: Source | None
) -> tuple[Source, list[Problem]]:
    """As :func:`read_source`, but return the problems with what could be read.

    :raises PolicyError: there is nothing to look at.
    """
    source, problems = parse(file, content, digest)
    for name in source.document.policy:
        merged = merge(name, source, shipped, problems)
        if merged is not None:
            problems += _references(merged)
    if ("plugins",) not in source.broken:
        plugins(source, shipped, problems)
    return source, problems


def read_shipped() -> tuple[Source, str]:
    """The policies that come with nemoclaw, and the path that they were read from.

    :raises PolicyError: the installation is damaged.
    """
    path = files.SHIPPED
    content, digest = files.read_file(path, _installer(path))
    return read_source(path, content, digest, None), path


def _installer(path: str) -> int:
    """Who installed nemoclaw: the file is as trustworthy as the code that reads it."""
    try:
        return os.stat(os.path.dirname(path)).st_uid
    except OSError as error:
        raise PolicyError(f"cannot be read: {error.strerror}", where=path) from None


def plugins(source: Source, shipped: Source | None, problems: list[Problem]) -> PluginPolicy:
    """The ``[plugins]`` table in force for a file.

    A file's own ``enable`` replaces the shipped list. Its ``required`` adds to the shipped list:
    no file can do without a layer that nemoclaw requires. Plugins' own tables merge by key.
    """
    own = _plugin_lists(source)
    base = _plugin_lists(shipped) if shipped is not None else {}
    enable = own["enable"] if "enable" in own else base.get("enable", {})
    required = {**base.get("required", {}), **own.get("required", {})}
    for name, origin in required.items():
        if name not in enable:
            at = origin
            what = f'"{name}" is required and not in enable'
            if origin.file != source.file:
                at = source.origin(("plugins", "enable"))
                what = f'"{name}" is missing, which nemoclaw requires'
            problems.append(Problem(at, what, f'add "{name}" to plugins.enable'))
    options: dict[str, dict[str, object]] = {}
    origins: dict[str, Origin] = {}
    for each in (shipped, source):
        table = each.document.plugins if each is not None else None
        if each is None or table is None:
            continue
        for name, values in table.options.items():
            if name not in enable:
                if each is source:
                    problems.append(
                        Problem(
                            each.origin(("plugins", name)),
                            f'"{name}" is neither a key nor an enabled plugin',
                            did_you_mean(name, ["enable", "required", *enable]),
                        )
                    )
                continue
            options.setdefault(name, {}).update(values)
            for key in values:
                origins[f"{name}.{key}"] = each.origin(("plugins", name, key))
    for label, names in (("enable", enable), ("required", required)):
        for index, origin in enumerate(names.values()):
            origins[f"{label}[{index}]"] = origin
    return PluginPolicy(
        enable=tuple(enable), required=tuple(required), options=options, origins=origins
    )


def _plugin_lists(source: Source) -> dict[str, dict[str, Origin]]:
    table: PluginsTable | None = source.document.plugins
    if table is None:
        return {}
    return {
        key: {name: source.origin(("plugins", key, at)) for at, name in enumerate(names)}
        for key in ("enable", "required")
        if (names := getattr(table, key)) is not None
    }


def _references(merged: Merged) -> Iterator[Problem]:
    broken = any(each.broken for each in merged.sources)
    if broken and any(("policy", name, "extends") in each.broken for each, name in merged.lineage):
        return  # What it builds on is not known.
    # Where something could not be read, what it defines is not known: no second error for that.
    if not broken or not any(
        key[:3] == ("policy", name, "inference") and key[3:4] not in _ROUTED
        for each, name in merged.lineage
        for key in each.broken
    ):
        yield from _routes(merged)
    yield from _credentials(merged)


def _routes(merged: Merged) -> Iterator[Problem]:
    backends = list(merged.table("inference.backends"))
    for key in ("inference.default", "inference.sensitive"):
        found = merged.scalars.get(key)
        if found is not None and found.value not in (*backends, "deny"):
            hint = did_you_mean(found.value, [*backends, "deny"])
            yield Problem(found.origin, f'there is no backend "{found.value}"', hint)
    for rule in merged.items("inference.rules"):
        route = rule.value.route
        if route not in (*backends, *ROUTES):
            hint = did_you_mean(route, [*backends, *ROUTES])
            yield Problem(rule.inside("route"), f'there is no backend "{route}"', hint)


def _credentials(merged: Merged) -> Iterator[Problem]:
    known = secrets.tables(merged)
    uses: list[tuple[Written[Any], object]] = [
        (rule, rule.value.credential) for rule in merged.items("network.allow")
    ]
    uses += [
        (backend, backend.value.options.get("credential"))
        for backend in merged.table("inference.backends").values()
    ]
    # A key that nobody knows may be meant as `credential`.
    unread = {key[1] if len(key) > 1 else "" for key in _broken(merged, "credential")}
    for user, name in uses:
        if isinstance(name, str) and name not in known and not unread & {"", name}:
            yield Problem(
                user.inside("credential"),
                f'there is no credential "{name}"',
                did_you_mean(name, list(known)),
            )
    yield from secrets.visible_inside(merged)


def _broken(merged: Merged, table: str) -> Iterator[Key]:
    """What could not be read of a table of the file, or of one that may be meant as it."""
    for source in merged.sources:
        for key in source.broken:
            if key[0] == table or (len(key) == 1 and key != ("plugins",)):
                yield key
