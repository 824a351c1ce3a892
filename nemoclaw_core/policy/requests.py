"""What a rule says about requests, as it is written: the tables of ``http`` and ``deny_http``."""

from __future__ import annotations

# ruff: noqa: RUF009 - `key`, `members` and `required` are `attrs.field`.
from collections.abc import Iterator, Mapping
from typing import Literal

import attrs
from nemoclaw_hookspecs import GraphqlRule, HttpRule, RpcRule

from .fields import key, members, raise_found, required
from .problems import Key, Misfit, quoted
from .values import Glob, GlobKey, HttpMethod, HttpPath

Kind = Literal["query", "mutation", "subscription"]


@attrs.frozen(slots=True, kw_only=True)
class RpcTable:
    """Calls of JSON-RPC 2.0, and so of MCP."""

    method: Glob = required('Pattern of the method; "rpc.response" is an answer to the server.')
    tool: Glob | None = key("Pattern of the tool that MCP's tools/call names.")
    arguments: Mapping[GlobKey, Glob] | None = members(
        "What the tool is given: patterns of values, by name or JSON pointer; all of them."
    )
    params: Mapping[GlobKey, Glob] | None = members("The same, of any method's parameters.")

    def __attrs_post_init__(self) -> None:
        if self.method != "tools/call":
            raise_found(
                [
                    Misfit("only the method tools/call has one", "write params", at=(name,))
                    for name in ("tool", "arguments")
                    if getattr(self, name) is not None
                ]
            )


@attrs.frozen(slots=True, kw_only=True)
class GraphqlTable:
    """Operations of GraphQL."""

    operation: Kind | None = key("query, mutation or subscription; any when none is written.")
    name: Glob | None = key("Pattern of the operation's name.")
    fields: tuple[Glob, ...] | None = key(
        "Patterns of fields, with all below them: viewer, repository/owner."
    )

    def __attrs_post_init__(self) -> None:
        raise_found(
            [
                Misfit(
                    f"{quoted(pattern)} matches no field: none's name holds a dot or a space",
                    "write what is below another field as user/email",
                    at=("fields", at),
                )
                for at, pattern in enumerate(self.fields or ())
                if "." in pattern or " " in pattern
            ]
        )


@attrs.frozen(slots=True, kw_only=True)
class HttpTable:
    """Requests: methods, a path, and what else they must be."""

    methods: tuple[HttpMethod, ...] = required('HTTP methods; ["*"] for all.')
    path: HttpPath = required("Glob that the request's path must match.")
    query: Mapping[GlobKey, Glob] | None = members(
        'Patterns of the query\'s values, by key; all of them. "key?" may be missing.'
    )
    websocket: bool | None = key("Only requests that become a WebSocket, or only others.")
    rpc: tuple[RpcTable, ...] | None = key(
        "Calls of JSON-RPC, and of MCP, that may be in the body, or in a WebSocket's messages."
    )
    graphql: tuple[GraphqlTable, ...] | None = key("Operations of GraphQL that may be there.")

    def __attrs_post_init__(self) -> None:
        found = [] if self.methods else [Misfit("no request has no method", at=("methods",))]
        found += [
            Misfit("an empty list allows nothing", "leave the key out, or the entry", at=(name,))
            for name in ("rpc", "graphql")
            if getattr(self, name) == ()
        ]
        if self.rpc and self.graphql:
            found.append(Misfit("a body is one or the other", "write two entries", at=("graphql",)))
        if self.websocket and not {"GET", "*"}.intersection(self.methods):
            found.append(Misfit("a WebSocket is asked for by GET", at=("websocket",)))
        raise_found(found)

    def optional(self) -> Iterator[Key]:
        """Where a key is written with a question mark."""
        yield from (("query", name) for name in _optional(self.query))
        for at, call in enumerate(self.rpc or ()):
            yield from (("rpc", at, "arguments", name) for name in _optional(call.arguments))
            yield from (("rpc", at, "params", name) for name in _optional(call.params))


def http_rule(table: HttpTable) -> HttpRule:
    """As plugins see it."""
    return HttpRule(
        methods=tuple(table.methods),
        path=table.path,
        query=_plain(table.query),
        websocket=table.websocket,
        rpc=tuple(
            RpcRule(
                method=each.method,
                tool=each.tool,
                arguments=_plain(each.arguments),
                params=_plain(each.params),
            )
            for each in table.rpc or ()
        ),
        graphql=tuple(
            GraphqlRule(operation=each.operation, name=each.name, fields=each.fields)
            for each in table.graphql or ()
        ),
    )


def _optional(written: Mapping[GlobKey, Glob] | None) -> list[str]:
    return [name for name in written or () if name.endswith("?")]


def _plain(written: Mapping[GlobKey, Glob] | None) -> dict[str, str] | None:
    return None if written is None else {str(key): str(value) for key, value in written.items()}


def show_request(rule: HttpRule) -> str:
    """A rule for requests in a few words."""
    parts = [f"{'|'.join(rule.methods)} {rule.path}"]
    if rule.query is not None:
        parts.append(_show_members("?", rule.query))
    if rule.websocket is not None:
        parts.append("as WebSocket" if rule.websocket else "not as WebSocket")
    for call in rule.rpc:
        shown = " ".join(filter(None, ("rpc", call.method, call.tool)))
        for written in (call.arguments, call.params):
            if written is not None:
                shown += _show_members("", written)
        parts.append(shown)
    for asked in rule.graphql:
        shown = " ".join(filter(None, ("graphql", asked.operation, asked.name)))
        parts.append(shown if asked.fields is None else f"{shown} {{{' '.join(asked.fields)}}}")
    return " ".join(parts)


def _show_members(mark: str, written: Mapping[str, str]) -> str:
    return f"{mark}({', '.join(f'{key}={value}' for key, value in sorted(written.items()))})"
