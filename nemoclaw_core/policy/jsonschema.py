"""A JSON Schema (draft 2020-12) of the policy file, made from the document classes.

For editors that complete and check TOML. It says what each key is; what must hold between keys
(references, circles, the same path in two lists) only ``nemoclaw policy check`` says.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import attrs

from .credentials import SOURCES, CredentialTable
from .document import (
    OpenTable,
    PluginsTable,
    PolicyTable,
)
from .fields import key_name
from .reader import VERSION
from .values import KINDS, PluginName, PolicyName, Schema

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema() -> Schema:
    """The schema of a whole policy file."""
    plugins = _table(PluginsTable)
    # Every other key is the table of the plugin of that name.
    del plugins["properties"]["options"]
    plugins["additionalProperties"] = {"type": "object"}
    plugins["propertyNames"] = _kind(PluginName)
    return {
        "$schema": DIALECT,
        "title": "nemoclaw policy file",
        "type": "object",
        "required": ["version"],
        "additionalProperties": False,
        "properties": {
            "version": {"const": VERSION},
            "policy": _named(_table(PolicyTable)),
            "credential": _named(_credential()),
            "plugins": plugins,
        },
    }


def _named(item: Schema) -> Schema:
    return {
        "type": "object",
        "propertyNames": _kind(PolicyName),
        "additionalProperties": item,
    }


def _credential() -> Schema:
    table = _table(CredentialTable)
    fields = table["properties"]
    del fields["options"]
    others = {name: kind for name, kind in fields.items() if name not in SOURCES}
    return {
        "description": table["description"],
        "oneOf": [
            {
                "type": "object",
                "required": [name],
                "properties": {name: fields[name], **others},
                # The other keys of a plugin's credential are the plugin's own.
                "additionalProperties": {"type": "string"} if name == "plugin" else False,
            }
            for name in SOURCES
        ],
    }


def _table(cls: Any) -> Schema:
    hints = get_type_hints(cls)
    properties, required = {}, []
    for field in attrs.fields(cls):
        kind = _kind(hints[field.name])
        doc = field.metadata.get("doc")
        properties[key_name(field.name)] = {"description": doc, **kind} if doc else kind
        if field.default is attrs.NOTHING:
            required.append(key_name(field.name))
    found: Schema = {
        "description": (cls.__doc__ or "").partition("\n")[0],
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
    }
    return {**found, "required": required} if required else found


def _kind(kind: Any) -> Schema:
    if kind in KINDS:
        return dict(KINDS[kind].schema)
    if kind is object:
        return {}
    if kind is OpenTable:
        return {
            "type": "object",
            "required": ["type"],
            "properties": {"type": {"type": "string", "minLength": 1}},
        }
    if attrs.has(kind):
        return _table(kind)
    origin, inside = get_origin(kind), get_args(kind)
    if origin is Literal:
        return {"enum": list(inside)}
    if origin is tuple:
        return {"type": "array", "items": _kind(inside[0])}
    if origin is Mapping:
        return {
            "type": "object",
            "propertyNames": _kind(inside[0]),
            "additionalProperties": _kind(inside[1]),
        }
    if origin in (Union, types.UnionType):
        # TOML has no null: `X | None` is a key that may be left out.
        kinds = [each for each in inside if each is not type(None)]
        return _kind(kinds[0]) if len(kinds) == 1 else {"anyOf": [_kind(each) for each in kinds]}
    raise TypeError(f"no schema for {kind}")
