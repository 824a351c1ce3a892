"""Read a policy file: TOML, then document classes, with every problem of the file at once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import attrs
import tomli
from nemoclaw_hookspecs import Origin

from . import structure
from .credentials import SOURCES, CredentialTable, known_keys
from .document import (
    Document,
    PluginsTable,
    PolicyTable,
)
from .lines import Lines
from .problems import Key, Misfit, Problem, dotted, nearest, quoted, refuse, shown_kind
from .salvage import Salvage
from .values import KINDS, PluginName, PolicyName

T = TypeVar("T")
VERSION = 1
_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


@attrs.frozen(slots=True, eq=False)
class Source:
    """One policy file as it was read."""

    file: str
    digest: str
    document: Document
    lines: Lines
    broken: frozenset[Key] = frozenset()
    """Keys that could not be read, and are left out; only in a source with problems."""
    places: Mapping[Key, tuple[int, ...]] = attrs.field(factory=dict)
    """Of lists of which items were left out: where the others stand in the file."""
    merged: dict[tuple[str, str], Any] = attrs.field(factory=dict, init=False, repr=False)
    """What :mod:`.merge` has put together of this file already."""

    def place(self, key: Key, index: int) -> int:
        """Where an item of a list that was read stands in the list that was written."""
        return self.places[key][index] if key in self.places else index

    def origin(self, key: Key) -> Origin:
        """Where a key of this file stands."""
        return Origin(file=self.file, line=self.lines[key], key=dotted(key))


def parse(file: str, content: bytes, digest: str) -> tuple[Source, list[Problem]]:
    """Read the content of a policy file.

    :param file: its path, for messages.
    :returns: what could be read, and every problem found on the way. With any problem the
        source may serve to look for more of them, never to run anything.
    :raises PolicyError: it is not UTF-8 or not TOML, so there is nothing to look at.
    """
    data, text = read_toml(file, content)
    reading = _Reading(file, Lines(text))
    document = reading.document(data)
    broken = frozenset(reading.broken)
    source = Source(file, digest, document, reading.lines, broken, reading.places)
    return source, reading.problems


def read_toml(file: str, content: bytes) -> tuple[dict[str, Any], str]:
    """A file's content as TOML, and as text.

    :raises PolicyError: it is not UTF-8, or not TOML.
    """
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        refuse([Problem(Origin(file=file, line=line, key="-"), "is not UTF-8 text")])
    try:
        return tomli.loads(text), text
    except tomli.TOMLDecodeError as error:
        found = _PLACE.search(str(error))
        what = _PLACE.sub("", str(error))
        what = what[:1].lower() + what[1:]
        if found and found[1]:
            origin = Origin(file=file, line=int(found[1]), key=f"column {found[2]}")
        else:
            origin = Origin(file=file, line=text.count("\n") + 1, key="end of file")
        refuse([Problem(origin, f"is not TOML: {what}")])
    except (RecursionError, ValueError):
        # ValueError: an integer of more digits than Python converts.
        what = "is nested too deep, or holds a number that is too long"
        refuse([Problem(Origin(file=file, line=1, key="-"), what)])


class _Reading:
    """Collects problems while one document is structured, section by section, so that a slip in
    one section does not hide the slips in another."""

    def __init__(self, file: str, lines: Lines) -> None:
        self.file = file
        self.lines = lines
        self.problems: list[Problem] = []
        self.broken: set[Key] = set()
        self.places: dict[Key, tuple[int, ...]] = {}

    def document(self, data: dict[str, Any]) -> Document:
        known = ["version", "policy", "credential", "plugins"]
        for name in data:
            if name not in known:
                self._misfit(structure.unknown_key(name, known, ()))
                self.broken.add((name,))
        self._version(data)
        policies = self._named(data, "policy", PolicyName)
        credentials = self._named(data, "credential", PolicyName)
        plugins = self._table(data, "plugins", ())
        return Document(
            policy={name: self._policy(table, name) for name, table in policies.items()},
            credential={
                name: found
                for name, table in credentials.items()
                if (found := self._credential(table, ("credential", name))) is not None
            },
            plugins=None if plugins is None else self._plugins(plugins),
        )

    def _version(self, data: dict[str, Any]) -> None:
        if "version" not in data:
            self._misfit(Misfit("the key `version` is missing", "write version = 1 at the top"))
            return
        version = data["version"]
        if isinstance(version, bool) or version != VERSION or not isinstance(version, int):
            self._misfit(
                Misfit(
                    f"is not {VERSION}, the version that this nemoclaw reads",
                    "a newer file needs a newer nemoclaw",
                    at=("version",),
                )
            )

    def _named(self, data: dict[str, Any], key: str, kind: Any) -> dict[str, dict[str, Any]]:
        """The tables ``[key.NAME]``."""
        found = {}
        for name in self._table(data, key, ()) or {}:
            if self._structure(name, kind, (key, name)) is not None:
                table = self._table(data[key], name, (key,))
                if table is not None:
                    found[name] = table
        return found

    def _table(self, data: dict[str, Any], name: str, at: Key) -> dict[str, Any] | None:
        table = data.get(name)
        if table is None or isinstance(table, dict):
            return table
        self._misfit(Misfit(f"is {shown_kind(table)}, not a table", at=(*at, name)))
        return None

    def _policy(self, table: dict[str, Any], name: str) -> PolicyTable:
        at: Key = ("policy", name)
        fields = attrs.fields_dict(attrs.resolve_types(PolicyTable))
        for key in table:
            if key not in fields:
                self._misfit(structure.unknown_key(key, list(fields), at))
        sections = {
            key: (self._structure if key == "extends" else self._salvaged)(
                table[key], field.type, (*at, key)
            )
            for key, field in fields.items()
            if key in table
        }
        return PolicyTable(**sections)

    def _credential(self, table: dict[str, Any], at: Key) -> CredentialTable | None:
        chosen = [each for each in SOURCES if each in table]
        if len(chosen) != 1:
            slips = table.keys() - known_keys() if "plugin" not in table else ()
            for name in slips:
                self._misfit(structure.unknown_key(name, list(known_keys()), at))
            if not slips:
                what = "a credential comes from exactly one place"
                self._misfit(Misfit(what, "write one of from_env, from_file, plugin", at=at))
            self.broken.add(at)
            return None
        known = {key: each for key, each in table.items() if key in known_keys()}
        options = {key: each for key, each in table.items() if key not in known}
        for key, value in options.items():
            if "plugin" not in table:
                self._misfit(structure.unknown_key(key, list(known_keys()), at))
            elif not isinstance(value, str):
                what = f"is {shown_kind(value)}, not a string"
                self._misfit(Misfit(what, "a plugin's own keys are strings", at=(*at, key)))
        found = self._structure(known, CredentialTable, at)
        return None if found is None else attrs.evolve(found, options=options)

    def _plugins(self, table: dict[str, Any]) -> PluginsTable | None:
        at: Key = ("plugins",)
        known = {key: table[key] for key in ("enable", "required") if key in table}
        options = {}
        for name in table:
            if name in known:
                continue
            if not isinstance(table[name], dict):
                # Neither of the two keys, and not a plugin's table.
                self._misfit(structure.unknown_key(name, ["enable", "required"], at))
            elif self._structure(name, PluginName, (*at, name)) is not None:
                options[name] = table[name]
        found = self._structure(known, PluginsTable, at)
        return None if found is None else attrs.evolve(found, options=options)

    def _structure(self, value: object, kind: Any, at: Key) -> Any:
        """``value`` as ``kind``, or None after its problems have been noted."""
        try:
            hook = KINDS.get(kind)
            return hook.read(value) if hook else structure.structure(value, kind)
        except structure.MISFITS as error:
            for each in structure.misfits(error, kind, at):
                self._misfit(each)
            self.broken.add(at)
            return None

    def _salvaged(self, value: object, kind: Any, at: Key) -> Any:
        """As :meth:`_structure`, but what does not fit is left out of a table, so that a slip in
        one line does not hide what is wrong with another."""
        salvage = Salvage(value)
        while True:
            try:
                found = structure.structure(salvage.value, kind)
            except structure.MISFITS as error:
                misfits = list(structure.misfits(error, kind))
                for each in salvage.placed(misfits):
                    self._misfit(Misfit(each.what, each.remedy, at=at + each.at))
                if not salvage.leave_out([each.at for each in misfits]):
                    self.broken.add(at)
                    return None
                continue
            self.broken.update(at + key for key in salvage.left_out)
            self.places.update({at + key: places for key, places in salvage.places.items()})
            return found

    def _misfit(self, misfit: Misfit) -> None:
        key = misfit.at
        origin = Origin(file=self.file, line=self.lines[key], key=dotted(key) or "-")
        self.problems.append(Problem(origin, misfit.what, misfit.remedy))


def did_you_mean(name: str, known: Mapping[str, object] | list[str]) -> str:
    """A remedy for an unknown name: the nearest known one, or the list."""
    near = nearest(name, list(known))
    if near:
        return f"did you mean {quoted(near)}?"
    return f"there is {', '.join(map(quoted, known))}" if known else "none is defined"
