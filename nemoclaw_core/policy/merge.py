"""Put a policy together from those that it extends: lists add, scalars override, tables merge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import attrs
from nemoclaw_hookspecs import Origin

from .document import PolicyTable, key_name
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

    :param shipped: the policies that come with nemoclaw; None while they are read themselves.
    :param problems: gets unknown parents and circles.
    :returns: None when the lineage has such a problem.
    """
    lineage: dict[tuple[str, str], tuple[Source, str]] = {}
    if not _collect(name, source, shipped, lineage, [], problems):
        return None
    scalars: dict[str, Written[Any]] = {}
    lists: dict[str, dict[Any, Written[Any]]] = {}
    tables: dict[str, dict[str, Written[Any]]] = {}
    for each, policy in lineage.values():
        table = each.document.policy[policy]
        for key, value in _written(table):
            at: Key = ("policy", policy, *key)
            label = ".".join(map(str, key))
            if isinstance(value, tuple):
                target = lists.setdefault(label, {})
                for index, item in enumerate(value):
                    # Kept in the order of their first mention; values are compared, not texts.
                    place = each.place(at, index)
                    target.setdefault(item, Written(item, each, (*at, place)))
            elif isinstance(value, Mapping):
                entries = tables.setdefault(label, {})
                for entry, item in value.items():
                    entries[entry] = Written(item, each, (*at, entry))
            else:
                scalars[label] = Written(value, each, at)
    return Merged(
        name=name,
        source=source,
        lineage=tuple(lineage.values()),
        scalars=scalars,
        lists={key: tuple(items.values()) for key, items in lists.items()},
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


def _collect(
    name: str,
    source: Source,
    shipped: Source | None,
    lineage: dict[tuple[str, str], tuple[Source, str]],
    path: list[tuple[str, str]],
    problems: list[Problem],
) -> bool:
    """Depth first, parents before children, each once: so a value that one parent writes is not
    undone by another that merely shares an ancestor with it."""
    if (source.file, name) in lineage:
        return True
    path = [*path, (source.file, name)]
    good = True
    for at, each in enumerate(source.document.policy[name].extends or ()):
        home = parent(each, name, source, shipped)
        if home is None:
            known = [other for other in source.document.policy if other != name]
            known += shipped.document.policy if shipped and shipped is not source else []
            hint = did_you_mean(each, list(dict.fromkeys(known)))
            origin = source.origin(("policy", name, "extends", at))
            problems.append(Problem(origin, f'there is no policy "{each}" to extend', hint))
            good = False
        elif (home.file, each) in path:
            circle = [known for _, known in path[path.index((home.file, each)) :]]
            text = " -> ".join([*circle, each])
            origin = source.origin(("policy", name, "extends", at))
            problems.append(Problem(origin, f"extends itself in a circle: {text}"))
            good = False
        else:
            good = _collect(each, home, shipped, lineage, path, problems) and good
    lineage[source.file, name] = (source, name)
    return good


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
