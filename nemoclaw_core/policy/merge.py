"""Put a policy together from those that it extends: lists add, scalars override, tables merge."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar

import attrs
from nemoclaw_hookspecs import Origin

from .document import PolicyTable
from .fields import key_name
from .problems import Key, Problem
from .reader import Source, did_you_mean

T = TypeVar("T")


@attrs.frozen(slots=True, eq=False)
class Written(Generic[T]):
    """A value, and the file and key that say it."""

    value: T
    source: Source
    key: Key

    @property
    def origin(self) -> Origin:
        """Where it stands."""
        return self.source.origin(self.key)

    def inside(self, *step: str | int) -> Origin:
        """Where a key inside it stands."""
        return self.source.origin((*self.key, *step))


@attrs.frozen(slots=True, kw_only=True, eq=False)
class Merged:
    """One policy with all that it extends, before anything is looked up on the host.

    Keys are dotted names below the policy: ``filesystem.read``, ``process.environment.set``.
    """

    name: str
    source: Source
    lineage: tuple[tuple[Source, str], ...]
    """Every policy that went in, the most basic first, this one last."""
    sources: tuple[Source, ...]
    """The files of those, this one's own last."""
    scalars: Mapping[str, Written[Any]]
    lists: Mapping[str, tuple[Written[Any], ...]]
    tables: Mapping[str, Mapping[str, Written[Any]]]

    def get(self, key: str, default: T) -> T:
        """The value of a scalar, or ``default`` when no policy of the lineage writes it."""
        found = self.scalars.get(key)
        return default if found is None else found.value

    def items(self, key: str) -> tuple[Written[Any], ...]:
        """The items of a list, base first."""
        return self.lists.get(key, ())

    def table(self, key: str) -> Mapping[str, Written[Any]]:
        """The entries of a table of free names."""
        return self.tables.get(key, {})

    def origins(self, section: str) -> dict[str, Origin]:
        """Where the values of a section stand: ``tmp``, ``deny[0]``, ``environment.set.CI``.

        A list as a whole, ``deny``, stands where its first item was written.
        """
        start = f"{section}."
        found = {
            key.removeprefix(start): written.origin
            for key, written in self.scalars.items()
            if key.startswith(start)
        }
        for key, items in self.lists.items():
            if key.startswith(start):
                if items:
                    found[key.removeprefix(start)] = items[0].source.origin(items[0].key[:-1])
                for at, item in enumerate(items):
                    found[f"{key.removeprefix(start)}[{at}]"] = item.origin
        for key, entries in self.tables.items():
            if key.startswith(start):
                for name, entry in entries.items():
                    found[f"{key.removeprefix(start)}.{name}"] = entry.origin
        return found


def merge(
    name: str, source: Source, shipped: Source | None, problems: list[Problem]
) -> Merged | None:
    """Merge policy ``name`` of ``source`` with what it extends.

    What was merged once is kept with its file, so a policy costs what it adds to its parents.

    :param shipped: the policies that come with nemoclaw; None while they are read themselves.
    :param problems: gets unknown parents and circles.
    :returns: None when the lineage has such a problem.
    """
    line = lineage(name, source, shipped)
    problems += line.problems
    if line.problems:
        return None
    # No recursion: a chain of policies may be longer than Python's stack is deep.
    waiting = [line]
    while waiting[-1].merged is None and waiting[-1].first is not None:
        waiting.append(waiting[-1].first)
    base: Merged | None = None
    for each in reversed(waiting):
        if each.merged is None:
            each.merged = _extended(base, each)
        base = each.merged
    return base


def _extended(base: Merged | None, line: Lineage) -> Merged:
    """What the policies of ``line`` say that ``base``, its first parent, does not hold yet."""
    scalars = dict(base.scalars) if base else {}
    lists = dict(base.lists) if base else {}
    tables = dict(base.tables) if base else {}
    opened: dict[str, dict[Any, Written[Any]]] = {}
    for each, policy in line.policies[len(base.lineage) if base else 0 :]:
        for key, value in _written(each.document.policy[policy]):
            at: Key = ("policy", policy, *key)
            label = ".".join(map(str, key))
            if isinstance(value, tuple):
                if label not in opened:
                    opened[label] = {item.value: item for item in lists.get(label, ())}
                for index, item in enumerate(value):
                    # Kept in the order of their first mention; values are compared, not texts.
                    place = each.place(at, index)
                    opened[label].setdefault(item, Written(item, each, (*at, place)))
            elif isinstance(value, Mapping):
                entries = {
                    entry: Written(item, each, (*at, entry)) for entry, item in value.items()
                }
                tables[label] = {**tables.get(label, {}), **entries}
            else:
                scalars[label] = Written(value, each, at)
    others = dict.fromkeys(each for each, _ in line.policies[len(base.lineage) if base else 0 :])
    files = dict.fromkeys((*(base.sources if base else ()), *others))
    files.pop(line.source, None)
    return Merged(
        name=line.name,
        source=line.source,
        lineage=line.policies,
        sources=(*files, line.source),
        scalars=scalars,
        lists={**lists, **{key: tuple(items.values()) for key, items in opened.items()}},
        tables=tables,
    )


def parent(name: str, child: str, source: Source, shipped: Source | None) -> Source | None:
    """The file in which ``child`` of ``source`` finds the policy ``name`` that it extends.

    *Another* policy of its own file comes first; so ``[policy.default] extends = ["default"]``
    builds on the shipped one of that name.
    """
    if name != child and name in source.document.policy:
        return source
    if shipped is not None and shipped is not source and name in shipped.document.policy:
        return shipped
    return None


@attrs.define(slots=True, eq=False)
class Lineage:
    """A policy among those that it extends."""

    source: Source
    name: str
    policies: tuple[tuple[Source, str], ...] = ()
    """Parents before children, each once, the policy itself last; so a value that one parent writes
    is not undone by another that merely shares an ancestor with it."""
    problems: tuple[Problem, ...] = ()
    """What is wrong with it; then nothing can be merged."""
    first: Lineage | None = None
    """That of the first parent, with which ``policies`` begins."""
    merged: Merged | None = None


class _Visit:
    """A policy whose parents are being looked at."""

    def __init__(self, source: Source, name: str) -> None:
        self.source = source
        self.name = name
        self.rest = iter(enumerate(source.document.policy[name].extends or ()))
        self.at = 0
        self.parents: list[Lineage] = []
        self.problems: list[Problem] = []

    def place(self) -> Origin:
        """Where the parent that is being looked at is named."""
        return self.source.origin(("policy", self.name, "extends", self.at))

    def leave(self) -> Lineage:
        first = self.parents[0] if self.parents else None
        policies = first.policies if first else ()
        if len(self.parents) > 1:
            each_once = dict.fromkeys(each for known in self.parents for each in known.policies)
            policies = tuple(each_once)
        problems = dict.fromkeys(each for known in self.parents for each in known.problems)
        return Lineage(
            source=self.source,
            name=self.name,
            policies=(*policies, (self.source, self.name)),
            problems=(*problems, *self.problems),
            first=first,
        )


def lineage(name: str, source: Source, shipped: Source | None) -> Lineage:
    """The lineage of a policy, found depth first, and kept with its file."""
    digest = shipped.digest if shipped else ""
    known: Lineage | None = source.merged.get((name, digest))
    if known is not None:
        return known
    way = {(source.file, name): _Visit(source, name)}
    while True:
        visit = next(reversed(way.values()))
        for at, each in visit.rest:
            visit.at = at
            home = parent(each, visit.name, visit.source, shipped)
            if home is None:
                visit.problems.append(_unknown(each, visit, shipped))
            elif (home.file, each) in way:
                visit.problems += _circle(list(way.values()), (home.file, each))
            elif (each, digest) in home.merged:
                visit.parents.append(home.merged[each, digest])
            else:
                way[home.file, each] = _Visit(home, each)
                break
        else:
            found = visit.source.merged[visit.name, digest] = visit.leave()
            del way[visit.source.file, visit.name]
            if not way:
                return found
            next(reversed(way.values())).parents.append(found)


def _unknown(name: str, visit: _Visit, shipped: Source | None) -> Problem:
    source = visit.source
    known = [other for other in source.document.policy if other != visit.name]
    known += shipped.document.policy if shipped and shipped is not source else []
    hint = did_you_mean(name, list(dict.fromkeys(known)))
    return Problem(visit.place(), f'there is no policy "{name}" to extend', hint)


_SHOWN = 4
"""Names at each end of a long circle."""


def _circle(way: list[_Visit], closed_by: tuple[str, str]) -> Iterator[Problem]:
    """A problem for each policy in a circle, as any of them could be the one that is wrong; for the
    one that closes it alone, if there are many."""
    policies = [(visit.source.file, visit.name) for visit in way]
    visits = way[policies.index(closed_by) :]
    many = len(visits) > 2 * _SHOWN
    for number, visit in enumerate(visits[-1:] if many else visits):
        after = 0 if many else number + 1
        names = [each.name for each in (*visits[after:], *visits[:after])]
        if many:
            names[_SHOWN:-_SHOWN] = [f"({len(names) - 2 * _SHOWN} more)"]
        text = " -> ".join((*names, names[0]))
        yield Problem(visit.place(), f"extends itself in a circle: {text}")


def _written(table: Any, at: Key = ()) -> list[tuple[Key, Any]]:
    """Every key that was written in a table, tables of fixed keys opened up."""
    found: list[tuple[Key, Any]] = []
    for field in attrs.fields(type(table)):
        value = getattr(table, field.name)
        key = (*at, key_name(field.name))
        if value is None or (isinstance(table, PolicyTable) and field.name == "extends"):
            continue
        if attrs.has(type(value)):
            found += _written(value, key)
        else:
            found.append((key, value))
    return found
