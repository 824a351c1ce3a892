"""From written ``[credential.NAME]`` tables to those that the network rules of a policy use."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from nemoclaw_hookspecs import CredentialPolicy, Origin, SecretSource

from .credentials import AWS_OTHERS, CredentialTable, aws_sibling
from .merge import Merged, Written
from .patterns import PathPattern
from .problems import Problem

Absolute = Callable[[PathPattern], str]


def tables(merged: Merged) -> dict[str, tuple[CredentialTable, Origin]]:
    """Every credential that a policy can name, and where it is written."""
    found: dict[str, tuple[CredentialTable, Origin]] = {}
    for source, _ in merged.lineage:
        for name, table in source.document.credential.items():
            found[name] = (table, source.origin(("credential", name)))
    return found


def resolve_credentials(merged: Merged, absolute: Absolute) -> dict[str, CredentialPolicy]:
    """The credentials that the policy's network rules name."""
    known = tables(merged)
    used = dict.fromkeys(rule.value.credential for rule in merged.items("network.allow"))
    return {
        name: _credential(name, *known[name], absolute)
        for name in used
        if name is not None and name in known
    }


def plugins_missing(
    credentials: Mapping[str, CredentialPolicy], enabled: Sequence[str]
) -> Iterator[Problem]:
    """Credentials that a plugin would have to fetch which is not enabled."""
    for each in credentials.values():
        if each.source.kind == "plugin" and each.source.name not in enabled:
            what = f'the plugin "{each.source.name}" is not enabled'
            yield Problem(each.origin, what, "add it to plugins.enable")


def visible_inside(merged: Merged) -> Iterator[Problem]:
    """Variables of the agent's that would show a secret, or hide its placeholder."""
    handed: dict[str, Written[Any]] = {
        each.value: each for each in merged.items("process.environment.pass")
    }
    handed.update(merged.table("process.environment.set"))
    used = {rule.value.credential for rule in merged.items("network.allow")}
    taken: dict[str, str] = {}
    for name, (table, origin) in tables(merged).items():
        for variable in table.variables:
            if variable in handed:
                yield Problem(
                    handed[variable].origin,
                    f'"{variable}" holds the credential "{name}", and would be visible inside',
                    "take it out of the environment",
                )
        for variable in table.shown if name in used else ():
            if taken.setdefault(variable, name) != name:
                yield Problem(
                    origin,
                    f'"{variable}" is to hold the placeholder of "{taken[variable]}" already',
                    "give it another env",
                )
            if variable in handed and variable not in table.variables:
                yield Problem(
                    handed[variable].origin,
                    f'"{variable}" is to hold the placeholder of the credential "{name}"',
                    "take it out of the environment",
                )


def _credential(
    name: str, table: CredentialTable, origin: Origin, absolute: Absolute
) -> CredentialPolicy:
    header, scheme = table.header or "", table.scheme or ""
    if table.kind == "basic":
        header, scheme = "authorization", "Basic"
    elif table.kind == "oauth2" or (
        table.kind == "token" and not (table.shown or header or table.query)
    ):
        header = header or "authorization"
        scheme = scheme or ("Bearer" if header.lower() == "authorization" else "")
    return CredentialPolicy(
        name=name,
        type=table.type or "token",
        source=_source(table, absolute),
        others=_others(table, absolute),
        env="" if table.kind == "aws" else next(iter(table.shown), ""),
        header=header,
        scheme=scheme,
        query=table.query or "",
        body=bool(table.body),
        plain=bool(table.plain),
        username=table.username or "",
        profile=table.profile or "default",
        region=table.region or "",
        service=table.service or "",
        grant=table.grant or "client_credentials",
        token_url=table.token_url or "",
        client_id=table.client_id or "",
        scope=table.scope or "",
        addresses=tuple(table.addresses or ()),
        origin=origin,
    )


def _source(table: CredentialTable, absolute: Absolute) -> SecretSource:
    if table.from_env is not None:
        return SecretSource(kind="environment", name=table.from_env)
    if table.from_file is not None:
        return SecretSource(kind="file", name=absolute(table.from_file))
    assert table.plugin is not None, "the reader has seen to it"
    return SecretSource(kind="plugin", name=table.plugin, options=dict(table.options))


def _others(table: CredentialTable, absolute: Absolute) -> dict[str, SecretSource]:
    found: dict[str, SecretSource] = {}
    if table.kind == "aws" and table.from_env is not None:
        for part in AWS_OTHERS:
            variable = aws_sibling(table.from_env, part)
            found[part.lower()] = SecretSource(kind="environment", name=variable)
    if table.client_secret_env is not None:
        found["client_secret"] = SecretSource(kind="environment", name=table.client_secret_env)
    if table.client_secret_file is not None:
        path = absolute(table.client_secret_file)
        found["client_secret"] = SecretSource(kind="file", name=path)
    return found
