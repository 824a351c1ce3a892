"""What is in a request beyond its method and path, read once, if an entry asks for it."""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING

from . import queries
from .members import Budget, Member

if TYPE_CHECKING:
    from nemoclaw_hookspecs import HttpRequest

    from .graphql import Operation
    from .jsonrpc import Call

MOST = 1 << 20
"""Octets of a body, or of a message, that rules look into."""
_JSON = re.compile(
    r"application/(?:json|json-rpc|jsonrequest|[\w!#$&^.-]+\+json)"
    r"[ \t]*(?:;[ \t]*charset=(?:utf-?8|\"utf-?8\"))?",
    re.ASCII | re.IGNORECASE,
)
"""Content-Types. Two of them, joined by a comma, are none, nor is one with any other parameter
(RFC 2231 knows ``charset*``): servers take the first or the last."""


class Unreadable(ValueError):
    """A rule looks at something that cannot be read, or in more than one way.

    :param code: what the denial is called.
    :param what: which part; a clause follows.
    """

    def __init__(self, code: str, what: str, why: str) -> None:
        super().__init__(f"{what} cannot be used: {why}")
        self.code = code


class Contents:
    """One request's, or one message's of the WebSocket that it has opened.

    :param query: as it was sent.
    """

    def __init__(self, http: HttpRequest, query: str) -> None:
        self._http = http
        self._query = query
        self.websocket = http.websocket
        """Whether the request asks to become a WebSocket."""
        self.opening = http.websocket and http.message is None
        """Whether there is nothing to look into yet: what counts is in messages."""
        self.message = http.message is not None
        self.visible = http.message is not None or http.body is not None

    @cached_property
    def members(self) -> list[Member]:
        """The keys of the query.

        :raises Unreadable: see :func:`.queries.read`.
        """
        try:
            return queries.read(self._query)
        except queries.NotAQuery as error:
            raise Unreadable("malformed-query", "the query", str(error)) from None

    @cached_property
    def calls(self) -> tuple[Call, ...]:
        """Of JSON-RPC. An empty body holds none.

        :raises Unreadable: it holds something else.
        """
        from . import jsonrpc

        data = self._http.message
        if data is None:
            data = self._body()
            if not data:
                return ()
        try:
            return jsonrpc.read(data, Budget(self._unreadable("it holds too much to compare")))
        except jsonrpc.NotRpc as error:
            raise self._unreadable(str(error)) from None

    @cached_property
    def operations(self) -> tuple[Operation, ...]:
        """Of GraphQL. An empty body, and messages that only keep a connection alive, hold none.

        :raises Unreadable: there is something else.
        """
        from . import graphql

        try:
            if self._http.message is not None:
                return graphql.read_message(self._http.message)
            body = self._body()
            if self._http.method not in ("GET", "HEAD"):
                if graphql.speaks(self.members):
                    raise graphql.NotGraphql("a part of it is in the URL")
                return graphql.read(body) if body else ()
            if body:
                raise graphql.NotGraphql("a GET has a body")
            return graphql.read_query(self.members)
        except graphql.NotGraphql as error:
            raise self._unreadable(str(error)) from None

    def _body(self) -> bytes:
        body = self._http.body or b""
        if body:
            headers: dict[str, str] = {}
            for name, value in self._http.headers.items():
                known = name.lower().replace("_", "-")
                headers[known] = f"{headers[known]}, {value}" if known in headers else value
            if headers.get("content-encoding", "identity").strip().lower() != "identity":
                raise self._unreadable("it is compressed (Content-Encoding)")
            if not _JSON.fullmatch(headers.get("content-type", "").strip(" \t")):
                raise self._unreadable("its Content-Type is not JSON in UTF-8 alone")
        return body

    def _unreadable(self, why: str) -> Unreadable:
        what = "the body" if self._http.message is None else "the message"
        return Unreadable("malformed-body", what, why)
