"""Answers of a policy that are kept: an agent asks for the same few things again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .paths import usable
from .requests import telling

if TYPE_CHECKING:
    from collections.abc import Callable

    from nemoclaw_hookspecs import EgressRequest, EgressVerdict

_MOST = 1024
_LONGEST = 768
"""Characters of what the agent says, in a request of which the answer is kept."""


class Remembering:
    """Asks a policy that never changes. Requests whose bodies it has to see are asked anew.

    :param judge: the policy's answer.
    :param reads_queries: whether it depends on what is in a query.
    """

    def __init__(
        self, judge: Callable[[EgressRequest], EgressVerdict], *, reads_queries: bool
    ) -> None:
        self._judge = judge
        self._reads_queries = reads_queries
        self._known: dict[object, EgressVerdict] = {}

    def judge(self, request: EgressRequest) -> EgressVerdict:
        """The answer."""
        asked = self._asked(request)
        if asked is None:
            return self._judge(request)
        known = self._known.get(asked)
        if known is None:
            known = self._judge(request)
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[asked] = known
        return known

    def _asked(self, request: EgressRequest) -> object:
        """All of a request that the answer depends on; ``None``: more than is kept."""
        host, http = request.host, request.http
        if http is None:
            return (host, request.port, request.caller) if len(host) <= _LONGEST else None
        method, path, query = http.method, http.path, http.query
        if http.body is not None or http.message is not None or "?" in path:
            return None
        told = telling(http.headers)
        # What a header says of the path may hold a query, which is compared with the request's.
        whole = self._reads_queries or bool(told)
        size = len(host) + len(method) + len(path) + (len(query) if whole else 0)
        for _, value in told:
            size += len(value)
        if size > _LONGEST:
            return None
        return (
            host,
            request.port,
            request.caller,
            method,
            path,
            query if whole else not query or usable(query),
            http.websocket,
            told,
        )
