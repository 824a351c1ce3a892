"""Operations of GraphQL, and the rules for them.

What counts is what a server would resolve: the selected operation, its fields by their real names,
those in fragments too. https://spec.graphql.org/; the form of requests is
https://graphql.github.io/graphql-over-http/, and over WebSocket graphql-transport-ws.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from nemoclaw_core import globs

from . import jsontext, remedies

if TYPE_CHECKING:
    from nemoclaw_hookspecs import GraphqlRule

    from .members import Member

LONGEST = 65536
"""Characters of all documents of a body. (The parser takes 3 microseconds for each.)"""
_TOKENS = 10_000
_VISITS = 5_000
"""Fields and fragments that the operations of a document, and of a body, may unfold to."""
_DEEPEST = 32
_BATCH = 64
"""Requests in one body."""
_MEMBERS = frozenset({"query", "operationName", "variables", "extensions"})
_SILENT = frozenset({"connection_init", "connection_terminate", "ping", "pong", "complete", "stop"})
"""Messages of graphql-transport-ws, and of its predecessor, that ask for nothing."""
_ASKING = frozenset({"subscribe", "start"})


class NotGraphql(ValueError):
    """It cannot be judged. Its message is a clause."""


Tree = dict[str, "Tree"]


class Operation(NamedTuple):
    """What one request asks for."""

    kind: str
    name: str
    """Empty: it has none."""
    fields: Mapping[str, Any]
    """Fields by name, and the fields of those."""

    @property
    def remedy(self) -> str:
        """What would allow it."""
        return remedies.operation(self.kind, tuple(self.fields))

    def __str__(self) -> str:
        return f"{self.kind} {self.name or '(without a name)'} {{ {' '.join(self.fields)} }}"


def read(data: bytes) -> tuple[Operation, ...]:
    """The operations that a body of JSON asks for: one, or a batch.

    :raises NotGraphql: it holds anything else.
    """
    found = _json(data)
    batch = found if isinstance(found, list) else [found]
    if not batch:
        raise NotGraphql("it is an empty batch")
    if len(batch) > _BATCH:
        raise NotGraphql(f"it is a batch of more than {_BATCH}")
    length = visits = 0
    operations = []
    for each in batch:
        length += len(str(each.get("query"))) if isinstance(each, dict) else 0
        if length > LONGEST:
            raise NotGraphql(f"its text is longer than {LONGEST} characters")
        operation, some = _asked(each)
        visits += some
        if visits > _VISITS:
            raise NotGraphql("it asks for too many fields")
        operations.append(operation)
    return tuple(operations)


def read_message(data: bytes) -> tuple[Operation, ...]:
    """The operation that a message on a WebSocket asks for, if it asks for one.

    :raises NotGraphql: it is no message of either protocol.
    """
    found = _json(data)
    if not isinstance(found, dict):
        raise NotGraphql("it is no object")
    kind = found.get("type")
    if kind in _SILENT:
        return ()
    if kind not in _ASKING:
        raise NotGraphql("its type is not one that a client sends")
    return (_asked(found.get("payload"))[0],)


def read_query(members: list[Member]) -> tuple[Operation, ...]:
    """The operation that a URL asks for, if it asks for one.

    :raises NotGraphql: it cannot be judged.
    """
    found: dict[str, object] = {}
    for key, readings in members:
        if key in found:
            raise NotGraphql(f"{key} is there twice")
        found[key] = readings[0]
    if not found:
        return ()
    if "extensions" in found:
        found["extensions"] = _json(str(found["extensions"]).encode())
    found.pop("variables", None)
    return (_asked(found)[0],)


def speaks(members: list[Member]) -> bool:
    """Whether a URL holds a part of a request, which some servers prefer to that in the body."""
    known = {each.casefold() for each in _MEMBERS} | {"id", "documentid", "queryid", "doc_id"}
    return any(_plain(key) in known for key, _ in members)


def _plain(key: str) -> str:
    """As servers know it that drop spaces, take some characters for others, or end at a NUL."""
    name = key.partition("\0")[0].partition("[")[0].strip()
    return name.replace(".", "_").replace(" ", "_").casefold()


def _json(data: bytes) -> object:
    try:
        return jsontext.read(data)
    except jsontext.NotJson as error:
        raise NotGraphql(str(error)) from None


def _asked(value: object) -> tuple[Operation, int]:
    """With how much its document unfolds to."""
    if not isinstance(value, dict):
        raise NotGraphql("it holds something that is no request")
    if not value.keys() <= _MEMBERS:
        raise NotGraphql("a request has a member that GraphQL does not know")
    text, wanted = value.get("query"), value.get("operationName")
    if not isinstance(text, str) or not text:
        raise NotGraphql("the text of the operation is not in it")
    if not isinstance(wanted, (str, type(None))):
        raise NotGraphql("operationName is not a name")
    _check_stored(value.get("extensions"), text)
    operations, visits = _parsed(text)
    if wanted:
        operations = tuple(each for each in operations if each.name == wanted)
    if len(operations) != 1:
        raise NotGraphql("it does not say which of several operations, or one that is not there")
    return operations[0], visits


def _check_stored(extensions: object, text: str) -> None:
    """A digest says what a server has stored: only that of the very text is no second operation."""
    if extensions is None:
        return
    if not isinstance(extensions, dict):
        raise NotGraphql("extensions are no object")
    for key, stored in extensions.items():
        if key.casefold() != "persistedquery":
            continue
        digest = stored.get("sha256Hash") if isinstance(stored, dict) else None
        if digest != hashlib.sha256(text.encode()).hexdigest():
            raise NotGraphql("a persisted query is not the text beside it")


@functools.lru_cache(maxsize=32)
def _parsed(text: str) -> tuple[tuple[Operation, ...], int]:
    """All operations of a document, and what they unfold to. Agents send the same ones again."""
    from graphql import GraphQLError  # 130 ms and 16 MiB: only where there is GraphQL to judge
    from graphql.language import ast, parse

    if len(text) > LONGEST:
        raise NotGraphql(f"its text is longer than {LONGEST} characters")
    try:
        document = parse(
            text, no_location=True, max_tokens=_TOKENS, allow_empty_selection_sets=False
        )
    except GraphQLError as error:
        raise NotGraphql(f"it is not GraphQL: {error.message}") from None
    except RecursionError:
        raise NotGraphql("it is too deep") from None
    operations = []
    fragments: dict[str, Any] = {}
    for each in document.definitions:
        if isinstance(each, ast.OperationDefinitionNode):
            operations.append(each)
        elif isinstance(each, ast.FragmentDefinitionNode):
            if each.name.value in fragments:
                raise NotGraphql("a fragment is there twice")
            fragments[each.name.value] = each
        else:
            raise NotGraphql("it defines a schema")
    names = [each.name.value if each.name else "" for each in operations]
    if len(set(names)) != len(names):
        raise NotGraphql("an operation is there twice")
    unfolding = _Unfolding(fragments)
    found = tuple(
        Operation(each.operation.value, name, unfolding.fields(each.selection_set))
        for each, name in zip(operations, names, strict=True)
    )
    return found, unfolding.visits


class _Unfolding:
    """Fields by their real names, with those of fragments; bounded over one document."""

    def __init__(self, fragments: Mapping[str, Any]) -> None:
        self._fragments = fragments
        self.visits = 0

    def fields(self, selection_set: Any) -> Tree:
        """Of an operation."""
        found: Tree = {}
        self._add(selection_set, found, (), 0)
        return found

    def _add(self, selection_set: Any, into: Tree, inside: tuple[str, ...], depth: int) -> None:
        if depth > _DEEPEST:
            raise NotGraphql("it is too deep")
        for each in selection_set.selections:
            self.visits += 1
            if self.visits > _VISITS:
                raise NotGraphql("it asks for too many fields")
            if each.kind == "field":
                below = into.setdefault(each.name.value, {})
                if each.selection_set:
                    self._add(each.selection_set, below, inside, depth + 1)
            elif each.kind == "fragment_spread":
                name = each.name.value
                if name in inside:
                    raise NotGraphql("a fragment holds itself")
                if name not in self._fragments:
                    raise NotGraphql("it uses a fragment that is not there")
                spread = self._fragments[name].selection_set
                self._add(spread, into, (*inside, name), depth + 1)
            else:
                self._add(each.selection_set, into, inside, depth + 1)


class GraphqlPattern:
    """One entry of a ``graphql`` list."""

    __slots__ = ("_fields", "_kind", "_name")

    def __init__(self, rule: GraphqlRule) -> None:
        self._kind = rule.operation
        self._name = rule.name
        self._fields = rule.fields
        for each in (rule.name or "", *(rule.fields or ())):
            globs.matches(each, "")  # raises where it is no pattern

    def names(self, operation: Operation) -> bool:
        """Whether the entry is for operations of this kind and name."""
        if self._kind is not None and self._kind != operation.kind:
            return False
        return self._name is None or globs.matches(self._name, operation.name)

    def refusal(self, operation: Operation) -> str:
        """Why an allowance that :meth:`names` an operation does not cover it; empty: it does."""
        if self._fields is None:
            return ""
        beyond = _beyond(self._fields, operation.fields, "")
        return f"field {beyond} is not among those that the rule names" if beyond else ""

    def denies(self, operation: Operation) -> bool:
        """Whether a denial is for an operation: one field is enough."""
        if not self.names(operation):
            return False
        return self._fields is None or _touches(self._fields, operation.fields, "")


def _beyond(patterns: tuple[str, ...], fields: Mapping[str, Any], above: str) -> str:
    """The first field that is neither covered nor has all that is below it covered."""
    for name, below in fields.items():
        path = f"{above}{name}"
        if any(globs.matches(pattern, path) for pattern in patterns):
            continue
        if not below:
            return path
        beyond = _beyond(patterns, below, f"{path}/")
        if beyond:
            return beyond
    return ""


def _touches(patterns: tuple[str, ...], fields: Mapping[str, Any], above: str) -> bool:
    return any(
        any(globs.matches(pattern, f"{above}{name}") for pattern in patterns)
        or _touches(patterns, below, f"{above}{name}/")
        for name, below in fields.items()
    )
