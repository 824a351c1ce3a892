"""What the rules for a connection say to one request, or to one message inside of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from . import remedies
from .contents import MOST, Contents, Unreadable
from .members import shown
from .requests import methods_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nemoclaw_hookspecs import HttpRequest

    from .graphql import GraphqlPattern, Operation
    from .jsonrpc import Call, RpcPattern
    from .paths import Target
    from .requests import Entry
    from .rules import Rule

    Covering = list[tuple[Rule, Entry]]

_TOLD = 3
"""Calls of a batch that an event names."""


class Answer(NamedTuple):
    """One for one request."""

    by: Rule
    """Which rule allows it, or is the nearest that does not."""
    code: str = ""
    """Of a denial; empty: it is allowed."""
    why: str = ""
    """In words. Of what is allowed: what was looked at inside of it."""
    remedy: str = ""
    watch: bool = False
    """Each message of the WebSocket has to be asked for."""
    needs_body: int = 0
    """Octets. Only the body can tell."""
    alone: bool = True
    """Whether that rule allows all the ways in which a server may take the request."""


def answer(
    http: HttpRequest, target: Target, mine: Sequence[Rule], denying: Sequence[Rule]
) -> Answer:
    """Ask the rules, those that deny first.

    :param target: of the request, in its one spelling.
    :param mine: the rules that may allow; not empty.
    :param denying: the rules whose denials count.
    """
    methods = methods_of(http.method, http.headers)
    contents = Contents(http, target.query)
    unseen = watch = False
    for rule in denying:
        for entry in rule.denied:
            if not any(map(entry.takes_method, methods)):
                continue
            if not any(map(entry.takes_path, target.readings)):
                continue
            try:
                denied = entry.plain or entry.denies(contents)
            except Unreadable as error:
                return Answer(rule, error.code, str(error))
            if denied:
                remedy = f"take what covers it out of the rule's deny_http: {entry}"
                return Answer(rule, "deny-http", "", remedy)
            if denied is None:
                watch = watch or contents.opening
                unseen = unseen or not contents.opening
    first = None
    alone = True
    for method in methods:
        for reading in target.readings:
            found = _allowed(method, reading, target.path, mine, contents)
            if found.needs_body:
                unseen = True
            elif found.code:
                return found
            watch = watch or found.watch
            first = first or found
            alone = alone and found.by is first.by
    assert first is not None, "a request has a method and a path"
    if unseen:
        return Answer(first.by, "body", needs_body=MOST)
    return first._replace(watch=watch, alone=alone)


def _allowed(
    method: str, reading: str, path: str, mine: Sequence[Rule], contents: Contents
) -> Answer:
    """For one of the ways in which a server may take the request."""
    covering: Covering = []
    method_alone = False
    for rule in mine:
        if not rule.http:
            return Answer(rule)
        for entry in rule.http:
            if entry.takes_path(reading):
                if not entry.takes_method(method):
                    method_alone = True
                elif entry.plain:
                    return Answer(rule)
                else:
                    covering.append((rule, entry))
    if covering:
        return _covered(covering, method, path, contents)
    code = "method" if method_alone else "path"
    return Answer(mine[0], code, "", remedies.request(method, path))


def _covered(covering: Covering, method: str, path: str, contents: Contents) -> Answer:
    """By entries that method and path do not say all of."""
    opening = [each for each in covering if each[1].takes_opening(contents)]
    if not opening:
        remedy = remedies.request(method, path, f"websocket = {str(contents.websocket).lower()}")
        return Answer(covering[0][0], "websocket", "", remedy)
    fitting: Covering = []
    failed = Answer(opening[0][0])
    for rule, entry in opening:
        try:
            why = entry.query_refusal(contents)
        except Unreadable as error:
            failed = Answer(rule, error.code, str(error))
            continue
        if not why:
            fitting.append((rule, entry))
        elif not failed.code:
            remedy = remedies.request(method, path, "query = { ... }")
            failed = Answer(rule, "query", f"the query's key {why}", remedy)
    if not fitting:
        return failed
    for rule, entry in fitting:
        if not entry.looks:
            return Answer(rule)
    if contents.opening:
        return Answer(fitting[0][0], watch=True)
    if not contents.visible:
        return Answer(fitting[0][0], "body", needs_body=MOST)
    return _inside(fitting, method, path, contents)


def _inside(fitting: Covering, method: str, path: str, contents: Contents) -> Answer:
    """By entries that look into the body, or the message."""
    calls = [(rule, each) for rule, entry in fitting for each in entry.rpc]
    operations = [(rule, each) for rule, entry in fitting for each in entry.graphql]
    found = Answer(fitting[0][0], "body")
    try:
        if calls:
            found = _each(calls, contents.calls, "rpc", method, path)
    except Unreadable as error:
        found = Answer(calls[0][0], error.code, str(error))
    if found.code and operations:
        try:
            asked = contents.operations
        except Unreadable as error:
            refused = Answer(operations[0][0], error.code, str(error))
            return found if found.code == "rpc" else refused
        if not asked and contents.message:
            return Answer(operations[0][0])  # it keeps the connection alive
        found = _each(operations, asked, "graphql", method, path)
    return found


def _each(
    patterns: Sequence[tuple[Rule, RpcPattern | GraphqlPattern]],
    asked: Sequence[Call | Operation],
    code: str,
    method: str,
    path: str,
) -> Answer:
    """Everything that is asked for has to be covered."""
    by = None
    for each in asked:
        why = ""
        for rule, pattern in patterns:
            if pattern.names(each):  # type: ignore[arg-type]
                refused = pattern.refusal(each)  # type: ignore[arg-type]
                if not refused:
                    by = by or rule
                    break
                why = why or refused
        else:
            why = why or "the path's rules do not allow it"
            remedy = remedies.request(method, path, each.remedy)
            return Answer(patterns[0][0], code, f"{shown(str(each))}: {why}", remedy)
    if by is None:
        return Answer(patterns[0][0], code, "the body is empty, and rules look into it")
    told = ", ".join(shown(str(each)) for each in asked[:_TOLD])
    return Answer(by, why=f"{told} ..." if len(asked) > _TOLD else told)
