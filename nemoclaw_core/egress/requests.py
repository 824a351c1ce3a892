"""The ``http`` and ``deny_http`` entries of rules, compiled, and the requests that they cover."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import attrs

from nemoclaw_core import globs

from . import paths
from .hosts import NotAHost, canonical
from .members import Members

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nemoclaw_hookspecs import HttpRequest, HttpRule

    from .contents import Contents
    from .graphql import GraphqlPattern
    from .hosts import Host
    from .jsonrpc import RpcPattern

_OVERRIDES = frozenset({"x-http-method-override", "x-http-method", "x-method-override"})
"""Headers by which many frameworks let a client say another method than that of the request."""
_OVERRIDE_LENGTHS = frozenset(map(len, _OVERRIDES))
_PATHS = frozenset({"x-original-url", "x-override-url", "x-rewrite-url"})
"""Headers by which some servers let a client say another path."""
_PATH_LENGTHS = frozenset(map(len, _PATHS))
_SAID_HOSTS = frozenset(
    {
        "x-forwarded-host",
        "x-forwarded-server",
        "x-host",
        "x-http-host-override",
        "x-original-host",
    }
)
"""Headers by which some servers let a client say another host."""
_HOSTS = _SAID_HOSTS | {"host", ":authority", "forwarded"}
_HOST_LENGTHS = frozenset(map(len, _HOSTS))
_FORWARDED = re.compile(r"\bhost\s*=\s*\"?([^\",;]*)", re.IGNORECASE)
"""Of the Forwarded header (RFC 7239): each host in it."""
_TELLING = _OVERRIDES | _PATHS | _HOSTS
_TELLING_LENGTHS = frozenset(map(len, _TELLING))
"""Most names need not be brought into lower case to see that they are none of those."""


class Entry:
    """One entry: methods, a pattern of the path's readings, and what else a request must be.

    GET covers HEAD too. A denial is matched without regard to case and to a slash at the end, since
    to many servers those make no difference.
    """

    __slots__ = (
        "_deny", "_head", "_methods", "_path", "_pattern", "_query", "_rest", "_websocket",
        "graphql", "looks", "plain", "reads_query", "rpc",
    )  # fmt: skip

    def __init__(self, rule: HttpRule, *, deny: bool) -> None:
        methods = set(rule.methods)
        if "GET" in methods:
            methods.add("HEAD")
        self._methods = None if "*" in methods else frozenset(methods)
        self._deny = deny
        self._path = rule.path
        found = paths.pattern(rule.path, wide=deny)
        self._pattern = found.casefold() if deny else found
        # Most patterns are a path, or all below one: no need to take those apart each time.
        self._head, star, rest = self._pattern.partition("*")
        whole_tail = star and rest == "*" and self._head.endswith("/")
        self._rest = "below" if whole_tail else "wild" if star else "same"
        globs.matches(self._pattern, "/")  # raises where it is no pattern
        self._websocket = rule.websocket
        self._query = None if rule.query is None else Members(rule.query, deny=deny, pointers=False)
        self.rpc: tuple[RpcPattern, ...] = ()
        self.graphql: tuple[GraphqlPattern, ...] = ()
        if rule.rpc:
            from .jsonrpc import RpcPattern

            self.rpc = tuple(RpcPattern(each, deny=deny) for each in rule.rpc)
        if rule.graphql:
            from .graphql import GraphqlPattern

            self.graphql = tuple(map(GraphqlPattern, rule.graphql))
        self.looks = bool(self.rpc or self.graphql)
        """Whether it looks into bodies and messages."""
        self.reads_query = rule.query is not None
        self.plain = not self.looks and rule.query is None and rule.websocket is None
        """Whether method and path say all."""

    def takes_method(self, method: str) -> bool:
        """Whether the method is one of the entry's."""
        if self._methods is None:
            return True
        return (method.upper() if self._deny else method) in self._methods

    def takes_path(self, reading: str) -> bool:
        """Whether the pattern covers one reading of the path."""
        if not self._deny:
            return self._covers(reading)
        reading = reading.casefold()
        shorter = reading.rstrip("/")
        return self._covers(reading) or (shorter != reading and self._covers(shorter))

    def takes_opening(self, contents: Contents) -> bool:
        """Whether it is for requests that become a WebSocket, or that do not."""
        return self._websocket is None or self._websocket == contents.websocket

    def query_refusal(self, contents: Contents) -> str:
        """Why an allowance does not cover the query; empty: it does.

        :raises Unreadable: the query can be read in more than one way.
        """
        return "" if self._query is None else self._query.refusal(contents.members)

    def denies(self, contents: Contents) -> bool | None:
        """Whether a denial, whose method and path fit, is for the request; ``None``: what it looks
        into is not there yet.

        :raises Unreadable: it can be read in more than one way.
        """
        if not self.takes_opening(contents):
            return False
        if self._query is not None and not self._query.denies(contents.members):
            return False
        if not self.looks:
            return True
        if contents.opening or not contents.visible:
            return None
        return any(pattern.denies(call) for pattern in self.rpc for call in contents.calls) or any(
            pattern.denies(operation)
            for pattern in self.graphql
            for operation in contents.operations
        )

    def _covers(self, reading: str) -> bool:
        if not reading.startswith(self._head):
            return False
        if self._rest == "below":
            return True
        if self._rest == "same":
            return len(reading) == len(self._head)
        return globs.matches(self._pattern, reading)

    def __str__(self) -> str:
        methods = "any method" if self._methods is None else "|".join(sorted(self._methods))
        return f"{methods} {self._path}"


def telling(headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Those headers that a request without a body is judged by."""
    found: tuple[tuple[str, str], ...] = ()
    for name in headers:
        if len(name) in _TELLING_LENGTHS and _dashed(name) in _TELLING:
            found += ((name, headers[name]),)
    return found


def methods_of(method: str, headers: Mapping[str, str]) -> tuple[str, ...]:
    """Every method that a server may take the request for."""
    found: tuple[str, ...] = (method,)
    for name in headers:
        if len(name) in _OVERRIDE_LENGTHS and _dashed(name) in _OVERRIDES:
            # A field that is there twice is a list; servers take its first, or its last.
            found += tuple(each.strip().upper() for each in headers[name].split(","))
    return found if len(found) == 1 else tuple(dict.fromkeys(found))


def every_reading(http: HttpRequest, target: paths.Target) -> paths.Target:
    """With the readings of each path that a header says besides.

    :raises paths.NotAPath: it says what is no path, or another query.
    """
    for name in http.headers:
        if len(name) in _PATH_LENGTHS and _dashed(name) in _PATHS:
            said = paths.canonical(http.headers[name].strip())
            if said.query not in ("", target.query):
                raise paths.NotAPath("a header says another query")
            target = attrs.evolve(target, readings=target.readings + said.readings)
    return target


def _dashed(name: str) -> str:
    """As servers know it that pass headers on by CGI's names (RFC 3875 section 4.1.18)."""
    return name.lower().replace("_", "-")


def same_authority(host: Host, port: int, http: HttpRequest) -> bool:
    """Whether the request's own idea of its host (RFC 9112 section 3.2) is the connection's."""
    return all(_names(host, port, value) for value in _authorities(http))


def _authorities(http: HttpRequest) -> Iterable[str]:
    headers = http.headers
    for name in headers:
        if len(name) not in _HOST_LENGTHS:
            continue
        known = _dashed(name)
        if known == "forwarded":
            yield from _FORWARDED.findall(headers[name])
        elif known in ("host", ":authority"):
            yield headers[name]
        elif known in _SAID_HOSTS:
            yield from map(str.strip, headers[name].split(","))


def _names(host: Host, port: int, authority: str) -> bool:
    if authority == host.text and ":" not in authority:
        return True
    name, colon, tail = authority.rpartition(":")
    if not colon or tail.endswith("]"):
        name, tail = authority, str(port)
    if tail != str(port):
        return False
    try:
        return canonical(name).text == host.text
    except NotAHost:
        return False
