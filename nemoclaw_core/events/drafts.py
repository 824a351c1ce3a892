"""Texts of the events of requests that the policy allows, which differ in little but their path.

An agent sends thousands of requests to the same few servers. The first event of a kind is made as
every event is (:func:`.network.egress_judged`), and its text is kept in pieces: the next one's text
is those pieces with another time and another path. Whatever does not fit is made as every event is.
"""

from __future__ import annotations

import os
import time as clock

from .chain import Draft, draft
from .network import egress_judged
from .text import LIMIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nemoclaw_hookspecs import EgressRequest, EgressVerdict

    from .record import Context, Record

    Pieces = tuple[tuple[bytes, ...], int]

_MOST = 512
"""Kinds of events whose pieces are kept."""
_CUT = 40
"""Bytes before the limit of a message in which it may have been cut."""
_NEVER: Pieces = ((), -1)


class Drafts:
    """Makes the events of one start.

    :param context: of its events.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._known: dict[object, Pieces] = {}
        # No text of an agent's holds it.
        self._mark = f"/{os.urandom(12).hex()}"

    def allowed(self, request: EgressRequest, verdict: EgressVerdict) -> Record | Draft:
        """The event of a connection or a request that is allowed, and that nobody was asked of."""
        http = request.http
        kind = (
            request.host,
            request.port,
            request.protocol,
            request.caller,
            None if http is None else http.method,
            verdict.rule,
            verdict.reason,
            verdict.origin,
            verdict.generation,
            self._context.in_force,
        )
        pieces, room = self._known.get(kind) or self._cut(kind, request, verdict)
        now = clock.time_ns() // 1_000_000
        if http is None:
            if room >= 0:
                return Draft(b'{"time":%d%b' % (now, pieces[0]))
        else:
            path = http.path
            plain = path.isascii() and path.isprintable() and '"' not in path and "\\" not in path
            if plain and len(path) <= room:
                text = path.encode()
                first, second, third = pieces
                return Draft(b'{"time":%d%b%b%b%b%b' % (now, first, text, second, text, third))
        return egress_judged(self._context, request, verdict, time=now)

    def _cut(self, kind: object, request: EgressRequest, verdict: EgressVerdict) -> Pieces:
        """Keep the pieces of one event, made with a mark in the place of the path."""
        http = request.http
        if http is not None:
            import attrs

            request = attrs.evolve(request, http=attrs.evolve(http, path=self._mark))
        record = egress_judged(self._context, request, verdict, time=0)
        begin, _, rest = draft(record).text.partition(b",")
        pieces = tuple((b"," + rest).split(self._mark.encode()))
        length = len(record["message"].encode())
        found = _NEVER
        fits = length <= LIMIT - _CUT and begin == b'{"time":0'
        if fits and len(pieces) == (1 if http is None else 3):
            found = (pieces, LIMIT - _CUT - length)
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known[kind] = found
        return found
