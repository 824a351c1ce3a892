"""Calls of JSON-RPC 2.0, as the Model Context Protocol makes them, and the rules for them.

https://www.jsonrpc.org/specification; https://modelcontextprotocol.io/specification
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from nemoclaw_core import globs

from . import jsontext, remedies
from .members import Budget, Member, Members, fits, fits_denial

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nemoclaw_hookspecs import RpcRule

RESPONSE = "rpc.response"
"""What an answer of the client's to a request of the server's counts as. (The specification keeps
names that begin with ``rpc.`` for itself.)"""
_BATCH = 256
"""Calls in one body, or message."""
_LONGEST = 1024
"""Characters of a method's, or tool's, name."""
_SEGMENTS = 5
_PIECE = 1000
"""Segments (or escapes) and characters of a value that count as one name more to compare."""
_CALL = frozenset({"jsonrpc", "method", "params", "id"})
_ANSWER = frozenset({"jsonrpc", "result", "error", "id"})


class NotRpc(ValueError):
    """It is no JSON-RPC, or could be read in more than one way. Its message is a clause."""


class Call(NamedTuple):
    """One member of a batch, or the only one."""

    method: str
    params: object
    """``None``: there are none."""
    budget: Budget
    """Of the whole body."""

    @property
    def tool(self) -> str:
        """Of MCP's ``tools/call``: which tool; of others: the ``name`` in their parameters."""
        name = _member(self.params, "name")
        return name if isinstance(name, str) else ""

    @property
    def arguments(self) -> object:
        """Of MCP's ``tools/call``: what the tool is given."""
        return _member(self.params, "arguments")

    @property
    def remedy(self) -> str:
        """What would allow it."""
        return remedies.call(self.method, self.tool)

    def __str__(self) -> str:
        return f"{self.method} {self.tool}".rstrip()


def read(data: bytes, budget: Budget) -> tuple[Call, ...]:
    """The calls in a request's body, or in a message.

    :raises NotRpc: it holds anything else.
    """
    try:
        found = jsontext.read(data)
    except jsontext.NotJson as error:
        raise NotRpc(str(error)) from None
    batch = found if isinstance(found, list) else [found]
    if not batch:
        raise NotRpc("it is an empty batch")
    if len(batch) > _BATCH:
        raise NotRpc(f"it is a batch of more than {_BATCH}")
    return tuple(_call(each, budget) for each in batch)


def _call(value: object, budget: Budget) -> Call:
    if not isinstance(value, dict):
        raise NotRpc("it holds something that is no object")
    if value.get("jsonrpc") != "2.0":
        raise NotRpc('it does not say "jsonrpc": "2.0"')
    if not isinstance(value.get("id"), (str, int, float, type(None))):
        raise NotRpc("an id is neither a string nor a number")
    if "method" not in value:
        if value.keys() <= _ANSWER and ("result" in value) != ("error" in value):
            return Call(RESPONSE, None, budget)
        raise NotRpc("it holds neither a call nor an answer")
    if not value.keys() <= _CALL:
        raise NotRpc("a call has a member that JSON-RPC does not know")
    method, params = value["method"], value.get("params")
    if not isinstance(method, str) or method.startswith("rpc."):
        raise NotRpc("a method is not a name")
    if "params" in value and not isinstance(params, (dict, list)):
        raise NotRpc("params are neither an object nor an array")
    call = Call(method, params, budget)
    if len(method) > _LONGEST or len(call.tool) > _LONGEST:
        raise NotRpc(f"a name is longer than {_LONGEST} characters")
    return call


class RpcPattern:
    """One entry of an ``rpc`` list."""

    __slots__ = ("_arguments", "_deny", "_method", "_params", "_tool")

    def __init__(self, rule: RpcRule, *, deny: bool) -> None:
        self._deny = deny
        self._method = rule.method.casefold() if deny else rule.method
        tool = rule.tool
        self._tool = tool.casefold() if deny and tool is not None else tool
        self._arguments = _members(rule.arguments, deny)
        self._params = _members(rule.params, deny)
        for each in (self._method, self._tool or ""):
            globs.matches(each, "")  # raises where it is no pattern

    def names(self, call: Call) -> bool:
        """Whether the entry is for the method, and the tool."""
        matches = fits_denial if self._deny else fits
        if not matches(self._method, call.method):
            return False
        return self._tool is None or (bool(call.tool) and matches(self._tool, call.tool))

    def refusal(self, call: Call) -> str:
        """Why an allowance that :meth:`names` a call does not cover it; empty: it does."""
        if self._arguments is not None:
            why = self._arguments.refusal(_leaves(call.arguments, call, self._arguments))
            if why:
                return f"argument {why}"
        if self._params is not None:
            why = self._params.refusal(_leaves(call.params, call, self._params))
            if why:
                return f"parameter {why}"
        return ""

    def denies(self, call: Call) -> bool:
        """Whether a denial is for a call."""
        if not self.names(call):
            return False
        return all(
            members is None or members.denies(_leaves(value, call, members))
            for members, value in ((self._arguments, call.arguments), (self._params, call.params))
        )


def _members(wanted: Mapping[str, str] | None, deny: bool) -> Members | None:
    return None if wanted is None else Members(wanted, deny=deny, pointers=True)


def _member(params: object, name: str) -> object:
    """Of an object, in whatever case: some servers do not tell apart (and none is there twice)."""
    if isinstance(params, dict):
        for key, value in params.items():
            if key.casefold() == name:
                return value
    return None


def _leaves(value: object, call: Call, members: Members) -> list[Member]:
    """Nothing at all is like an object or array with nothing in it."""
    patterns = max(1, len(members))
    if value is None or value in ({}, []):
        return []

    def spend(names: int) -> None:
        call.budget.spend(names * patterns)

    found: list[Member] = []
    for pointer, text in jsontext.leaves(value, spend):
        segments = text.count("/") + text.count("\\") + text.count("%")
        spend(len(text) // _PIECE + segments // _SEGMENTS)
        found.append((pointer, (text,)))
    return found
